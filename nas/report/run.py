"""The page of one training run: its learning curve and its table of epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

import pandas as pd

from nas.files import replacing
from nas.report import figures
from nas.report.document import Plot, document, encoded
from nas.report.markup import Column, facts, table
from nas.report.markup import section as page_section
from nas.text import percent, whole
from nas.training.loop import EpochResult


def write_run_page(
    path: Path, title: str, epochs: Sequence[EpochResult], about: Mapping[str, str]
) -> None:
    """Writes the page of a run.

    Args:
        path: where.
        title: the design in words.
        epochs: what was measured.
        about: names and values of everything else that belongs to the run.

    Raises:
        OSError: the file cannot be written; an older one is then unchanged.
    """
    with replacing(path) as file:
        file.write(encoded(render_run(title, epochs, about)))


def render_run(title: str, epochs: Sequence[EpochResult], about: Mapping[str, str]) -> str:
    """The page of a run as one HTML document."""
    frame = epoch_table(epochs)
    rows = table(frame, _COLUMNS, caption="Epochs")
    plots = [
        Plot(
            "accuracy",
            "Accuracy",
            "Look at whether the line still rises at the last epoch: then a longer run may help.",
            rows,
            None if frame.empty else figures.figure_json(figures.run_accuracy(frame)),
        ),
        Plot(
            "loss",
            "Loss",
            "Look at whether the validation loss turns up while the training loss still falls: "
            "then the network learns its images by heart.",
            rows,
            None if frame.empty else figures.figure_json(figures.run_loss(frame)),
        ),
    ]
    body = [
        f"<h1><small>Training run</small>{escape(title)}</h1>",
        *(plot.section() for plot in plots),
        page_section("Settings", facts(about)),
    ]
    return document(f"{title} - training run", body, plots)


def epoch_table(epochs: Sequence[EpochResult]) -> pd.DataFrame:
    """One row per epoch."""
    return pd.DataFrame([asdict(epoch) for epoch in epochs], columns=[c.name for c in _COLUMNS])


def _loss(value: float) -> str:
    return f"{value:.4f}"


_COLUMNS = (
    Column("epoch", "Epoch", lambda value: whole(int(value))),
    Column("train_loss", "Train loss", _loss),
    Column("val_loss", "Validation loss", _loss),
    Column("val_accuracy", "Validation accuracy", percent),
    Column("images_per_second", "Images/s", lambda value: whole(round(value))),
)
