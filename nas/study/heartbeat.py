"""The heartbeat of a running trial: when its worker was last heard of, in the database.

The worker of a trial touches it every few seconds, and in the transaction of everything it writes
of it. A trial that was not touched for the grace period is stale: another worker fails it, and its
own, if it only was stopped for a while, then finds it lost. All times are the database's, so clocks
of machines need not agree.

The touch is Optuna's heartbeat (table `trial_heartbeats`), which Optuna itself only records inside
`Study.optimize`. Locks come first, reads second: what a transaction reads of a trial after it has
touched it stays true until it ends, on SQLite (one writer) and on a server (a lock on the row).
"""

import math
import threading
import time
from collections.abc import Callable, Set
from datetime import datetime

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy import func

from nas.study.optuna_private import HEARTBEATS, TRIALS
from nas.study.storage import STORAGE_ERRORS

# Text, since a server may have a type of its own for states.
_RUNS = sqlalchemy.cast(TRIALS.c.state, sqlalchemy.String) == TrialState.RUNNING.name
WORKER = "worker"
"""The user attribute of a trial with the name of its worker."""
LAST_HEARD = "last_heard"
"""That of one whose worker died: when that was last heard of, as text, in local time."""
_BEATS = 6  # in a grace period
_LONGEST = 10.0  # seconds between two


def hold(connection: sqlalchemy.Connection, trial_id: int) -> bool:
    """Touches a trial, and locks it until the transaction ends; returns whether it still runs."""
    if not _touch(connection, trial_id):
        row = {"trial_id": trial_id, "heartbeat": func.now()}
        connection.execute(HEARTBEATS.insert().values(row))
    running = sqlalchemy.select(TRIALS.c.trial_id).where(TRIALS.c.trial_id == trial_id, _RUNS)
    return connection.execute(running).first() is not None


def silent(connection: sqlalchemy.Connection, study_id: int, grace: float) -> Set[int]:
    """The ids of running trials that were once touched, but not for so many seconds."""
    rows = connection.execute(
        sqlalchemy.select(TRIALS.c.trial_id, HEARTBEATS.c.heartbeat, func.now())
        .join(HEARTBEATS, HEARTBEATS.c.trial_id == TRIALS.c.trial_id)
        .where(TRIALS.c.study_id == study_id, _RUNS)
    )
    return {
        trial_id
        for trial_id, last, now in rows
        if (_plain(now) - _plain(last)).total_seconds() > grace
    }


def seconds_unheard(connection: sqlalchemy.Connection, trial_id: int) -> float | None:
    """Seconds since a trial was last touched; None if it never was."""
    row = connection.execute(
        sqlalchemy.select(HEARTBEATS.c.heartbeat, func.now()).where(
            HEARTBEATS.c.trial_id == trial_id
        )
    ).first()
    return None if row is None else (_plain(row[1]) - _plain(row[0])).total_seconds()


def begin_missing(connection: sqlalchemy.Connection, study_id: int) -> None:
    """Touches the running trials that never were, of an older version or of another program.

    Writes only where there is one: on SQLite a write locks the file until the transaction ends.
    """
    touched = sqlalchemy.exists().where(HEARTBEATS.c.trial_id == TRIALS.c.trial_id)
    untouched = sqlalchemy.select(TRIALS.c.trial_id, func.now()).where(
        TRIALS.c.study_id == study_id, _RUNS, ~touched
    )
    if connection.execute(untouched.limit(1)).first():
        connection.execute(HEARTBEATS.insert().from_select(["trial_id", "heartbeat"], untouched))


def _touch(connection: sqlalchemy.Connection, trial_id: int) -> bool:
    update = HEARTBEATS.update().where(HEARTBEATS.c.trial_id == trial_id)
    return connection.execute(update.values(heartbeat=func.now())).rowcount > 0


def _plain(moment: datetime | str) -> datetime:
    """A moment of the database; SQLite gives text, PostgreSQL knows the zone of some."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.replace(tzinfo=None)


class Heartbeat:
    """A thread that says every few seconds that this worker still has its trial.

    Args:
        engine: of the study's database now.
        grace: seconds after which the others give a silent one up.
    """

    def __init__(self, engine: Callable[[], sqlalchemy.Engine], grace: float) -> None:
        self.trial_id: int | None = None  # of the trial in training
        self.grace = grace
        self._engine = engine
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._last = time.monotonic()
        self._steady_since = -math.inf

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
        return now - self._last <= self.grace / 2 and now - self._steady_since > self.grace

    def _run(self) -> None:
        interval = min(_LONGEST, self.grace / _BEATS)
        while not self._stopped.wait(interval):
            try:
                with self._engine().begin() as connection:
                    _touch(connection, self.trial_id or 0)
            except (*STORAGE_ERRORS, OSError):
                continue  # whoever works with the database finds out, too
            now = time.monotonic()
            if now - self._last > self.grace / 2:
                self._steady_since = now
            self._last = now
