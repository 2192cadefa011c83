"""The final training: the choice, the test reading, and what the tested network confuses."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from nas.final import words as final_words
from nas.final.records import Exported, FinalDesign, FinalRecord, Measured
from nas.final.request import ALL
from nas.report.document import Section, figure_section, section
from nas.report.html import html
from nas.report.mistakes import mistake_in_words, pictures_of, sureness
from nas.report.tables import (
    INTERVAL,
    PARAMETERS,
    Column,
    frame_of,
    integer,
    table,
    typed_frame,
    with_interval,
)
from nas.report.theme import empty_figure, plain
from nas.report.words import listed
from nas.statistics import wilson_interval
from nas.study.records import StudyRecord
from nas.text import duration, percent, plural, points, share, times, whole

_HEADING = "Final training"
_NO_MISTAKE = "No test image was classified wrongly."
_CONFUSED = 15  # pairs in the table
_LABELLED_CLASSES = 20
_NUMBERED_CLASSES = 12
_LONGEST_NAME = 10  # of a class on an axis


def last_final(study: StudyRecord) -> FinalRecord | None:
    """What the last finished reading of the test images found.

    None if there is none, or if it was written by another version.
    """
    ended = [reading for reading in study.readings if reading.ended is not None]
    with suppress(ValueError):
        return FinalRecord.from_dict(ended[-1].result) if ended else None
    return None


def chosen_in_words(record: FinalRecord) -> str:
    """Which design was tested, and its size: `trial 4, 1,234 parameters`.

    It is the one that the runs chose, which need not be the incumbent of the search.
    """
    return f"{record.chosen.name}, {whole(record.chosen.parameters)} parameters"


def final_training(study: StudyRecord) -> Section | None:
    """The section; None for a study whose test images were never read."""
    if not study.readings:
        return None
    record = last_final(study)
    if record is None:
        cut_off = all(reading.ended is None for reading in study.readings)
        why = "was cut off before its end" if cut_off else "was written by another version of nas"
        return section(_HEADING, readings(study), f"The last reading {why}.")
    columns = (
        Column("design", "Design", kind="text design"),
        PARAMETERS,
        *_measured_columns("validation", "Validation"),
        *_measured_columns("test", "Test"),
        Column("note", "Note", kind="text long"),
    )
    return section(
        _HEADING,
        summary(record),
        readings(study),
        # Those on the study's own images stand at the top of the page.
        *(note for note in record.notes if note not in study.notes),
        final_words.choice(record),
        table(designs_table(record), columns, caption=_HEADING, best_first=True),
        *(f"{final_words.gain(gain)}." for gain in record.gains),
    )


def final_cost(record: FinalRecord) -> str:
    """What the final training spent, beside the search: `1 h 2 min on NVIDIA H200`."""
    return f"{duration(record.seconds)} on {listed(record.devices)}"


def readings(study: StudyRecord) -> str:
    """How often the test images were read, and when."""
    count = len(study.readings)
    if count == 0:
        return "No test image of this study has been read."
    text = f"The test images of this study were read {times(count)}"
    if count > 1:
        dates = listed([reading.began[:10] for reading in study.readings])
        text += (
            f" (on {dates}): what was chosen after the first reading may be chosen by it, and the "
            "later accuracies may be too high"
        )
    return f"{text}."


def summary(record: FinalRecord) -> str:
    """The choice and the test in two sentences."""
    accuracy = record.exported.accuracy
    return (
        f"The design of {record.chosen.name} was chosen by mean validation accuracy over "
        f"{final_words.seeds(record)} of {final_words.epochs(record)} "
        f"(recipe {record.recipe_name}, {record.precision}). Its exported network gets "
        f"{percent(accuracy.value)} of {plural(record.test_images, 'test image')} right (95% "
        f"interval {final_words.interval(accuracy)})."
        + (" It was trained on the validation images, too." if record.on == ALL else "")
    )


def designs_table(record: FinalRecord) -> pd.DataFrame:
    """The finalists, the chosen one first, and the references, with what they reach.

    Accuracies and their standard deviations over seeds are 0..1; intervals are text.
    """
    rows = [
        {
            "design": f"{design.name}: {design.architecture}",
            "parameters": design.parameters,
            **_measured("validation", design.validation),
            **_measured("test", design.test),
            "note": _note(design, record),
        }
        for design in (*record.finalists, *record.references)
    ]
    return frame_of(rows)


def _measured(name: str, measured: Measured | None) -> dict[str, object]:
    return {
        name: None if measured is None else measured.mean.value,
        f"{name}_interval": None if measured is None else final_words.interval(measured.mean),
        f"{name}_deviation": None if measured is None else measured.standard_deviation,
    }


def _measured_columns(name: str, heading: str) -> tuple[Column, ...]:
    return (
        Column(name, f"{heading}, mean", percent),
        Column(f"{name}_deviation", "SD", lambda value: f"{100 * value:.2f}"),
        Column(f"{name}_interval", "95% interval", kind="text"),
    )


def _note(design: FinalDesign, record: FinalRecord) -> str | None:
    if design.failed:
        return f"failed: {design.failed}"
    if design is record.chosen:
        return "chosen"
    if design.is_reference:
        published = (
            f"published {percent(design.published)} ({design.source})" if design.published else ""
        )
        return f"reference{final_words.size_note(design, record)} {published}".strip()
    gap = ""
    if design.validation and record.chosen.validation:
        behind = design.validation.mean.value - record.chosen.validation.mean.value
        gap = f", {points(behind)} points"
    return ("cannot be told apart from the chosen one" if design.may_be_best else "worse") + gap


def confusion(final: FinalRecord | None) -> Section | None:
    """Which class the exported network takes for which; None before it was tested."""
    if final is None:
        return None
    pairs = confused_table(final, _CONFUSED)
    columns = (
        Column("label", "True class", kind="text"),
        Column("predicted", "Answer", kind="text"),
        Column("images", "Test images", integer),
        Column("share", "Share of the class", share),
    )
    return figure_section(
        "confusion",
        "What is taken for what",
        "Look off the diagonal: a row is a true class, a column an answer of the exported network, "
        "orange a mistake (darker: more of the class, on a scale of its own), blue a right answer. "
        f"The table names the {_CONFUSED} most frequent mistakes at most.",
        table(pairs, columns, caption="Most frequent mistakes")
        if len(pairs)
        else Markup(f"<p>{_NO_MISTAKE}</p>"),
        confusion_figure(final.exported.confusion, final.classes),
    )


def confused_table(final: FinalRecord, top: int) -> pd.DataFrame:
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
            for images, label, predicted in pairs[:top]
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


def classes(final: FinalRecord | None, folder: Path | None) -> Section | None:
    """The exported network by class, and its surest mistakes; None before it was tested.

    Args:
        final: what was measured.
        folder: of the exported model, where the pictures lie; None where it is not known.
    """
    if final is None:
        return None
    columns = (
        Column("name", "Class", kind="text"),
        Column("images", "Test images", integer),
        Column("accuracy", "Accuracy", percent),
        INTERVAL,
    )
    mistakes = final.exported.mistakes
    caption = _NO_MISTAKE
    pictures = pictures_of(final, folder)
    if mistakes:
        caption = (
            f"Test images that the exported network is {sureness(final)}, and wrong; some may be "
            "labelled wrongly." + (f" Without pictures: {pictures.why}." if pictures.why else "")
        )
    content = html(
        "classes.html",
        classes=table(with_interval(class_table(final.exported)), columns, caption="Classes"),
        caption=caption,
        mistakes=[
            (mistake_in_words(final, mistake), url)
            for mistake, url in zip(mistakes, pictures.urls, strict=True)
        ],
    )
    return Section("Classes and surest mistakes", content)


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
