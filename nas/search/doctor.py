"""Whether studies can be kept here, and what is left in one by workers that are gone."""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from nas.files import left_unfinished, remove_unfinished
from nas.runtime.disks import warning_for
from nas.search.environment import Finding
from nas.search.stale import fail_stale, is_stale
from nas.search.trainer import checkpoint_name
from nas.study import heartbeat
from nas.study.location import StudyError, StudyLocation, nearest_there
from nas.study.optuna_private import study_id_of
from nas.study.outcomes import outcome_of
from nas.study.reader import opened, study_record
from nas.study.records import DAMAGED, QUEUED_AGAIN
from nas.study.storage import storage_errors
from nas.study.store import open_store
from nas.text import plural

_ROOM = 10**9  # bytes that should be free beside a study


def look_at_storage(location: StudyLocation) -> Finding:
    """Whether studies can be written at this place."""
    try:
        location.check()
        if location.path is None:
            with storage_errors(location):
                return Finding("storage", True, f"{location}: {_server(location)}")
    except StudyError as error:
        return Finding("storage", False, str(error))
    folder = location.path.parent
    if warning := warning_for(location.path):
        return Finding("storage", False, warning)
    free = shutil.disk_usage(nearest_there(folder)).free
    verdict = f"{folder} can be written, {free / 1e9:.1f} GB free"
    if free < _ROOM:
        return Finding("storage", False, f"{verdict}; free some space")
    return Finding("storage", True, verdict)


def _server(location: StudyLocation) -> str:
    engine = sqlalchemy.create_engine(location.engine_url)
    try:
        with engine.connect() as connection:
            version = connection.dialect.server_version_info or ()
            return f"{connection.dialect.name} {'.'.join(map(str, version))} answers"
    finally:
        engine.dispose()


def look_at_study(
    location: StudyLocation, checkpoints: Path, *, grace: float, repair: bool
) -> Iterator[Finding]:
    """A study's file, its trials without a worker, and checkpoints that nothing goes on from.

    Args:
        location: of the study.
        checkpoints: the folder with its checkpoints.
        grace: seconds without a heartbeat after which a worker counts as dead.
        repair: ends those trials and queues their designs again, and removes those checkpoints;
            a search does the former by itself.
    """
    files = sorted(checkpoints.glob("*.pt"))  # first: of a trial that begins now there is none yet
    try:
        with opened(location) as database:
            study = study_record(database, location)
            whole = _whole(location)
            trials = database.get_trials(deepcopy=False)
            orphans = _orphans(location, study_id_of(database), trials, grace)
    except StudyError as error:
        yield Finding("study", False, str(error))
        return
    yield whole
    if study.doubts:
        damaged = any((trial.reason or "").startswith(DAMAGED) for trial in study.trials)
        verdict = f"{study.doubts}; each counts as its state there says, a damaged one as failed"
        yield Finding("database", not damaged, verdict)
    running = sum(t.state is TrialState.RUNNING for t in trials) - len(orphans)
    counts = f"{plural(study.trained, 'design')} trained, {running} in training"
    if repair and orphans:
        with storage_errors(location):
            reasons = _end(location, orphans)
        again = sum(reason in QUEUED_AGAIN for reason in reasons)
        then = " and queued again" if again == len(reasons) else f", {again} of them queued again"
        verdict = f"{counts}; {len(reasons)} without a worker ended{then}"
        yield Finding("trials", True, verdict)
    elif orphans:
        numbers = ", ".join(str(t.number) for t in orphans)
        yield Finding(
            "trials",
            False,
            f"{counts}; without a worker: {numbers}; a search, or --repair, ends them and queues "
            "their designs again",
        )
    else:
        yield Finding("trials", True, f"{counts}, none without a worker")
    yield _look_at_checkpoints(trials, files, checkpoints, repair=repair)


def _whole(location: StudyLocation) -> Finding:
    if location.path is None:
        return Finding("study", True, f"{location} can be read")
    with closing(sqlite3.connect(f"{location.path.resolve().as_uri()}?mode=ro", uri=True)) as file:
        try:
            answer = str(file.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            answer = str(error)
    if answer != "ok":
        return Finding(
            "study", False, f"{location.path} is damaged ({answer}); restore a copy of it"
        )
    return Finding("study", True, f"{location.path} is intact")


def _orphans(
    location: StudyLocation, study_id: int, trials: Sequence[FrozenTrial], grace: float
) -> list[FrozenTrial]:
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    if not running:
        return []
    engine = sqlalchemy.create_engine(location.engine_url)
    try:
        with engine.connect() as connection:
            silent = heartbeat.silent(connection, study_id, grace)
    finally:
        engine.dispose()
    return [trial for trial in running if is_stale(trial, silent)]


def _end(location: StudyLocation, orphans: Sequence[FrozenTrial]) -> list[str]:
    """Ends trials unless that was done meanwhile; returns the reasons they have now."""
    with open_store(location) as store, store.allocation_lock():
        return [reason for trial in orphans if (reason := fail_stale(store, trial))]


def _look_at_checkpoints(
    trials: Sequence[FrozenTrial], files: Sequence[Path], folder: Path, *, repair: bool
) -> Finding:
    done = {t.user_attrs.get("key") for t in trials if (o := outcome_of(t)) and o.counts}
    unfinished = {t.user_attrs.get("key") for t in trials if not t.state.is_finished()}
    last = {t.user_attrs["key"]: t for t in trials if "key" in t.user_attrs}
    wanted = {
        checkpoint_name(key)
        for key, t in last.items()
        if key not in done and (key in unfinished or t.user_attrs.get("reason") in QUEUED_AGAIN)
    }
    files = [path for path in files if path.exists()]  # a trial that ends removes its own
    useless = [path for path in files if path.stem not in wanted]
    left = [*useless, *left_unfinished(folder)]
    size = f"{sum(map(_size, left)) / 1e6:.1f} MB"
    if left and repair:
        for path in useless:
            path.unlink(missing_ok=True)
        remove_unfinished(folder)
        return Finding("checkpoints", True, f"{len(left)} unneeded removed, {size}")
    if left:
        return Finding(
            "checkpoints", False, f"{len(left)} not needed, {size}; --repair removes them"
        )
    return Finding("checkpoints", True, f"{len(files)}, each of a trial that will resume from it")


def _size(path: Path) -> int:
    """In bytes; 0 once it is gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
