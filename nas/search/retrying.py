"""A database that is gone for a while: tried again until it is back, or patience ends."""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from nas.runtime import signals
from nas.search.events import DatabaseBack, DatabaseGone, OnEvent
from nas.search.plan import SearchFailed
from nas.study.location import StudyGone
from nas.study.storage import STORAGE_ERRORS, first_line
from nas.study.store import Store

PATIENCE = 120.0  # seconds without the database after which a search ends
_FIRST, _LONGEST = 0.5, 10.0  # seconds between two attempts: twice as many each time

_Answer = TypeVar("_Answer")


class Retrying:
    """Does a piece of work on a database again when the database was gone.

    The work must be all or nothing, and the same when it is done twice: an answer may be lost
    after all was written.

    Args:
        store: of the study, open.
        on_event: hears when the database is gone and back.
        patience: seconds without it after which the search ends.
    """

    def __init__(
        self,
        store: Store,
        on_event: OnEvent,
        patience: float = PATIENCE,
    ) -> None:
        self._store = store
        self._on_event = on_event
        self._patience = patience

    def __call__(self, work: Callable[[], _Answer]) -> _Answer:
        """What the work on the database returns.

        Raises:
            SearchFailed: the database stayed away.
            KeyboardInterrupt: a signal came meanwhile.
        """
        try:
            return work()
        except STORAGE_ERRORS as error:
            if not self._may_come_back(error):
                raise
            self._on_event(DatabaseGone(first_line(error), self._patience))
            last: BaseException = error
        deadline = time.monotonic() + self._patience
        pause = _FIRST
        while time.monotonic() < deadline:
            signals.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            try:
                self._store.renew()
                answer = work()
            except STORAGE_ERRORS as error:
                if not self._may_come_back(error):
                    raise
                last = error
                continue
            self._on_event(DatabaseBack())
            return answer
        raise SearchFailed(
            f"the database did not answer for {self._patience:.0f} seconds: {first_line(last)}; "
            "what the study holds is kept, and the same command continues"
        )

    def _may_come_back(self, error: BaseException) -> bool:
        """Whether it is a matter of time; a file that is damaged or full stays so."""
        chain: BaseException | None = error
        while chain is not None:
            if isinstance(chain, (DataError, IntegrityError, ProgrammingError, StudyGone)):
                return False
            if self._store.is_file and "locked" in str(chain):
                return True
            chain = chain.__cause__
        return not self._store.is_file
