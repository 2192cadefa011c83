"""Several searches of one study on this machine, each a process, followed as one.

The parent makes the study, starts the workers and hands on what they say; it trains nothing. A
worker is a search like any other: what it trains is decided in claims (`nas.study.claims`), so the
parent need not share anything out, and a worker that dies is like any process that does.
"""

from dataclasses import dataclass, replace
from typing import Any

from nas.architecture import Architecture
from nas.counting import Count
from nas.data.catalogue import DataError
from nas.errors import RequestError
from nas.study.location import OpenFile, StudyError, StudyGone
from nas.study.observer import Observer
from nas.study.plan import SearchEnding, SearchFailed
from nas.study.records import TrialRecord
from nas.study.request import SearchRequest
from nas.study.team import Say, posts_for, run_team
from nas.training.loop import EpochResult


class Crew:
    """The workers of one search.

    Args:
        request: of the search.
        observer: hears of all of them as if they were one.
        told: numbers of ended trials that the observer knows.
        file: of an SQLite study.
    """

    def __init__(
        self,
        request: SearchRequest,
        observer: Observer,
        told: frozenset[int],
        file: OpenFile | None,
    ) -> None:
        self.newly_trained = 0
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
        posts = posts_for(request.device, request.workers, request.per_gpu)
        requests = [replace(request, workers=1, device=post.device) for post in posts]
        tasks = [_Task(one, self._file) for one in requests]
        run_team(_work, tasks, posts, self)
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


class _Relay(Observer):
    """Sends what a search says to the parent."""

    def __init__(self, say: Say) -> None:
        self.say = say

    def trial_started(self, number: int, architecture: Architecture, cost: Count) -> None:
        self.say("trial_started", number, architecture, cost)

    def trial_continued(self, number: int, epochs: int) -> None:
        self.say("trial_continued", number, epochs)

    def epoch_ended(self, number: int, result: EpochResult) -> None:
        self.say("epoch_ended", number, result)

    def trial_ended(self, trial: TrialRecord) -> None:
        self.say("trial_ended", trial)

    def trial_lost(self, number: int) -> None:
        self.say("trial_lost", number)

    def ended_elsewhere(self, trial: TrialRecord) -> None:
        self.say("ended_elsewhere", trial)

    def checkpoint_failed(self, reason: str) -> None:
        self.say("checkpoint_failed", reason)

    def capture_failed(self, reason: str) -> None:
        self.say("capture_failed", reason)

    def database_gone(self, reason: str, patience: float) -> None:
        self.say("database_gone", reason, patience)

    def database_back(self) -> None:
        self.say("database_back")

    def named(self, name: str) -> None:
        self.say("name", name)


@dataclass(frozen=True, slots=True)
class _Task:
    request: SearchRequest
    file: OpenFile | None


def _work(task: _Task, say: Say) -> None:
    """What a worker's process does."""
    import optuna

    from nas.study.search import search_alone  # which starts crews

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        say("ending", search_alone(task.request, _Relay(say), file=task.file).ending)
    except (RequestError, StudyError, DataError, SearchFailed) as error:
        if not isinstance(error.__cause__, StudyGone):  # the parent says that once for all
            reason = "; ".join([str(error), *getattr(error, "__notes__", ())])
            say("failure", f"failed: {reason}")
