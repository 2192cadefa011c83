"""Studies read into records, with errors a person can act on; nothing is written to read one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.counting import COSTS
from nas.runtime import signals
from nas.shapes import check_fields
from nas.study.designs import LATENCIES, architecture_of
from nas.study.latencies import MACHINES
from nas.study.location import NoStudy, StudyError, StudyLocation
from nas.study.optuna_private import Damaged, StudyStorage
from nas.study.outcomes import outcome_of, reason_of
from nas.study.records import (
    FOREIGN,
    Outcome,
    StudyRecord,
    StudySettings,
    TrialRecord,
    UnreadableStudy,
    with_costs,
)
from nas.study.settings import settings_from_json
from nas.study.storage import (
    complete_storage,
    no_study_yet,
    storage_errors,
    stored_name,
    study_names,
)
from nas.study.test_access import readings_of
from nas.training.tuning import REAL_VALUES
from nas.values import did_you_mean


def open_existing(location: StudyLocation) -> optuna.Study:
    """The study at this place; nothing is written to open it.

    Raises:
        StudyError: there is none, or it cannot be read.
    """
    with storage_errors(location):
        _check_exists(location)
        study = _load(location, complete_storage(location))
        attributes_of(study, location)
        return study


def read_study(location: StudyLocation) -> StudyRecord:
    """Everything a study holds; nothing is written to read it.

    Raises:
        StudyError: there is none, it cannot be read, or was not made by nas.
    """
    with opened(location) as study:
        return study_record(study, location)


def read_any_study(location: StudyLocation) -> StudyRecord | UnreadableStudy:
    """Everything a study holds, or what can be read of one with other settings than this version's.

    Raises:
        StudyError: there is none, or its database cannot be read.
    """
    with opened(location) as study:
        try:
            return study_record(study, location)
        except StudyError as error:
            trials = _trial_records(study)
            if not trials and "settings" not in study.user_attrs:
                raise  # it is only being made
            return UnreadableStudy(
                name=location.name,
                reason=str(error.__cause__ or error),
                attributes={
                    n: v for n, v in study.user_attrs.items() if not isinstance(v, Damaged)
                },
                trials=trials,
            )


@contextmanager
def opened(location: StudyLocation) -> Iterator[optuna.Study]:
    """The study as Optuna has it, until the block ends; nothing is written to read it.

    Raises:
        StudyError: there is no such study, or it cannot be read.
    """
    with storage_errors(location):
        _check_exists(location)
        storage = complete_storage(location)
        try:
            yield _load(location, storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _check_exists(location: StudyLocation) -> None:
    if location.path is not None and not location.path.is_file():
        raise NoStudy(
            f"{location.path}: expected a study, got no such file; {_other_studies(location.path)}"
        )
    location.check_is_study()


def _load(location: StudyLocation, storage: StudyStorage) -> optuna.Study:
    name = stored_name(location, storage)
    if name is None:
        names = ", ".join(map(repr, study_names(storage)))
        raise NoStudy(
            f"{location}: expected a study named {location.name!r}, "
            f"got {names or 'no study'}; name one with --study"
            + did_you_mean(location.name, study_names(storage))
        )
    return optuna.load_study(study_name=name, storage=storage)


def study_record(
    study: optuna.Study, location: StudyLocation, trials: Sequence[TrialRecord] | None = None
) -> StudyRecord:
    """Everything an open study holds.

    Args:
        study: open.
        location: where it is, for messages.
        trials: its trials, where they have just been read; None: read them.

    Raises:
        StudyError: it was not made by nas.
    """
    attributes = attributes_of(study, location)
    settings = settings_of(study, location)
    try:
        record = StudyRecord(
            name=location.name,
            settings=settings,
            notes=tuple(attributes.get("notes", ())),
            versions=attributes.get("versions", {}),
            seed=attributes.get("seed"),
            command=attributes.get("command"),
            searches=tuple(attributes.get("searches", ())),
            readings=readings_of(attributes),
            latency_machines=tuple(attributes.get(MACHINES, ())),
        )
        check_fields(record)
    except TypeError as error:
        raise StudyError(
            f"{location}: expected a study made by this version of nas, got {error}; "
            "choose another name with --study"
        ) from error
    found = _trial_records(study) if trials is None else trials
    return replace(record, trials=tuple(with_costs(trial, settings.input) for trial in found))


def trained_in(study: optuna.Study) -> int:
    """How many designs were trained in an open study, to the end or until stopped early."""
    outcomes = [trial.outcome for trial in _trial_records(study)]
    return sum(outcome.counts for outcome in outcomes if outcome is not None)


def _trial_records(study: optuna.Study) -> tuple[TrialRecord, ...]:
    records = []
    for trial in study.get_trials(deepcopy=False):
        signals.check()
        records.append(readable_record(trial))
    return tuple(records)


def readable_record(trial: FrozenTrial) -> TrialRecord:
    """A trial; of one that another version of nas wrote otherwise, number and accuracy."""
    try:
        record = trial_record(trial)
        _check_trial(record)
        return record
    except (ValueError, TypeError, KeyError) as error:
        return TrialRecord(
            number=trial.number,
            outcome=None,
            val_accuracy=_share(trial.value if trial.state is TrialState.COMPLETE else None),
            started=trial.datetime_start,
            finished=trial.datetime_complete,
            reason=f"{FOREIGN}: {error}",
        )


def _check_trial(record: TrialRecord) -> None:
    """Raises a ValueError or TypeError where a trial holds what this version never writes."""
    check_fields(record)
    amounts = [
        getattr(record, name) for name in (*COSTS, *LATENCIES, "seconds", "images_per_second")
    ]
    if any(amount is not None and not 0 <= amount < math.inf for amount in amounts):
        raise ValueError(f"an amount is out of range in {amounts}")
    if _share(record.val_accuracy) != record.val_accuracy:
        raise ValueError(f"val_accuracy must be in 0..1, got {record.val_accuracy}")


def _share(value: float | None) -> float | None:
    """An accuracy; None where it is none."""
    return value if value is not None and 0 <= value <= 1 else None


def trial_record(trial: FrozenTrial, number: int | None = None) -> TrialRecord:
    """One trial of a study, as plain values; with its number in the database, if it is a copy.

    Raises:
        ValueError: another version of nas wrote it, or another program; or a TypeError or KeyError.
    """
    attributes = trial.user_attrs
    outcome = outcome_of(trial)
    if outcome is None and trial.state.is_finished() and "outcome" in attributes:
        raise ValueError(f"outcome {attributes['outcome']!r} with the value {trial.value}")
    # What began again may have come less far than before; later epochs count no more.
    epochs = attributes.get("epochs", math.inf)
    curve = tuple(sorted(p for p in trial.intermediate_values.items() if p[0] <= epochs))
    val_accuracy = trial.value if trial.state is TrialState.COMPLETE else None
    if outcome is Outcome.STOPPED_EARLY and curve:
        val_accuracy = curve[-1][1]
    return TrialRecord(
        number=trial.number if number is None else number,
        outcome=outcome,
        architecture=architecture_of(attributes),
        **{name: attributes.get(name) for name in (*COSTS, *LATENCIES)},
        val_accuracy=val_accuracy,
        curve=curve,
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        seconds=attributes.get("seconds"),
        images_per_second=attributes.get("images_per_second"),
        device=attributes.get("device"),
        worker=attributes.get("worker"),
        preset=attributes.get("preset"),
        training={name: attributes[name] for name in REAL_VALUES if name in attributes},
        reason=reason_of(trial),
        forecast=attributes.get("forecast"),
    )


def attributes_of(study: optuna.Study, location: StudyLocation) -> Mapping[str, Any]:
    """The user attributes of a study.

    Raises:
        StudyError: one is damaged.
    """
    attributes: Mapping[str, Any] = study.user_attrs
    for name, value in attributes.items():
        if isinstance(value, Damaged):
            raise StudyError(
                f"{location}: expected a study that can be read, got one whose attribute {name!r} "
                f"is damaged ({value.text[-40:]!r} at its end); restore a copy of it"
            )
    return attributes


def settings_of(study: optuna.Study, location: StudyLocation) -> StudySettings:
    """The settings that an open study was made with.

    Raises:
        StudyError: they are not there yet, or another version wrote them.
    """
    attributes = study.user_attrs
    if "settings" not in attributes and not study.get_trials(deepcopy=False):
        raise no_study_yet(location)
    try:
        return settings_from_json(attributes["settings"])
    except (KeyError, ValueError) as error:
        raise StudyError(
            f"{location}: expected a study made by this version of nas, got {error}; "
            "choose another name with --study"
        ) from error


def _other_studies(path: Path) -> str:
    folder = path.parent
    names = sorted(other.stem for other in folder.glob("*.db")) if folder.is_dir() else []
    if names:
        return f"studies there: {', '.join(names)}{did_you_mean(path.stem, names)}"
    return "run a search first"
