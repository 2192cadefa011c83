"""Processes of one command on this machine: started, heard and ended together.

Each is a fresh interpreter (spawned) in a slot of its own. What it reports comes through a pipe;
Ctrl-C in the terminal reaches their parent, which passes it on.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from nas.errors import RequestError
from nas.runtime import signals, streams
from nas.runtime.devices import find_device
from nas.runtime.machine import free_bytes
from nas.runtime.waiting import passive_waiting
from nas.text import plural

_PATIENCE = 60.0  # seconds that workers have to end after a signal
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LEAST_MEMORY = 390_000_000  # bytes of its own that a process has before its first step
_UNGUARDED = 70  # exit status of a worker whose program begins the same command again


def check_is_no_import() -> None:
    """Ends a worker in which a program's main module begins a command when it is imported.

    A spawned process imports that module before it gets its task. Its parent, which knows the
    status, says what is wrong; a traceback of each worker would hide that.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(_UNGUARDED)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one worker works."""

    device: str  # as `--device` names it
    environment: Mapping[str, str]  # what its process has beside the parent's variables


def check_workers(device_name: str, workers: int | str, per_gpu: int, *, useful: int) -> None:
    """Refuses workers that this machine has no place for, before anything is read.

    Args:
        device_name: as for `slots_for`.
        workers: how many are asked for, or auto, which is always right.
        per_gpu: of them, at most, on one GPU.
        useful: more than so many would not be started.

    Raises:
        RequestError: there are not enough GPUs, or less memory than they need to start.
    """
    if isinstance(workers, str):
        return
    slots_for(device_name, workers, per_gpu)
    free = free_bytes()
    most = max(1, free // _LEAST_MEMORY)
    if min(workers, useful) > most:
        raise RequestError(
            f"--workers: expected at most {most}, since each takes {_LEAST_MEMORY / 1e9:.2f} GB of "
            f"memory or more and {free / 1e9:.1f} GB are free, got {workers}"
        )


def slots_for(device_name: str, workers: int, per_gpu: int, threads: int = 1) -> list[Slot]:
    """A place for each worker: a GPU of its own, and its share of the CPU's threads.

    Args:
        device_name: auto, cpu, cuda or cuda:N; without a number every GPU is used.
        workers: how many.
        per_gpu: of them, at most, on one GPU.
        threads: of the CPU, for each.

    Raises:
        RequestError: there are not enough GPUs.
    """
    device = find_device(device_name)
    environment = {**dict.fromkeys(_THREADS, str(threads)), **passive_waiting()}
    if device.type != "cuda":
        return [Slot(str(device), environment)] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",")[:count] if visible else [str(i) for i in range(count)]
    if device_name not in ("auto", "cuda"):
        names = [names[device.index]]
    if workers > len(names) * per_gpu:
        raise RequestError(
            f"--workers: expected at most {len(names) * per_gpu}, {per_gpu} for "
            f"each of {plural(len(names), 'GPU')}, got {workers}; "
            "--per-gpu puts more on one"
        )
    of_gpu = [{"CUDA_VISIBLE_DEVICES": names[i % len(names)]} for i in range(workers)]
    return [Slot("cuda:0", {**environment, **gpu}) for gpu in of_gpu]


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's way to hand an event to its parent."""

    channel: Connection

    def __call__(self, event: object) -> None:
        """Sends an event, which must be picklable.

        Raises:
            KeyboardInterrupt: when the parent is gone; the parent's end is the worker's, too. Only
                once, as `nas.runtime.signals.check`.
        """
        try:
            self.channel.send(event)
        except ConnectionError:
            signals.stop()
            signals.check()


@dataclass(frozen=True, slots=True)
class WorkerError:
    """A worker has failed, with an error that says why."""

    reason: str


OnReport = Callable[[int, Any], None]
"""Takes the number of a worker and an event of it."""

OnEnd = Callable[[int, str | None], None]
"""Takes the number of a worker that is gone, and how it ended, if that was not well."""


def run_workers(
    work: Callable[[Any, Report], None],
    tasks: Sequence[Any],
    slots: Sequence[Slot],
    on_report: OnReport,
    on_end: OnEnd,
) -> None:
    """Has a process at every slot do `work(task, report)`, and returns when all have ended.

    `work` is a function of a module, which a KeyboardInterrupt ends without a word. There is one
    task for each slot, which must be picklable.

    Raises:
        RequestError: the program's main module begins the work again when a worker imports it.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the workers have ended.
    """
    with _started(work, tasks, slots) as workers:
        try:
            _follow(workers, on_report, on_end)
        except KeyboardInterrupt:
            for _, process in workers:
                process.terminate()
            _follow(workers, on_report, on_end, asked_to_end=True)
            raise


def _follow(
    workers: Sequence[tuple[Connection, SpawnProcess]],
    on_report: OnReport,
    on_end: OnEnd,
    *,
    asked_to_end: bool = False,
) -> None:
    """Hands on what the workers report until all have ended, or once asked are silent too long."""
    expected = (0, -signal.SIGTERM) if asked_to_end else (0,)  # it may come before any work
    open_ends = {c: (i, process) for i, (c, process) in enumerate(workers) if not c.closed}
    heard = time.monotonic()
    while open_ends:
        signals.check()
        ready = wait(list(open_ends), signals.LOOK)
        if ready:
            heard = time.monotonic()
        elif asked_to_end and time.monotonic() - heard > _PATIENCE:
            return
        for channel in ready:
            assert isinstance(channel, Connection)
            number, process = open_ends[channel]
            try:
                event = channel.recv()
            except (EOFError, OSError):  # its process has ended
                del open_ends[channel]
                channel.close()
                while process.is_alive():
                    process.join(signals.LOOK)
                    signals.check()
                code = process.exitcode
                assert code is not None
                signals.check()  # the worker may have had the same
                if code == _UNGUARDED:
                    raise RequestError(
                        "expected a program that starts its work under "
                        '`if __name__ == "__main__":`, which workers need, since each imports the '
                        "program; got one that starts it on import; add that line, or use "
                        "workers=1"
                    ) from None
                on_end(number, None if code in expected else _end_in_words(code))
            else:
                on_report(number, event)


@contextmanager
def _started(
    work: Callable[[Any, Report], None], tasks: Sequence[Any], slots: Sequence[Slot]
) -> Iterator[list[tuple[Connection, SpawnProcess]]]:
    """A process for each worker, and the end of its channel; none is left afterwards."""
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[Connection, SpawnProcess]] = []
    try:
        for i, (task, slot) in enumerate(zip(tasks, slots, strict=True)):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(work, task, theirs), name=f"worker {i + 1}", daemon=False
            )
            with _environment(slot.environment), _ctrl_c_blocked():
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
def _ctrl_c_blocked() -> Iterator[None]:
    """What is started in the block does not hear a terminal's Ctrl-C; its parent passes it on.

    Another thread of this process, or this one afterwards, hears a Ctrl-C that comes meanwhile.
    """
    resource_tracker.ensure_running()  # it is started with the first process, and unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_in_words(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed ({signal.Signals(-status).name})"
    return f"was killed (signal {-status})"


def _work(work: Callable[[Any, Report], None], task: Any, channel: Connection) -> None:
    """What a worker's process does."""
    streams.protect()
    # One signal may come twice: to all processes of the command, and passed on by the parent.
    with suppress(KeyboardInterrupt), signals.listening(second_ends=False):
        threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
        work(task, Report(channel))


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    signals.stop()
