"""Several searches of one study on this machine, each a process, followed as one.

The parent makes the study, starts the workers and hands on what they say; it trains nothing. A
worker is a search like any other: the scheduler decides what it trains, so the
parent need not share anything out, and a worker that dies is like any process that does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nas.runtime.pool import Say, run_workers, slots_for
from nas.search.events import Observer
from nas.search.plan import SearchEnding
from nas.search.request import SearchRequest
from nas.study.location import OpenFile


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What one worker is to do."""

    request: SearchRequest
    file: OpenFile | None


class Workers:
    """The workers of one search.

    Args:
        work: what each does in its process.
        request: of the search.
        observer: hears of all of them as if they were one.
        told: numbers of ended trials that the observer knows.
        file: of an SQLite study.
    """

    def __init__(
        self,
        work: Callable[[WorkerTask, Say], None],
        request: SearchRequest,
        observer: Observer,
        told: frozenset[int],
        file: OpenFile | None,
    ) -> None:
        self.newly_trained = 0
        self._work = work
        self._request = request
        self._file = file
        self._observer = observer
        self._told = set(told)
        self._names: dict[int, str] = {}  # of workers that are at it, as in trials
        self._endings: list[SearchEnding] = []
        self._failures: list[str] = []
        self._said_once: set[str] = set()

    def run(self) -> SearchEnding | None:
        """Has the workers search until all have ended.

        Returns:
            How those ended that reached an end; None when none did.

        Raises:
            RequestError: there are not enough GPUs.
            KeyboardInterrupt: on Ctrl-C or SIGTERM, once the workers have ended.
        """
        request = self._request
        slots = slots_for(request.device, request.workers, request.per_gpu)
        requests = [replace(request, workers=1, device=slot.device) for slot in slots]
        tasks = [WorkerTask(one, self._file) for one in requests]
        run_workers(self._work, tasks, slots, self)
        best = (SearchEnding.DONE, SearchEnding.EXHAUSTED, SearchEnding.TIMEOUT)
        return next((ending for ending in best if ending in self._endings), None)

    @property
    def failure(self) -> str:
        """Why the workers that reached no end did not."""
        return "; ".join(dict.fromkeys(self._failures)) or "no worker ended well"

    def hear(self, number: int, event: str, *said: Any) -> None:
        """Hands on what a worker said."""
        if event == "name":
            self._names[number] = said[0]
        elif event == "ending":
            self._endings.append(said[0])
        elif event == "failure":
            self._fail(number, said[0])
        elif event in ("checkpoint_failed", "capture_failed"):
            if event not in self._said_once:
                self._said_once.add(event)
                getattr(self._observer, event)(*said)
        elif event in ("trial_ended", "ended_elsewhere"):
            (trial,) = said
            own = event == "trial_ended"
            # What a worker of ours has ended it says itself, unless it was killed at it.
            if trial.number in self._told or (not own and trial.worker in self._names.values()):
                return
            self._told.add(trial.number)
            self.newly_trained += own and trial.outcome.counts
            getattr(self._observer, event)(trial)
        else:
            getattr(self._observer, event)(*said)

    def ended(self, number: int, reason: str | None) -> None:
        """Notes that a worker is gone, and tells it if it died."""
        self._names.pop(number, None)
        if reason is not None:
            self._fail(number, reason)

    def _fail(self, number: int, reason: str) -> None:
        reason = f"worker {number + 1} {reason}"
        self._failures.append(reason)
        self._observer.worker_failed(reason)
