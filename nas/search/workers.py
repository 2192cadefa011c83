"""Several searches of one study on this machine, each a process, followed as one.

The parent makes the study, starts the workers and hands on their events; it trains nothing. A
worker is a search like any other: the scheduler decides what it trains, so the parent need not
share anything out, and a worker that dies is like any process that does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from nas.architecture import Architecture, ImageInput
from nas.runtime.machine import Share, free_bytes, usable_cores, workers_for
from nas.runtime.pool import Report, WorkerError, run_workers, slots_for
from nas.search.events import (
    CaptureFailed,
    CheckpointFailed,
    EndedElsewhere,
    Event,
    OnEvent,
    TrialEnded,
    TrialStarted,
    Waiting,
    WorkerFailed,
)
from nas.search.plan import SearchEnding
from nas.search.request import SearchRequest
from nas.study.location import OpenFile
from nas.study.records import DIED

_IN_TURN = 5  # designs for each worker, by default, so that what is proposed is learnt from others


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What one worker is to do."""

    request: SearchRequest
    presets: Mapping[str, Architecture]  # as the parent found them; the request names none
    file: OpenFile | None


@dataclass(frozen=True, slots=True)
class WorkerNamed:
    """A worker has the name that it has in its trials."""

    name: str


@dataclass(frozen=True, slots=True)
class WorkerDone:
    """A worker has ended as a search does."""

    ending: SearchEnding


class Workers:
    """The workers of one search.

    Args:
        work: what each does in its process.
        request: of each.
        presets: designs to train first, by name.
        number: of workers.
        on_event: gets the events of all of them as if they were one.
        known: numbers of ended trials that it knows.
        file: of an SQLite study.
    """

    def __init__(
        self,
        work: Callable[[WorkerTask, Report], None],
        request: SearchRequest,
        presets: Mapping[str, Architecture],
        number: int,
        on_event: OnEvent,
        known: frozenset[int],
        file: OpenFile | None,
    ) -> None:
        self.newly_trained = 0
        self._work = work
        self._request = request
        self._presets = presets
        self._file = file
        self._on_event = on_event
        self._known = set(known)
        self._names: dict[int, str] = {}  # of workers that are at it, as in trials
        self._active = set(range(number))
        self._waiting: set[int] = set()  # of those, the ones that wait for others
        self._endings: list[SearchEnding] = []
        self._failures: list[str] = []
        self._once: set[type[Event]] = set()  # kinds of events that are handed on once

    def run(self) -> SearchEnding | None:
        """Has the workers search until all have ended.

        Returns:
            How those ended that reached an end; None when none did.

        Raises:
            RequestError: there are not enough GPUs.
            KeyboardInterrupt: on Ctrl-C or SIGTERM, once the workers have ended.
        """
        request = self._request
        slots = slots_for(request.device, len(self._active), request.per_gpu, request.threads or 1)
        requests = [replace(request, device=slot.device) for slot in slots]
        tasks = [WorkerTask(one, self._presets, self._file) for one in requests]
        run_workers(self._work, tasks, slots, self._on_report, self._on_end)
        best = (
            SearchEnding.DONE,
            SearchEnding.EXHAUSTED,
            SearchEnding.TIME_UP,
            SearchEnding.TIMEOUT,
        )
        return next((ending for ending in best if ending in self._endings), None)

    @property
    def failure(self) -> str:
        """Why the workers that reached no end did not."""
        return "; ".join(dict.fromkeys(self._failures)) or "no worker finished without an error"

    def _on_report(
        self, number: int, event: Event | WorkerNamed | WorkerDone | WorkerError
    ) -> None:
        """Hands on an event of a worker as one of the whole search."""
        match event:
            case WorkerNamed(name):
                self._names[number] = name
            case WorkerDone(ending):
                self._endings.append(ending)
                self._active.discard(number)
            case WorkerError(reason):
                self._fail(number, reason)
            case Waiting():
                self._waiting.add(number)
                if self._waiting >= self._active:  # else for others of this search
                    self._on_event(event)
            case CheckpointFailed() | CaptureFailed():
                if type(event) not in self._once:
                    self._once.add(type(event))
                    self._on_event(event)
            case TrialEnded(trial):
                if trial.number not in self._known:
                    self._known.add(trial.number)
                    self.newly_trained += trial.counts
                    self._on_event(event)
            case EndedElsewhere(trial):
                # The end of a trial of ours comes from its worker, unless that is gone.
                others = [name for worker, name in self._names.items() if worker != number]
                gone = trial.worker not in others or (trial.reason or "").startswith(DIED)
                if trial.number not in self._known and gone:
                    self._known.add(trial.number)
                    self._on_event(event)
            case _:
                if isinstance(event, TrialStarted):
                    self._waiting.discard(number)
                self._on_event(event)

    def _on_end(self, number: int, reason: str | None) -> None:
        """Notes that a worker is gone, and how, if it died."""
        self._names.pop(number, None)
        self._active.discard(number)
        if reason is not None:
            self._fail(number, reason)

    def _fail(self, number: int, reason: str) -> None:
        reason = f"worker {number + 1} {reason}"
        self._failures.append(reason)
        self._on_event(WorkerFailed(reason))


def share_for(
    request: SearchRequest, input: ImageInput, images: int, device: torch.device, designs: int
) -> Share:
    """How many workers a search on so many images has for so many designs, and their threads."""
    asked = request.workers
    return workers_for(
        asked if isinstance(asked, str) else min(asked, max(1, designs)),  # more would only wait
        request.threads,
        device=device,
        input=input,
        images=images,
        useful=designs // _IN_TURN,
        cores=usable_cores(),
        free=free_bytes(),
    )
