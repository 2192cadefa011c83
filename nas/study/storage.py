"""Where studies lie: opening, creating and reading them, with errors a person can act on."""

import math
import platform
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from nas import packages
from nas.runtime import signals
from nas.shapes import check_fields
from nas.study.designs import architecture_of
from nas.study.location import NoStudy, StudyError, StudyGone, StudyLocation
from nas.study.optuna_private import STUDIES, WRITTEN_LAST, Damaged, StudyStorage
from nas.study.outcomes import outcome_of, reason_of
from nas.study.processes import is_alive
from nas.study.records import (
    FOREIGN,
    Outcome,
    StudyRecord,
    StudySettings,
    TrialRecord,
    UnreadableStudy,
)
from nas.study.settings import differences, settings_from_json, settings_to_json
from nas.study.test_log import readings_of
from nas.training.tuning import REAL_VALUES
from nas.values import did_you_mean

SQLITE_TIMEOUT = 60  # seconds to wait for another process's write


def begin_search(
    study: optuna.Study,
    location: StudyLocation,
    settings: StudySettings,
    *,
    search: Mapping[str, object] | None,
    notes: Sequence[str] = (),
) -> None:
    """Makes a new study one of these settings, or checks that it is; and notes the search in it.

    To be called in a claim, see `nas.study.database`.

    Args:
        study: open.
        location: where it lies, for messages.
        settings: of the study.
        search: what is kept of this search, with its `seed`, `command` and `worker`; None for one
            of several workers, of which their parent has made the study and kept a line.
        notes: what a reader of the study must know.

    Raises:
        StudyError: the study was made with other settings, each of which is a note of the error, or
            not by nas.
    """
    joins = search is None
    search = search or {}
    kept = kept_settings(study, location, joins=joins)
    if kept is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"{location}: expected a study made by nas, got a study without settings; "
                "choose another name with --study"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(["val_accuracy"])
        study.set_user_attr("versions", versions())
        study.set_user_attr("seed", search.get("seed"))
        study.set_user_attr("notes", list(notes))
        study.set_user_attr("command", search.get("command"))
        study.set_user_attr("settings", settings_to_json(settings))
    else:
        changed = differences(kept, settings)
        if changed:
            error = StudyError(
                f"{location}: expected the settings the study was made with, got others; take "
                "those, or another name with --study"
            )
            for difference in changed:
                error.add_note(difference)
            raise error
    if joins:
        return
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    now = {**search, "versions": versions(), "started": started}
    study.set_user_attr("searches", [*study.user_attrs.get("searches", ()), now])


def kept_settings(
    study: optuna.Study, location: StudyLocation, *, joins: bool = False
) -> StudySettings | None:
    """The settings that a search of this study must have.

    None where it makes the study, or makes it anew: one without trials that no other searches.

    Args:
        study: open.
        location: where it lies, for messages.
        joins: whether it is one of several workers, whose parent has made the study.

    Raises:
        StudyError: another version made it.
    """
    attributes = _attributes(study, location)
    if "settings" not in attributes:
        return None
    empty = not study.get_trials(deepcopy=False)
    used = any(is_alive(before.get("worker")) for before in attributes.get("searches", ()))
    return None if empty and not used and not joins else _settings(study, location)


def open_existing(location: StudyLocation) -> optuna.Study:
    """The study at this place; nothing is written to open it.

    Raises:
        StudyError: there is none, or it cannot be read.
    """
    with storage_errors(location):
        _check_exists(location)
        study = _load(location, _storage(location))
        _attributes(study, location)
        return study


def read_study(location: StudyLocation) -> StudyRecord:
    """Everything a study holds; nothing is written to read it.

    Raises:
        StudyError: there is none, it cannot be read, or was not made by nas.
    """
    with _opened(location) as study:
        return study_record(study, location)


def read_trials(location: StudyLocation) -> list[FrozenTrial]:
    """The trials of a study as Optuna has them; nothing is written to read them.

    Raises:
        StudyError: there is no such study, or it cannot be read.
    """
    with _opened(location) as study:
        return study.get_trials(deepcopy=False)


def read_any_study(location: StudyLocation) -> StudyRecord | UnreadableStudy:
    """Everything a study holds, or what can be read of one with other settings than this version's.

    Raises:
        StudyError: there is none, or its database cannot be read.
    """
    with _opened(location) as study:
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
def _opened(location: StudyLocation) -> Iterator[optuna.Study]:
    """The study, until the block ends."""
    with storage_errors(location):
        _check_exists(location)
        storage = _storage(location)
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
        names = ", ".join(map(repr, _names(storage)))
        raise NoStudy(
            f"{location}: expected a study named {location.name!r}, "
            f"got {names or 'no study'}; name one with --study"
            + did_you_mean(location.name, _names(storage))
        )
    return optuna.load_study(study_name=name, storage=storage)


def stored_name(location: StudyLocation, storage: RDBStorage) -> str | None:
    """What Optuna calls the study at this place; None where it is not made yet.

    A file in --studies-dir is the one study in it, also when it was copied or renamed.

    Raises:
        StudyError: there are several in the file, and none is called like it.
    """
    names = _names(storage)
    if location.name in names:
        return location.name
    if location.storage is not None or not names:
        return None
    if len(names) > 1:
        raise StudyError(
            f"{location}: expected one study in the file, or one named {location.name!r}, got "
            f"{', '.join(map(repr, names))}; give --storage {location.url} with --study"
        )
    return names[0]


