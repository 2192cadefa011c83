"""The final training: the choice and the test reading."""

from contextlib import suppress

import pandas as pd

from nas.final import words as final_words
from nas.final.records import FinalDesign, FinalRecord, Measured
from nas.final.request import ALL
from nas.report.document import Section, section
from nas.report.tables import PARAMETERS, Column, frame_of, table
from nas.report.words import listed
from nas.study.records import StudyRecord
from nas.text import duration, percent, plural, points, times, whole

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


def final_training(study: StudyRecord, record: FinalRecord | None) -> Section | None:
    """The section; None for a study whose test images were never read.

    `record` is what `last_final` says.
    """
    if not study.readings:
        return None
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
        readings(study),
        # Those on the study's own images stand at the top of the page.
        *(note for note in record.notes if note not in study.notes),
        final_words.choice(record),
        table(designs_table(record), columns, caption=_HEADING, marked=0),
        *(f"{final_words.distilled(d)}." for d in record.finalists if d.distilled),
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
            f" (on {dates}): choices made after the first reading may have been influenced by it, "
            "so later accuracies may be too high"
        )
    return f"{text}."


def summary(record: FinalRecord) -> str:
    """The choice and the test in two sentences."""
    accuracy = record.exported.accuracy
    several = len(record.finalists) > 1
    way = "chosen by mean validation accuracy over" if several else "trained in full with"
    return (
        f"The design of {record.chosen.name} was {way} {final_words.seeds(record)} of "
        f"{final_words.epochs(record)} (recipe {record.recipe_name}, {record.precision}). Its "
        f"exported network classifies {percent(accuracy.value)} of "
        f"{plural(record.test_images, 'test image')} correctly (95% interval "
        f"{final_words.interval(accuracy)})."
        + (" It was also trained on the validation images." if record.on == ALL else "")
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
    if design not in record.others:  # what the teacher brought is said below, with its interval
        return f"the same design{gap}"
    return ("cannot be told apart from the chosen one" if design.may_be_best else "worse") + gap
