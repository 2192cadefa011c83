"""Whose a running trial is: its worker's name and the last sign of life, both in the database.

The worker of a trial touches it every few seconds, and in the transaction of everything it writes
of it. A trial that was not touched for the grace period may be taken over by another worker; the
one before, if it only was stopped for a while, then finds that the trial is no longer its own, and
its write is undone. All times are the database's, so clocks of machines need not agree.

The touch is Optuna's heartbeat (table `trial_heartbeats`), which Optuna itself only records inside
`Study.optimize`. Locks come first, reads second: what a transaction reads of a trial after it has
touched it stays true until it ends, on SQLite (one writer) and on a server (a lock on the row).
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy import func

from nas.study.optuna_private import HEARTBEATS, TRIALS, USER_ATTRIBUTES
from nas.study.storage import STORAGE_ERRORS

# Text, since a server may have a type of its own for states.
_RUNS = sqlalchemy.cast(TRIALS.c.state, sqlalchemy.String) == TrialState.RUNNING.name
WORKER = "worker"
"""The user attribute of a trial with the name of its worker."""
_BEATS = 6  # in a grace period
_LONGEST = 10.0  # seconds between two


class TrialLost(Exception):
    """The trial is another worker's by now."""


def begin(connection: sqlalchemy.Connection, trial_id: int) -> None:
    """The first sign of life of a trial, in the transaction that makes it one of a worker."""
    if not _touch(connection, trial_id):
        row = {"trial_id": trial_id, "heartbeat": func.now()}
        connection.execute(HEARTBEATS.insert().values(row))


def beat(connection: sqlalchemy.Connection, trial_id: int, worker: str) -> None:
    """A sign of life, if the trial still is this worker's."""
    connection.execute(
        HEARTBEATS.update()
        .where(HEARTBEATS.c.trial_id == trial_id, sqlalchemy.exists(_owned(trial_id, worker)))
        .values(heartbeat=func.now())
    )


def hold(connection: sqlalchemy.Connection, trial_id: int, worker: str) -> bool:
    """Makes sure that until the transaction ends the trial is this worker's.

    Returns:
        Whether it still runs; if not, this worker itself has written its outcome before.

    Raises:
        TrialLost: it is another worker's, or was ended by one.
    """
    row = None
    if _touch(connection, trial_id):
        own = sqlalchemy.select(_RUNS).where(
            TRIALS.c.trial_id == trial_id, sqlalchemy.exists(_owned(trial_id, worker))
        )
        row = connection.execute(own).first()
    if row is None:
        raise TrialLost
    return bool(row[0])


def take(connection: sqlalchemy.Connection, trial_id: int, worker: str | None) -> bool:
    """Locks a running trial in order to take it over from this worker.

    Returns:
        Whether it still runs and is that worker's; if not it must be left alone.
    """
    begin(connection, trial_id)
    owned = worker is None or connection.execute(_owned(trial_id, worker)).first() is not None
    return owned and _runs(connection, trial_id)


def forget(connection: sqlalchemy.Connection, trial_id: int) -> None:
    """Ends a trial for its worker, who will find it lost."""
    connection.execute(HEARTBEATS.delete().where(HEARTBEATS.c.trial_id == trial_id))


def silences(connection: sqlalchemy.Connection, study_id: int) -> Mapping[int, float]:
    """Seconds since the last sign of life of each running trial that ever gave one, by its id."""
    rows = connection.execute(
        sqlalchemy.select(TRIALS.c.trial_id, HEARTBEATS.c.heartbeat, func.now())
        .join(HEARTBEATS, HEARTBEATS.c.trial_id == TRIALS.c.trial_id)
        .where(TRIALS.c.study_id == study_id, _RUNS)
    )
    return {row[0]: (_plain(row[2]) - _plain(row[1])).total_seconds() for row in rows}


def _touch(connection: sqlalchemy.Connection, trial_id: int) -> bool:
    update = HEARTBEATS.update().where(HEARTBEATS.c.trial_id == trial_id)
    return connection.execute(update.values(heartbeat=func.now())).rowcount > 0


def _owned(trial_id: int, worker: str) -> sqlalchemy.Select[tuple[int]]:
    return sqlalchemy.select(USER_ATTRIBUTES.c.trial_id).where(
        USER_ATTRIBUTES.c.trial_id == trial_id,
        USER_ATTRIBUTES.c.key == WORKER,
        USER_ATTRIBUTES.c.value_json == json.dumps(worker),
    )


def _runs(connection: sqlalchemy.Connection, trial_id: int) -> bool:
    running = sqlalchemy.select(TRIALS.c.trial_id).where(TRIALS.c.trial_id == trial_id, _RUNS)
    return connection.execute(running).first() is not None


def _plain(moment: datetime | str) -> datetime:
    """A moment of the database; SQLite gives text, PostgreSQL knows the zone of some."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.replace(tzinfo=None)


class Heartbeat:
    """A thread that says every few seconds that this worker still has its trial.

    Args:
        engine: of the study's database now.
        worker: the name of this worker.
        grace: seconds after which the others give a silent one up.
    """

    def __init__(self, engine: Callable[[], sqlalchemy.Engine], worker: str, grace: float) -> None:
        self.trial_id: int | None = None  # of the trial in training
        self.grace = grace
        self._engine = engine
        self._worker = worker
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._last = self._steady_since = time.monotonic()
        self._irregular = False

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=1)  # it may hang on a server that is gone

    @property
    def may_judge(self) -> bool:
        """Whether the silence of others says something about them.

        Not when this worker itself could not have been heard a while ago: then the database was
        gone, or the machine slept, for the others as well.
        """
        now = time.monotonic()
        if now - self._last > self.grace / 2:
            return False
        return not self._irregular or now - self._steady_since > self.grace

    def _run(self) -> None:
        interval = min(_LONGEST, self.grace / _BEATS)
        while not self._stopped.wait(interval):
            try:
                with self._engine().begin() as connection:
                    beat(connection, self.trial_id or 0, self._worker)
            except (*STORAGE_ERRORS, OSError):
                continue  # whoever works with the database finds out, too
            now = time.monotonic()
            if now - self._last > self.grace / 2:
                self._steady_since, self._irregular = now, True
            self._last = now
