"""Several searches of one study on this machine, each a process, followed as one.

The parent makes the study, starts the workers and hands on what they say; it trains nothing. A
worker is a search like any other: what it trains is decided in claims (`nas.study.claims`), so the
parent need not share anything out, and a worker that dies is like any process that does.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from nas.architecture import Architecture
from nas.counting import Count
from nas.data.catalogue import DataError
from nas.study.devices import find_device
from nas.study.interrupts import Interrupts
from nas.study.location import StudyError
from nas.study.observer import Observer
from nas.study.plan import SearchEnding, SearchFailed
from nas.study.records import TrialRecord
from nas.study.request import RequestError, SearchRequest
from nas.training.loop import EpochResult

_PATIENCE = 60.0  # seconds that workers have to end after a signal
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Post:
    """Where one worker works."""

    device: str  # as in `SearchRequest`
    environment: Mapping[str, str]  # what its process has beside the parent's variables


def posts_for(request: SearchRequest) -> list[Post]:
    """A place for each worker: a GPU of its own, or its share of the CPU's threads.

    Raises:
        RequestError: there are not enough GPUs.
    """
    device, workers = find_device(request.device), request.workers
    if device.type != "cuda":
        threads = str(threads_of_each(workers))
        return [Post(request.device, dict.fromkeys(_THREADS, threads))] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",")[:count] if visible else [str(i) for i in range(count)]
    if device.index is not None:
        names = [names[device.index]]
    if workers > len(names) * request.per_gpu:
        raise RequestError(
            f"--workers: expected at most {len(names) * request.per_gpu}, {request.per_gpu} for "
            f"each of {len(names)} {'GPU' if len(names) == 1 else 'GPUs'}, got {workers}; "
            "--per-gpu puts more on one"
        )
    return [Post("cuda", {"CUDA_VISIBLE_DEVICES": names[i % len(names)]}) for i in range(workers)]


def threads_of_each(workers: int) -> int:
    """How many of the CPU's threads each of some workers has."""
    return max(1, torch.get_num_threads() // workers)


class Crew:
    """The workers of one search.

    Args:
        request: of the search.
        observer: hears of all of them as if they were one.
        told: numbers of ended trials that the observer knows.
    """

    def __init__(self, request: SearchRequest, observer: Observer, told: frozenset[int]) -> None:
        self.newly_trained = 0
        self._request = request
        self._observer = observer
        self._told = set(told)
        self._names: dict[int, str] = {}  # of workers that are at it, as in trials
        self._endings: list[SearchEnding] = []
        self._failures: list[str] = []
        self._checkpoint_failed = False

    def run(self, interrupts: Interrupts) -> SearchEnding | None:
        """Has the workers search until all have ended.

        Returns:
            How those ended that reached an end; None when none did.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, once the workers have ended.
        """
        with _started(self._request) as workers:
            try:
                with interrupts.allowed():
                    self._follow(workers)
            except KeyboardInterrupt:
                for _, process in workers:
                    process.terminate()
                self._follow(workers, _PATIENCE, asked_to_end=True)
                raise
        best = (SearchEnding.DONE, SearchEnding.EXHAUSTED, SearchEnding.TIMEOUT)
        return next((ending for ending in best if ending in self._endings), None)

    @property
    def failure(self) -> str:
        """Why the workers that reached no end did not."""
        return "; ".join(dict.fromkeys(self._failures)) or "no worker ended well"

    def _follow(
        self,
        workers: Sequence[tuple[Connection, SpawnProcess]],
        patience: float | None = None,
        *,
        asked_to_end: bool = False,
    ) -> None:
        """Hands on what the workers say until all have ended, or are silent for too long."""
        expected = (0, -signal.SIGTERM) if asked_to_end else (0,)  # it may come before the search
        open_ends = {channel: (i, process) for i, (channel, process) in enumerate(workers)}
        open_ends = {c: found for c, found in open_ends.items() if not c.closed}
        while open_ends:
            ready = wait(list(open_ends), patience)
            if not ready:
                return
            for channel in ready:
                assert isinstance(channel, Connection)
                number, process = open_ends[channel]
                try:
                    self._hear(number, *channel.recv())
                except (EOFError, OSError):  # its process has ended
                    del open_ends[channel]
                    channel.close()
                    process.join()
                    self._names.pop(number, None)
                    assert process.exitcode is not None
                    if process.exitcode not in expected:
                        self._fail(number, _end_in_words(process.exitcode))

    def _hear(self, number: int, event: str, *said: Any) -> None:
        if event == "name":
            self._names[number] = said[0]
        elif event == "ending":
            self._endings.append(said[0])
        elif event == "failure":
            self._fail(number, said[0])
        elif event == "checkpoint_failed":
            if not self._checkpoint_failed:
                self._checkpoint_failed = True
                self._observer.checkpoint_failed(*said)
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

    def _fail(self, number: int, reason: str) -> None:
        reason = f"worker {number + 1} {reason}"
        self._failures.append(reason)
        self._observer.worker_failed(reason)


@contextmanager
def _started(request: SearchRequest) -> Iterator[list[tuple[Connection, SpawnProcess]]]:
    """A process for each worker, and the end of its channel; none is left afterwards."""
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[Connection, SpawnProcess]] = []
    try:
        for i, post in enumerate(posts_for(request)):
            ours, theirs = context.Pipe(duplex=False)
            alone = replace(request, workers=1, device=post.device)
            process = context.Process(
                target=_work, args=(alone, theirs), name=f"worker {i + 1}", daemon=False
            )
            with _environment(post.environment), _ignoring_ctrl_c():
                process.start()
            theirs.close()
            workers.append((ours, process))
        yield workers
    finally:
        for channel, process in workers:
            channel.close()
            if process.is_alive():
                process.kill()
            process.join()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """What is started in the block does not hear a terminal's Ctrl-C; its parent passes it on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_in_words(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed ({signal.Signals(-status).name})"
    return f"was killed (signal {-status})"


class _Relay(Observer):
    """Sends what a worker says to the parent; the parent's end is the worker's, too."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def say(self, event: str, *said: object) -> None:
        try:
            self._channel.send((event, *said))
        except (BrokenPipeError, ConnectionError) as error:
            raise KeyboardInterrupt from error

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

    def database_gone(self, reason: str, patience: float) -> None:
        self.say("database_gone", reason, patience)

    def database_back(self) -> None:
        self.say("database_back")

    def named(self, name: str) -> None:
        self.say("name", name)


def _work(request: SearchRequest, channel: Connection) -> None:
    """What a worker's process does."""
    import optuna

    from nas.study.search import search_alone  # which starts crews

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    relay = _Relay(channel)
    with suppress(KeyboardInterrupt):
        try:
            relay.say("ending", search_alone(request, relay).ending)
        except (RequestError, StudyError, DataError, SearchFailed) as error:
            relay.say("failure", f"failed: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
