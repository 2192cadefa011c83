"""The report's part on a final training: the choice, the test, and how sure both are."""

from contextlib import suppress
from html import escape

import pandas as pd

from nas.final import words as final_words
from nas.final.records import FinalDesign, FinalRecord, Measured
from nas.final.request import ALL
from nas.report import words
from nas.report.markup import Column, section, table
from nas.report.tables import frame_of
from nas.study.records import StudyRecord
from nas.text import percent, plural, points, whole

_HEADING = "Final training"


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


def final_section(study: StudyRecord) -> str:
    """The section; empty for a study whose test images were never read."""
    if not study.readings:
        return ""
    readings = f"<p>{escape(words.readings(study))}</p>"
    record = last_final(study)
    if record is None:
        cut_off = all(reading.ended is None for reading in study.readings)
        why = "was cut off before its end" if cut_off else "was written by another version of nas"
        return section(_HEADING, f"{readings}<p>The last reading {why}.</p>")
    frame = designs_table(record)
    columns = (
        Column("design", "Design", kind="text design"),
        Column("parameters", "Parameters", lambda value: whole(int(value))),
        *_measured_columns("validation", "Validation"),
        *_measured_columns("test", "Test"),
        Column("note", "Note", kind="text long"),
    )
    gains = "".join(f"<p>{escape(final_words.gain(gain))}.</p>" for gain in record.gains)
    # Those on the study's own images stand at the top of the page.
    notes = [note for note in record.notes if note not in study.notes]
    return section(
        _HEADING,
        f"<p>{escape(summary(record))}</p>{readings}"
        f"{''.join(f'<p>{escape(note)}</p>' for note in notes)}"
        f"<p>{escape(final_words.choice(record))}</p>"
        f"{table(frame, columns, caption=_HEADING, best_first=True)}"
        f"{gains}",
    )


def cost(record: FinalRecord) -> str:
    """What the final training spent, beside the search: `1 h 2 min on NVIDIA H200`."""
    return f"{words.duration(record.seconds)} on {words.listed(record.devices)}"


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
