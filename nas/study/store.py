"""A study's database as a search uses it: one process decides at a time, in transactions.

Optuna commits every attribute on its own. Here all that belongs together is one transaction: the
Optuna calls between are the usual ones, on a session that joins it.
"""

import copy
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import scoped_session, sessionmaker

from nas.runtime import signals
from nas.study import heartbeat
from nas.study.location import OpenFile, StudyGone, StudyLocation
from nas.study.optuna_private import (
    STUDIES,
    STUDY_SYSTEM_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    TRIALS,
    USER_ATTRIBUTES,
    storage_of,
    study_id_of,
    trial_id_of,
)
from nas.study.records import Outcome
from nas.study.rows import delete_run, insert_attributes, insert_params, write_changes
from nas.study.storage import STORAGE_ERRORS, storage_errors, stored_name, writable_storage

_LOCK_POLL = 0.01  # seconds
_STUCK = 60.0  # seconds after which the process that has the lock is not waited for any more

_ALLOCATIONS = "nas:claims"  # a study's system attribute, called so by all versions


class TrialLost(Exception):
    """Another process has ended the trial, since nothing was heard of this one."""


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial in the database."""

    id: int
    number: int  # which a copy of the study may count otherwise


class Store:
    """An open study that other processes may have open too; see `open_store`."""

    def __init__(
        self,
        storage: RDBStorage,
        study: optuna.Study,
        lock: FileLock | None,
        file: OpenFile | None = None,
    ) -> None:
        self.study = study  # reads incrementally: trials that ended are read once
        self.file = file  # of an SQLite study
        self._rdb = storage
        self._storage = storage_of(study)
        self._lock = lock
        self._connection: sqlalchemy.Connection | None = None  # of the transaction

    @contextmanager
    def transaction(self) -> Iterator[sqlalchemy.Connection]:
        """A block whose writes to the study are seen all at once, or not at all.

        Inside another one it is part of that one.

        Raises:
            StudyGone: the study's file was removed or replaced.
        """
        if self._connection is not None:
            yield self._connection
            return
        self.check_file()
        before = self._rdb.scoped_session
        with self._rdb.engine.begin() as connection:
            session = scoped_session(
                sessionmaker(bind=connection, join_transaction_mode="rollback_only")
            )
            self._connection, self._rdb.scoped_session = connection, session
            try:
                yield connection
            finally:
                self._connection, self._rdb.scoped_session = None, before
                session.remove()  # which fails where the connection is gone

    @contextmanager
    def allocation_lock(self) -> Iterator[None]:
        """A transaction that only one process at a time may have, to decide what to train.

        A process that is stopped in one (SIGSTOP) holds the others up for a minute; then they go on
        without it, and its own transaction fails when it is revived.

        Raises:
            StudyGone: the study's file was removed or replaced.
            KeyboardInterrupt: a signal came while another process had it.
        """
        self.check_file()  # or the lock is made anew, with its folder
        with held(self._lock, _STUCK), self.transaction() as connection:
            if self._lock is not None:
                before = self._allocations(connection)
                yield
                self._count_allocation(connection, before)
                return
            row = sqlalchemy.select(STUDIES).where(STUDIES.c.study_id == study_id_of(self.study))
            connection.execute(row.with_for_update())
            yield

    def check_file(self) -> None:
        """Checks that an SQLite study is still the file at its path.

        Raises:
            StudyGone: it was removed or replaced.
        """
        if self.file is None:
            return
        try:
            self.file.check()
        except StudyGone:
            self._empty_log()
            raise

    def _empty_log(self) -> None:
        """Writes what is in the log beside the path into the file that is open, wherever it is.

        A new file at the path would take the log for its own, and be damaged.
        """
        pool = self._rdb.engine.pool
        if not isinstance(pool, sqlalchemy.QueuePool) or not pool.checkedin():
            return  # a new connection would be to the new file
        with suppress(*STORAGE_ERRORS), self._rdb.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def _allocations(self, connection: sqlalchemy.Connection) -> str | None:
        """How many transactions under the lock have written, as text; None before the first."""
        count = sqlalchemy.select(STUDY_SYSTEM_ATTRIBUTES.c.value_json).where(self._of_allocations)
        return connection.execute(count).scalar()

    def _count_allocation(self, connection: sqlalchemy.Connection, before: str | None) -> None:
        """Counts a transaction under the lock that wrote, if no other has since it began.

        Raises:
            sqlite3.OperationalError: one has: this process was stopped in its transaction.
        """
        file = connection.connection.dbapi_connection
        if not isinstance(file, sqlite3.Connection) or not file.in_transaction:
            return
        # The first write of the transaction has locked the file, so this is the last word.
        if self._allocations(connection) != before:
            raise sqlite3.OperationalError("the study was locked, by a process that was stopped")
        if before is None:
            row = {"study_id": study_id_of(self.study), "key": _ALLOCATIONS, "value_json": "1"}
            connection.execute(STUDY_SYSTEM_ATTRIBUTES.insert().values(row))
        else:
            update = STUDY_SYSTEM_ATTRIBUTES.update().where(self._of_allocations)
            count = int(before) + 1 if before.isdecimal() else 1
            connection.execute(update.values(value_json=str(count)))

    @property
    def _of_allocations(self) -> sqlalchemy.ColumnElement[bool]:
        attribute = STUDY_SYSTEM_ATTRIBUTES.c
        return (attribute.study_id == study_id_of(self.study)) & (attribute.key == _ALLOCATIONS)

    def renew(self) -> None:
        """Connects again, and forgets what was read: it may have been undone."""
        with suppress(*STORAGE_ERRORS):
            self._rdb.remove_session()
        self._rdb.engine.dispose()
        name = self.study.study_name
        self.study = optuna.load_study(study_name=name, storage=get_storage(self._rdb))
        self._storage = storage_of(self.study)

    @property
    def is_file(self) -> bool:
        """Whether it is an SQLite file, not a server."""
        return self._rdb.engine.dialect.name == "sqlite"

    @property
    def engine(self) -> sqlalchemy.Engine:
        """For connections beside those of this object."""
        return self._rdb.engine

    def add(self, trial: FrozenTrial) -> StoredTrial:
        """Writes a new trial, running or ended, all at once.

        A trial has about 25 parameters and 15 attributes, for each of which Optuna sends two or
        three statements; here they are one statement per table.
        """
        with self.transaction() as connection:
            trial_id = self._storage.create_new_trial(study_id_of(self.study))
            insert_params(connection, trial_id, trial)
            insert_attributes(connection, USER_ATTRIBUTES, trial_id, trial.user_attrs)
            insert_attributes(connection, SYSTEM_ATTRIBUTES, trial_id, trial.system_attrs)
            for step, value in trial.intermediate_values.items():
                self._storage.set_trial_intermediate_value(trial_id, step, value)
            if trial.state.is_finished():
                self._storage.set_trial_state_values(trial_id, trial.state, trial.values)
            else:
                heartbeat.hold(connection, trial_id)
            return self._stored(connection, trial_id)

    def change(self, trial_id: int, after: FrozenTrial) -> StoredTrial:
        """Brings a trial that has not ended to a later content, all at once."""
        with self.transaction() as connection:
            state = sqlalchemy.select(TRIALS.c.state).where(TRIALS.c.trial_id == trial_id)
            if connection.execute(state).scalar_one() == TrialState.WAITING.name:
                delete_run(connection, trial_id)
            self._add_attributes(connection, trial_id, after)
            write_changes(self._storage, trial_id, self._storage.get_trial(trial_id), after)
            if after.state is TrialState.RUNNING:
                heartbeat.hold(connection, trial_id)
            return self._stored(connection, trial_id)

    def _stored(self, connection: sqlalchemy.Connection, trial_id: int) -> StoredTrial:
        number = sqlalchemy.select(TRIALS.c.number).where(TRIALS.c.trial_id == trial_id)
        return StoredTrial(trial_id, connection.execute(number).scalar_one())

    def _add_attributes(
        self, connection: sqlalchemy.Connection, trial_id: int, after: FrozenTrial
    ) -> None:
        for table, attributes in (
            (USER_ATTRIBUTES, after.user_attrs),
            (SYSTEM_ATTRIBUTES, after.system_attrs),
        ):
            written = sqlalchemy.select(table.c.key).where(table.c.trial_id == trial_id)
            known = set(connection.execute(written).scalars())
            added = {key: value for key, value in attributes.items() if key not in known}
            insert_attributes(connection, table, trial_id, added)

    def report(self, trial_id: int, accuracies: Mapping[int, float]) -> None:
        """Writes the accuracies after epochs, by number, of a trial of this process.

        Raises:
            TrialLost: another one has ended it.
        """
        with self.transaction() as connection:
            if not heartbeat.hold(connection, trial_id):
                raise TrialLost
            for epoch, val_accuracy in accuracies.items():
                self._storage.set_trial_intermediate_value(trial_id, epoch, val_accuracy)

    def end(self, trial_id: int, after: FrozenTrial) -> None:
        """Writes the outcome of a trial of this process; the same again changes nothing.

        Raises:
            TrialLost: another one has ended it.
        """
        with self.transaction() as connection:
            if heartbeat.hold(connection, trial_id):
                self.change(trial_id, after)
                return
            now = self._storage.get_trial(trial_id)
            if any(now.user_attrs.get(n) != after.user_attrs.get(n) for n in ("outcome", "reason")):
                raise TrialLost

    def fail(self, trial: FrozenTrial, reason: str) -> bool:
        """Fails a trial of another process; returns whether it still ran."""
        with self.transaction() as connection:
            unheard = heartbeat.seconds_unheard(connection, trial_id_of(trial))
            if not heartbeat.hold(connection, trial_id_of(trial)):
                return False
            failed = copy.copy(trial)
            ending = {"reason": reason, "outcome": Outcome.FAILED.value}
            if unheard is not None:
                heard = datetime.now() - timedelta(seconds=unheard)
                ending[heartbeat.LAST_HEARD] = heard.isoformat()
            failed.user_attrs, failed.state = {**trial.user_attrs, **ending}, TrialState.FAIL
            self.change(trial_id_of(trial), failed)
            return True

    def silent(self, grace: float) -> Set[int]:
        """The ids of running trials without a heartbeat for so many seconds.

        One that never had any gets its first now.
        """
        with self.transaction() as connection:
            heartbeat.begin_missing(connection, study_id_of(self.study))
            return heartbeat.silent(connection, study_id_of(self.study), grace)


@contextmanager
def open_store(location: StudyLocation, file: OpenFile | None = None) -> Iterator[Store]:
    """The study at this place, made now if there is none, for as long as a search needs it.

    An SQLite file is in WAL mode meanwhile, which takes a third off every write and lets others
    read; afterwards it is one file again, unless others still have it open. A process that is
    stopped with the lock (SIGSTOP) holds it up for a minute, as in `Store.allocation_lock`.

    Args:
        location: of the study.
        file: what an SQLite study must still be; None: whatever is there.

    Raises:
        StudyError: the place cannot be used.
        StudyGone: the file is another one, or there is none.
        KeyboardInterrupt: a signal came while another process was waited for.
    """
    if file is not None:
        file.check()
    location.check()
    path = location.path
    lock = FileLock(location.lock_file) if location.lock_file else None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Of several at once the first one makes the tables, and the others find them.
    with storage_errors(location), held(lock, _STUCK):
        if path is not None:
            path.touch(mode=0o644)  # the only place where the file is made
            _set_journal_mode(path, "WAL", patience=0.5)
        storage = writable_storage(location)
        study = optuna.create_study(
            study_name=stored_name(location, storage) or location.name,
            storage=get_storage(storage),
            direction="maximize",
            load_if_exists=True,
        )
        file = OpenFile.at(path) if path is not None else None
    store = Store(storage, study, lock, file)
    try:
        yield store
    finally:
        storage.remove_session()
        with suppress(StudyGone):
            store.check_file()
        storage.engine.dispose()
        if lock is not None and path is not None and file is not None:
            with suppress(StudyGone, Timeout):
                file.check()
                with lock.acquire(timeout=signals.LOOK):
                    _set_journal_mode(path, "DELETE")


@contextmanager
def held(lock: FileLock | None, patience: float = math.inf) -> Iterator[None]:
    """A block in which no other process has the lock, unless one has it longer than `patience`.

    Raises:
        KeyboardInterrupt: a signal came while another process had it.
    """
    if lock is None:
        yield
        return
    deadline = time.monotonic() + patience
    while True:
        try:
            lock.acquire(timeout=signals.LOOK, poll_interval=_LOCK_POLL)
            break
        except Timeout:
            signals.check()
            if time.monotonic() > deadline:
                yield
                return
    try:
        yield
    finally:
        lock.release()


def _set_journal_mode(path: Path, mode: str, *, patience: float = 0) -> None:
    """Changes how an SQLite file keeps its changes, unless others are at it or it cannot."""
    place = f"{path.absolute().as_uri()}?mode=rw"
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(place, timeout=patience, uri=True)) as database,
    ):
        database.execute(f"PRAGMA journal_mode={mode}")