def _names(storage: RDBStorage) -> list[str]:
    with storage.engine.connect() as connection:
        query = sqlalchemy.select(STUDIES.c.study_name).order_by(STUDIES.c.study_id)
        return list(connection.execute(query).scalars())


def study_record(
    study: optuna.Study, location: StudyLocation, trials: Sequence[TrialRecord] | None = None
) -> StudyRecord:
    """Everything an open study holds.

    Args:
        study: open.
        location: where it lies, for messages.
        trials: its trials, where they have just been read; None: read them.

    Raises:
        StudyError: it was not made by nas.
    """
    attributes = _attributes(study, location)
    settings = _settings(study, location)
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
        )
        check_fields(record)
    except TypeError as error:
        raise StudyError(
            f"{location}: expected a study made by this version of nas, got {error}; "
            "choose another name with --study"
        ) from error
    return replace(record, trials=_trial_records(study) if trials is None else tuple(trials))


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
            finished=trial.datetime_complete,
            reason=f"{FOREIGN}: {error}",
        )


def _check_trial(record: TrialRecord) -> None:
    """Raises a ValueError or TypeError where a trial holds what this version never writes."""
    check_fields(record)
    amounts = (record.parameters, record.mult_adds, record.seconds, record.images_per_second)
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
        parameters=attributes.get("parameters"),
        mult_adds=attributes.get("mult_adds"),
        val_accuracy=val_accuracy,
        curve=curve,
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        seconds=attributes.get("seconds"),
        images_per_second=attributes.get("images_per_second"),
        device=attributes.get("device"),
        worker=attributes.get("worker"),
        retries=attributes.get("retries", 0),
        preset=attributes.get("preset"),
        training={name: attributes[name] for name in REAL_VALUES if name in attributes},
        reason=reason_of(trial),
    )


def _attributes(study: optuna.Study, location: StudyLocation) -> Mapping[str, Any]:
    """The user attributes of a study.

    Raises:
        StudyError: one is damaged.
    """
    attributes: Mapping[str, Any] = study.user_attrs
    for name, value in attributes.items():
        if isinstance(value, Damaged):
            raise StudyError(
                f"{location}: expected a study that can be read, got one whose attribute {name!r} "
                f"is damaged ({value.text[-40:]!r} at its end); go back to a copy of it"
            )
    return attributes


def _settings(study: optuna.Study, location: StudyLocation) -> StudySettings:
    attributes = study.user_attrs
    if "settings" not in attributes and not study.get_trials(deepcopy=False):
        raise _unmade(location)
    try:
        return settings_from_json(attributes["settings"])
    except (KeyError, ValueError) as error:
        raise StudyError(
            f"{location}: expected a study made by this version of nas, got {error}; "
            "choose another name with --study"
        ) from error


def _storage(location: StudyLocation) -> StudyStorage:
    """A complete database, to be read; Optuna would complete another one."""
    connect = {"timeout": SQLITE_TIMEOUT} if location.path is not None else {}
    engine = sqlalchemy.create_engine(location.engine_url, connect_args=connect)
    try:
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection)
            for name in WRITTEN_LAST:
                rows = sqlalchemy.select(sqlalchemy.func.count()).select_from(
                    sqlalchemy.table(name)
                )
                if not tables.has_table(name) or not connection.execute(rows).scalar():
                    raise _unmade(location)
    finally:
        engine.dispose()
    return StudyStorage(
        location.engine_url, engine_kwargs={"connect_args": connect}, skip_table_creation=True
    )


def _unmade(location: StudyLocation) -> NoStudy:
    return NoStudy(
        f"{location}: expected a study, got a database in which it is not made yet; run a search, "
        "or try again in a moment if one has just begun"
    )


STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError, sqlite3.Error)
"""What a database may raise in the middle of a search."""


@contextmanager
def storage_errors(location: StudyLocation) -> Iterator[None]:
    """Turns what opening a storage raises into one line that says what to do."""
    try:
        yield
    except (StudyError, StudyGone):
        raise
    except ImportError as error:
        raise StudyError(
            f"{location}: expected an installed driver for this database, got {first_line(error)}; "
            "install it with pip, such as 'psycopg[binary]' for PostgreSQL"
        ) from error
    except ArgumentError as error:
        reason = first_line(error).replace(location.url, str(location))
        raise StudyError(
            f"--storage: expected a database URL such as sqlite:///studies/my.db, "
            f"got {location}: {reason}"
        ) from error
    except (LookupError, ValueError) as error:  # of SQLAlchemy, Optuna or JSON at damaged rows
        raise StudyError(
            f"{location}: expected a study that can be read, got a damaged one "
            f"({first_line(error)}); go back to a copy of it"
        ) from error
    except (*STORAGE_ERRORS, RuntimeError, OSError) as error:
        raise StudyError(
            f"{location}: expected a database that can be opened, got {first_line(error)}; "
            + (
                "go back to a copy of it"
                if "malformed" in str(error)
                else "check that it is there and may be written"
            )
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error, or of the database's error behind it."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return (
        str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    ).splitlines()[0]


def _other_studies(path: Path) -> str:
    folder = path.parent
    names = sorted(other.stem for other in folder.glob("*.db")) if folder.is_dir() else []
    if names:
        return f"studies there: {', '.join(names)}{did_you_mean(path.stem, names)}"
    return "run a search first"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide results."""
    return {"python": platform.python_version(), **packages.versions()}
