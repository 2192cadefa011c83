"""The page of one training run: its learning curve and its table of epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from nas.files import replacing
from nas.report.axes import accuracy_axis, whole_axis
from nas.report.document import document, encoded, figure_section, section
from nas.report.tables import VAL_ACCURACY, Column, facts, integer, table
from nas.report.theme import BLUE, ORANGE, empty_figure, rounded
from nas.text import whole
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
    sections = [
        figure_section(
            "accuracy",
            "Accuracy",
            "Look at whether the line still rises at the last epoch: then a longer run may help.",
            rows,
            None if frame.empty else accuracy_figure(frame),
        ),
        figure_section(
            "loss",
            "Loss",
            "Look at whether the validation loss turns up while the training loss still falls: "
            "then the network is overfitting.",
            rows,
            None if frame.empty else loss_figure(frame),
        ),
        section("Settings", facts(about)),
    ]
    return document(title, "Training run", sections, title=f"{title} - training run")


def epoch_table(epochs: Sequence[EpochResult]) -> pd.DataFrame:
    """One row per epoch."""
    return pd.DataFrame([asdict(epoch) for epoch in epochs], columns=[c.name for c in _COLUMNS])


def accuracy_figure(epochs: pd.DataFrame) -> go.Figure:
    """Validation accuracy by epoch."""
    accuracies = epochs["val_accuracy"].tolist()
    axis = accuracy_axis(accuracies)
    figure = empty_figure("epoch", "")
    _add_line(figure, epochs, axis.y(accuracies), "validation", ORANGE)
    hover = "epoch %{x}: %{customdata:.2%}<extra></extra>"
    figure.update_traces(customdata=rounded(epochs["val_accuracy"]), hovertemplate=hover)
    return figure.update_yaxes(axis.layout("validation accuracy"))


def loss_figure(epochs: pd.DataFrame) -> go.Figure:
    """Training and validation loss by epoch."""
    figure = empty_figure("epoch", "loss")
    _add_line(figure, epochs, epochs["train_loss"].tolist(), "training", BLUE)
    _add_line(figure, epochs, epochs["val_loss"].tolist(), "validation", ORANGE)
    return figure.update_yaxes(tickformat=".2~f", rangemode="tozero")


def _add_line(
    figure: go.Figure, epochs: pd.DataFrame, y: Sequence[float], name: str, color: str
) -> None:
    figure.add_scatter(
        x=epochs["epoch"].tolist(),
        y=y,
        name=name,
        mode="lines+markers",
        line={"color": color, "width": 2.5},
        marker={"size": 5},
    )
    figure.update_xaxes(whole_axis(epochs["epoch"].tolist()))


_COLUMNS = (
    Column("epoch", "Epoch", integer),
    Column("train_loss", "Train loss", "{:.4f}".format),
    Column("val_loss", "Validation loss", "{:.4f}".format),
    VAL_ACCURACY,
    Column("images_per_second", "Images/s", lambda value: whole(round(value))),
)
