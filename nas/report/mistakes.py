"""What the exported network gets wrong on the test images: by class, and as pictures.

What a study says of files is not trusted: a picture is a small PNG inside the folder, or none.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from nas.final.records import Exported, FinalRecord, Mistake
from nas.report.document import Section, figure_section, group, section
from nas.report.html import html
from nas.report.tables import INTERVAL, Column, integer, table, typed_frame, with_interval
from nas.report.theme import empty_figure, plain
from nas.statistics import wilson_interval
from nas.text import are, percent, plural, share, whole

_NO_MISTAKE = "No test image was classified wrongly."
_CONFUSED = 15  # pairs in the table
_DRAWN_CLASSES = 200  # of 1,000 the matrix would have 16 MB
_LABELLED_CLASSES = 20
_NUMBERED_CLASSES = 12
_LONGEST_NAME = 10  # of a class on an axis
_SIDE = 96  # pixels, at most; larger pictures are made smaller
_LARGEST_FILE = 20_000_000  # bytes
_LARGEST_IMAGE = 4_000_000  # pixels
_CONFIDENT, _LIKELY = 0.9, 0.5  # probabilities of an answer


def mistakes(final: FinalRecord | None, folder: Path | None) -> Section | None:
    """The section; None before a network was tested.

    Args:
        final: what was measured.
        folder: of the exported model, where the pictures lie; None where it is not known.
    """
    if final is None:
        return None
    return group("Mistakes", [_confusion(final), _classes(final), _most_confident(final, folder)])


def _confusion(final: FinalRecord) -> Section:
    pairs = confused_table(final).head(_CONFUSED)
    drawn = len(final.classes) <= _DRAWN_CLASSES
    how = (
        "A row is a true class, a column an answer of the exported network; blue is right, orange "
        "wrong (darker: a larger share of the class, each on its own scale)."
        if drawn
        else f"Of {whole(len(final.classes))} classes only the pairs that are confused most are "
        "shown."
    )
    columns = (
        Column("label", "True class", kind="text name"),
        Column("predicted", "Answer", kind="text name"),
        Column("images", "Test images", integer),
        Column("share", "Share of the class", share),
    )
    caption = f"{_most_confused(final)} {how}"
    data = (
        table(pairs, columns, caption="Most frequent mistakes")
        if len(pairs)
        else html("section.html", caption="", pieces=[_NO_MISTAKE])
    )
    if not drawn:
        return section("Most frequent mistakes", data, caption=caption)
    figure = confusion_figure(final.exported.confusion, final.classes)
    return figure_section("confusion", "Confusion matrix", caption, data, figure)


def _most_confused(final: FinalRecord) -> str:
    """Which mistake is the most frequent, and how much of all mistakes it is."""
    pairs = confused_table(final)
    if pairs.empty:
        return _NO_MISTAKE
    first, wrong = pairs.iloc[0], int(pairs["images"].sum())
    return (
        f"{whole(wrong)} of {plural(final.test_images, 'test image')} {are(wrong)} classified "
        f"wrongly. Most often {first['label']} is taken for {first['predicted']}: "
        f"{plural(first['images'], 'image')}, {share(first['share'])} of that class."
    )


def confused_table(final: FinalRecord) -> pd.DataFrame:
    """The pairs of classes that are confused most often: `images` of `label` called `predicted`.

    `share` is of the images of `label`.
    """
    confusion = final.exported.confusion
    pairs = [
        (images, label, predicted)
        for label, row in enumerate(confusion)
        for predicted, images in enumerate(row)
        if label != predicted and images
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return typed_frame(
        (
            {
                "label": final.classes[label],
                "predicted": final.classes[predicted],
                "images": images,
                "share": images / sum(confusion[label]),
            }
            for images, label, predicted in pairs
        ),
        integers="images",
        floats="share",
        texts="label predicted",
    )


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> go.Figure:
    """Which class is taken for which: a row per true class, a column per answer.

    Colour is the share of the true class: right answers blue, wrong ones orange, on a scale of
    their own, since mistakes are few. With many classes names and numbers are left out.

    Args:
        matrix: images, by [label][answer].
        classes: their names, in label order.
    """
    labelled, numbered = len(classes) <= _LABELLED_CLASSES, len(classes) <= _NUMBERED_CLASSES
    shares = [[n / (sum(row) or 1) for n in row] for row in matrix]
    figure = empty_figure("answer", "true class")
    for name, color, wanted in (("right", "61,143,209", True), ("wrong", "221,107,16", False)):
        shown = [
            [part if (i == j) is wanted and part > 0 else None for j, part in enumerate(row)]
            for i, row in enumerate(shares)
        ]
        most = max((part for row in shown for part in row if part), default=1.0)
        figure.add_heatmap(
            z=shown,
            text=[[str(n) if n else "" for n in row] for row in matrix],
            name=name,
            colorscale=[[0, f"rgba({color},.12)"], [1, f"rgba({color},.65)"]],
            zmin=0,
            zmax=most,
            showscale=False,
            xgap=int(labelled),
            ygap=int(labelled),
            texttemplate="%{text}" if numbered else None,
            textfont={"size": 11},
            hoverongaps=False,
            hovertemplate="%{text} images, %{z:.1%} of the class<extra></extra>",
        )
    ticks: dict[str, Any] = {"showticklabels": False, "showgrid": False}
    if labelled:
        names = [_class_name(name) for name in classes]
        ticks = {"tickvals": list(range(len(classes))), "ticktext": names, "showgrid": False}
    figure.update_xaxes(**ticks, range=[-0.5, len(classes) - 0.5], constrain="domain")
    figure.update_yaxes(
        **ticks, range=[len(classes) - 0.5, -0.5], scaleanchor="x", constrain="domain"
    )
    return figure


def _class_name(name: str) -> str:
    """A class on an axis, not too long."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return plain(short)


