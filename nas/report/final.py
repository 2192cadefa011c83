"""The report's part on a final training: the choice, the test, and how sure both are."""

from html import escape

import pandas as pd

from nas.final import words as final_words
from nas.final.records import FinalDesign, FinalRecord, Measured
from nas.final.request import ALL
from nas.numbers import percent, points, whole
from nas.report import words
from nas.report.markup import Column, section, table
from nas.study.records import StudyRecord

_HEADING = "Final training"


def last_final(study: StudyRecord) -> FinalRecord | None:
    """What the last finished reading of the test images found; None if there is none.

    Raises:
        ValueError: it was written by another version.
    """
    ended = [reading for reading in study.readings if reading.ended is not None]
    return FinalRecord.from_dict(ended[-1].result) if ended else None


def final_section(study: StudyRecord) -> str:
    """The section; empty for a study whose test images were never read."""
    if not study.readings:
        return ""
    readings = f"<p>{escape(words.readings(study))}</p>"
    try:
        record = last_final(study)
    except ValueError as error:
        return section(_HEADING, f"{readings}<p>Not shown: {escape(str(error))}.</p>")
    if record is None:
        return section(_HEADING, f"{readings}<p>The reading was cut off before its end.</p>")
    frame = designs_table(record)
    columns = (
        Column("design", "Design", kind="text design"),
        Column("parameters", "Parameters", lambda value: whole(int(value))),
        Column("validation", f"Validation, mean of {len(record.seeds)}", kind="text"),
        Column("test", f"Test, mean of {len(record.seeds)}", kind="text"),
        Column("note", "Note", kind="text long"),
    )
    classes = pd.DataFrame(
        [
            (c.name, c.images, c.correct / c.images if c.images else None)
            for c in record.exported.per_class
        ],
        columns=["name", "images", "accuracy"],
    )
    by_class = table(
        classes,
        (
            Column("name", "Class", kind="text"),
            Column("images", "Test images", lambda value: whole(int(value))),
            Column("accuracy", "Accuracy", percent),
        ),
    )
    gains = "".join(f"<p>{escape(final_words.gain(gain))}.</p>" for gain in record.gains)
    return section(
        _HEADING,
        f"<p>{escape(_summary(record))}</p>{readings}"
        f"<p>{escape(final_words.choice(record))}</p>{table(frame, columns, best_first=True)}"
        f"{gains}<details><summary>Accuracy by class</summary>{by_class}</details>",
    )


def designs_table(record: FinalRecord) -> pd.DataFrame:
    """The finalists, the chosen one first, and the references, with what they reach in words."""
    rows = [
        {
            "design": f"{design.name}: {design.architecture}",
            "parameters": design.parameters,
            "validation": _in_words(design.validation),
            "test": _in_words(design.test),
            "note": _note(design, record),
        }
        for design in (*record.finalists, *record.references)
    ]
    return pd.DataFrame(rows)


def _summary(record: FinalRecord) -> str:
    accuracy = record.exported.accuracy
    return (
        f"{record.chosen.name} was chosen by mean validation accuracy over "
        f"{final_words.seeds(record)} of {record.recipe['epochs']} epochs (recipe "
        f"{record.recipe_name}). Its exported network gets {percent(accuracy.value)} of "
        f"{whole(record.test_images)} test images right (95% interval "
        f"{final_words.interval(accuracy)})."
        + (" It was trained on the validation images, too." if record.on == ALL else "")
    )


def _in_words(measured: Measured | None) -> str | None:
    if measured is None:
        return None
    deviation = measured.standard_deviation
    spread = "" if deviation is None else f", SD {100 * deviation:.2f}"
    return f"{percent(measured.mean.value)} ({final_words.interval(measured.mean)}{spread})"


def _note(design: FinalDesign, record: FinalRecord) -> str | None:
    if design.diverged:
        return f"diverged: {design.diverged}"
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
