"""The log of every time that a study's test set was read, kept in the study itself.

A reading is written down before the first image is read, so that one that was cut off counts, too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna

from nas.runtime.liveness import is_alive, is_here
from nas.shapes import check_fields
from nas.study.location import StudyError
from nas.study.records import TestReading
from nas.text import times

ATTRIBUTE = "test_readings"

_PATIENCE = timedelta(hours=1)  # with a process of another machine, whose end cannot be seen


def readings_of(attributes: Mapping[str, Any]) -> tuple[TestReading, ...]:
    """The readings in a study's user attributes, oldest first.

    Raises:
        StudyError: they were written by another version.
    """
    try:
        readings = tuple(TestReading(**values) for values in attributes.get(ATTRIBUTE, ()))
        for reading in readings:
            check_fields(reading)
    except TypeError as error:
        raise StudyError(
            "expected readings of the test set as this version of nas logs them, got others: "
            f"{error}; use the version that made the study"
        ) from error
    return readings


def check_unread(readings: Sequence[TestReading], plan: str, *, again: bool) -> TestReading | None:
    """Refuses what would read the test set a second time, before anything is trained for it.

    Args:
        readings: of the study.
        plan: digest of what is asked.
        again: whether a further reading is wanted.

    Returns:
        The last finished reading of the same plan, whose result is valid; None if there is none.

    Raises:
        StudyError: the test set was read for another plan, and `again` is not set.
    """
    if again or not readings:
        return None
    same = [reading for reading in readings if reading.plan == plan]
    ended = [reading for reading in same if reading.ended is not None]
    if not same:
        raise StudyError(_read_before(readings, " for another choice of designs or training"))
    return ended[-1] if ended else None


def begin_reading(
    study: optuna.Study,
    *,
    plan: str,
    networks: str,
    command: str | None,
    worker: str,
    again: bool,
) -> int:
    """Writes down that the test set is about to be read, and returns the number of the reading.

    One of the same networks that was begun and cut off is resumed. To be called under the
    allocation lock of `nas.study.store`.

    Args:
        study: open.
        plan: digest of what is asked.
        networks: digest of the weights to be tested.
        command: how a person would repeat this.
        worker: who reads.
        again: whether a further reading is wanted.

    Raises:
        StudyError: another process is reading, or the test set was read before and `again` is not
            set.
    """
    readings = list(readings_of(study.user_attrs))
    begun = TestReading(began=_now(), plan=plan, networks=networks, command=command, worker=worker)
    if readings and readings[-1].ended is None:
        last = readings[-1]
        if last.worker != worker and _may_be_read_now(last):
            raise StudyError(
                "expected a study whose test images no other process is reading, got one that "
                f"{last.worker} has been reading since {last.began}; wait for it, and run the "
                "command again"
            )
        if last.networks == networks:
            readings[-1] = dataclasses.replace(begun, began=last.began)
            _write(study, readings)
            return len(readings) - 1
    if readings and not again:
        raise StudyError(_read_before(readings))
    _write(study, [*readings, begun])
    return len(readings)


def end_reading(study: optuna.Study, number: int, result: Mapping[str, object]) -> None:
    """Writes down what came of a reading. To be called under the allocation lock."""
    readings = list(readings_of(study.user_attrs))
    readings[number] = dataclasses.replace(readings[number], ended=_now(), result=dict(result))
    _write(study, readings)


def _read_before(readings: Sequence[TestReading], what_for: str = "") -> str:
    last = readings[-1]
    shown = f". To see that result: {last.command}" if last.command else ""
    return (
        f"expected a study whose test images are unread, got one that read them "
        f"{times(len(readings))}, last on {last.began[:10]}{what_for}{shown}. To read them once "
        "more, which the report will state: --again"
    )


def _may_be_read_now(reading: TestReading) -> bool:
    """Whether the process that began it may still be at it; one of another machine for an hour."""
    age = datetime.now().astimezone() - datetime.fromisoformat(reading.began)
    return is_alive(reading.worker) and (is_here(reading.worker) or abs(age) < _PATIENCE)


def _write(study: optuna.Study, readings: Sequence[TestReading]) -> None:
    study.set_user_attr(ATTRIBUTE, [dataclasses.asdict(reading) for reading in readings])


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