def _classes(final: FinalRecord) -> Section:
    columns = (
        Column("name", "Class", kind="text name"),
        Column("images", "Test images", integer),
        Column("accuracy", "Accuracy", percent),
        INTERVAL,
    )
    rows = with_interval(class_table(final.exported))
    return section(
        "Accuracy by class",
        table(rows, columns, caption="Accuracy by class"),
        caption="Of the exported network on the test images, the worst class first. With few "
        "images of a class its interval is wide.",
    )


def class_table(exported: Exported) -> pd.DataFrame:
    """How the exported network does by class, the worst first, with Wilson's 95% intervals."""
    rows: list[dict[str, Any]] = []
    for result in exported.per_class:
        accuracy = result.correct / result.images if result.images else None
        interval = None if accuracy is None else wilson_interval(accuracy, result.images)
        rows.append(
            {
                "name": result.name,
                "images": result.images,
                "accuracy": accuracy,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
            }
        )
    rows.sort(key=lambda row: 2.0 if row["accuracy"] is None else row["accuracy"])
    return typed_frame(
        rows,
        integers="images",
        floats="accuracy low high",
        texts="name",
    )


def _most_confident(final: FinalRecord, folder: Path | None) -> Section:
    pictures = pictures_of(final, folder)
    caption = _NO_MISTAKE
    if final.exported.mistakes:
        caption = (
            f"Test images on which the exported network is wrong and {confidence(final)}; some "
            "may be mislabelled." + (f" Without pictures: {pictures.why}." if pictures.why else "")
        )
    words = [mistake_in_words(final, mistake) for mistake in final.exported.mistakes]
    gallery = html("gallery.html", mistakes=list(zip(words, pictures.urls, strict=True)))
    return section("Most confident mistakes", gallery, caption=caption)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a final training's mistakes."""

    urls: tuple[str | None, ...]  # one per mistake, `data:`; None: missing
    why: str | None = None  # some are missing


def pictures_of(final: FinalRecord, folder: Path | None) -> Pictures:
    """The pictures in the folder of the exported model, as far as they are there.

    Args:
        final: what was measured.
        folder: of the model; None where it is not known.
    """
    mistakes = final.exported.mistakes
    why = missing_model(final, folder)
    if folder is None or why:
        return Pictures((None,) * len(mistakes), why)
    urls = tuple(_url(folder, mistake) for mistake in mistakes)
    missing = sum(url is None for url in urls)
    images = plural(len(urls), "picture")
    why = f"{missing} of {images} {are(missing)} not in the model's folder" if missing else None
    return Pictures(urls, why)


def missing_model(final: FinalRecord, folder: Path | None) -> str | None:
    """Why a folder does not hold the model of a final training; None where it does."""
    if folder is None:
        return "the folder of the exported model was not given"
    if not folder.is_dir():
        return (
            "the folder of the exported model is not where this report was made: it was deleted, "
            "moved, or is on another machine"
        )
    if _read(folder) != final.read:
        return "the folder of the exported model holds another final training"
    return None


def confidence(final: FinalRecord) -> str:
    """How confident the exported network is where it is wrong, in words."""
    most = max((mistake.probability for mistake in final.exported.mistakes), default=0.0)
    if most >= _CONFIDENT:
        return "confident"
    return f"{'fairly' if most >= _LIKELY else 'not'} confident (at most {most:.0%})"


def mistake_in_words(final: FinalRecord, mistake: Mistake) -> str:
    """Such as `true cat, predicted dog at 97%`."""
    label, predicted = final.classes[mistake.label], final.classes[mistake.predicted]
    return f"true {label}, predicted {predicted} at {mistake.probability:.0%}"


def _read(folder: Path) -> object:
    """When the test images were read for the model in the folder; None if that is not known."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics.get("read") if isinstance(metrics, dict) else None


def _url(folder: Path, mistake: Mistake) -> str | None:
    try:
        path = (folder / mistake.file).resolve()
        if not path.is_relative_to(folder.resolve()) or path.stat().st_size > _LARGEST_FILE:
            return None
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > _LARGEST_IMAGE:
                return None
            image.thumbnail((_SIDE, _SIDE))
            written = BytesIO()
            image.save(written, "PNG", optimize=True)
    except Exception:  # of a dozen kinds for names that no file can have and broken pictures
        return None
    return f"data:image/png;base64,{b64encode(written.getvalue()).decode()}"
