"""A worker's sign of life, beside whatever it does: see `nas.study.ownership`."""

import threading
import time
from collections.abc import Callable

import sqlalchemy

from nas.study import ownership
from nas.study.request import GRACE
from nas.study.storage import STORAGE_ERRORS

_BEATS = 6  # in a grace period
_LONGEST = 10.0  # seconds between two


class Heart:
    """A thread that says every few seconds that this worker still has its trial.

    Args:
        engine: of the study's database now.
        worker: the name of this worker.
        grace: seconds after which the others give a silent one up.
    """

    def __init__(
        self, engine: Callable[[], sqlalchemy.Engine], worker: str, grace: float = GRACE
    ) -> None:
        self.trial_id: int | None = None  # of the trial in training
        self.grace = grace
        self._engine = engine
        self._worker = worker
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._last = self._steady_since = time.monotonic()
        self._irregular = False

    def __enter__(self) -> "Heart":
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
                    ownership.beat(connection, self.trial_id or 0, self._worker)
            except (*STORAGE_ERRORS, OSError):
                continue  # whoever works with the database finds out, too
            now = time.monotonic()
            if now - self._last > self.grace / 2:
                self._steady_since, self._irregular = now, True
            self._last = now
