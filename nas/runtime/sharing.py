"""Processes that share a GPU: a training that has too little memory beside others is tried alone.

Two lock files stand for each GPU. Whoever trains holds the first one, shared, or exclusively to be
alone; whoever asks for it must hold the second one until it is granted. So one that waits to be
alone lets no new training begin, and waits no longer than those that run. The locks are flock(2)'s,
which end with their process.
"""

import fcntl
import os
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.devices import free_memory, is_out_of_memory, with_causes

_POLL = 0.1  # seconds between two attempts to get a lock

T = TypeVar("T")


class GpuLock:
    """The right to train on a GPU, beside others or alone.

    Args:
        name: of the GPU; the same for all processes of this user on this machine.

    Raises:
        RequestError: the lock files cannot be made, or are not this user's.
    """

    def __init__(self, name: str) -> None:
        folder = Path(tempfile.gettempdir())
        self._training = folder / f"nas-{os.getuid()}-{name}.lock"
        self._asking = folder / f"nas-{os.getuid()}-{name}.next.lock"
        for path in (self._training, self._asking):
            try:
                os.close(_opened(path))
            except OSError as error:
                raise RequestError(
                    f"--per-gpu: expected to lock {path}, got: {error.strerror}; remove it, or "
                    "name another folder with TMPDIR"
                ) from error

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """A block in which no other process is alone on the GPU."""
        with ExitStack() as held:
            with _locked(self._asking, fcntl.LOCK_EX):
                held.enter_context(_locked(self._training, fcntl.LOCK_SH))
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which no other process trains on the GPU; not inside `beside_others`."""
        with _locked(self._asking, fcntl.LOCK_EX), _locked(self._training, fcntl.LOCK_EX):
            yield


def lock_of(device: torch.device, workers: int) -> GpuLock | None:
    """The lock of a GPU that so many workers may share; None where there is nothing to share.

    Raises:
        RequestError: the lock cannot be made.
    """
    if workers == 1 or device.type != "cuda":
        return None
    return GpuLock(str(torch.cuda.get_device_properties(device).uuid))


def run_shared(work: Callable[[], T], device: torch.device, lock: GpuLock | None) -> T:
    """Does the work; where that runs out of memory beside others, once more alone on the GPU.

    Raises:
        KeyboardInterrupt: a signal came while others were waited for.
        OSError: a lock file cannot be opened any more.
    """
    if lock is None:
        return work()
    with lock.beside_others():
        try:
            return _leaving_no_memory(work, device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    with lock.alone():
        return _leaving_no_memory(work, device)


def _leaving_no_memory(work: Callable[[], T], device: torch.device) -> T:
    """Does the work, and gives its memory back before the lock lets anyone else use it."""
    try:
        return work()
    except Exception as error:
        for one in with_causes(error):  # their frames hold the tensors
            traceback.clear_frames(one.__traceback__)
        raise
    finally:
        free_memory(device)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    file = _opened(path)
    try:
        while True:
            try:
                fcntl.flock(file, operation | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                signals.sleep(_POLL)
        yield
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    """A lock file in a folder where others may write, too: only a plain file of this user."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    about = os.fstat(file)
    if about.st_uid != os.getuid() or not stat.S_ISREG(about.st_mode):
        os.close(file)
        raise PermissionError(1, "not a file of this user", str(path))
    return file
