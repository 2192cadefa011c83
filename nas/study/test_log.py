"""The log of every time that a study's test set was read, kept in the study itself.

A reading is written down before the first image is read, so that one that was cut off counts, too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna

from nas.numbers import times
from nas.study.location import StudyError
from nas.study.records import TestReading

ATTRIBUTE = "test_readings"


def readings_of(attributes: Mapping[str, Any]) -> tuple[TestReading, ...]:
    """The readings in a study's user attributes, oldest first."""
    return tuple(TestReading(**values) for values in attributes.get(ATTRIBUTE, ()))


def check_unread(readings: Sequence[TestReading], plan: str, *, again: bool) -> TestReading | None:
    """Refuses what would read the test set a second time, before anything is trained for it.

    Args:
        readings: of the study.
        plan: digest of what is asked.
        again: whether a further reading is wanted.

    Returns:
        The finished reading of the very same plan, whose result stands; None if there is none.

    Raises:
        StudyError: the test set was read for another plan, and `again` is not set.
    """
    if again or not readings:
        return None
    last = readings[-1]
    if last.plan != plan:
        raise StudyError(
            f"expected a study whose test set is unread, got one read {times(len(readings))}, "
            f"last on {last.began[:10]} for another choice of designs or training; --again reads "
            "it once more, and the report will say so"
        )
    return last if last.ended is not None else None


def begin_reading(
    study: optuna.Study, *, plan: str, networks: str, command: str | None, again: bool
) -> int:
    """Writes down that the test set is about to be read, and returns the number of the reading.

    One of the same networks that was begun and never ended is gone on with. To be called in a
    claim, see `nas.study.database`.

    Args:
        study: open.
        plan: digest of what is asked.
        networks: digest of the weights to be tested.
        command: how a person would repeat this.
        again: whether a further reading is wanted.

    Raises:
        StudyError: the test set was read before, and `again` is not set.
    """
    readings = readings_of(study.user_attrs)
    if readings and readings[-1].ended is None and readings[-1].networks == networks:
        return len(readings) - 1
    if readings and not again:
        raise StudyError(
            f"expected a study whose test set is unread, got one read {times(len(readings))}, "
            f"last on {readings[-1].began[:10]}; --again reads it once more, and the report will "
            "say so"
        )
    begun = TestReading(began=_now(), plan=plan, networks=networks, command=command)
    _write(study, [*readings, begun])
    return len(readings)


def end_reading(study: optuna.Study, number: int, result: Mapping[str, object]) -> None:
    """Writes down what came of a reading. To be called in a claim."""
    readings = list(readings_of(study.user_attrs))
    readings[number] = dataclasses.replace(readings[number], ended=_now(), result=dict(result))
    _write(study, readings)


def _write(study: optuna.Study, readings: Sequence[TestReading]) -> None:
    study.set_user_attr(ATTRIBUTE, [dataclasses.asdict(reading) for reading in readings])


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
