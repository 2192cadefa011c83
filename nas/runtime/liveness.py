"""Names of workers, and whether the worker behind a name may still be alive."""

import functools
import hashlib
import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_searches = itertools.count()
_active: set[str] = set()  # of this process


@contextmanager
def worker_name() -> Iterator[str]:
    """A name for a search of this process, alive while the block is.

    Host, process, when that process was started, and the count of searches in that process: the
    number of a process that ended may be given to another one. Last what tells containers and
    machines of one name apart, since process numbers mean nothing from one to the other.
    """
    process = os.getpid()
    started = f"{_started(process)}-{next(_searches)}"
    name = f"{socket.gethostname()}:{process}:{started}@{_place()}"
    _active.add(name)
    try:
        yield name
    finally:
        _active.discard(name)


def is_here(worker: object) -> bool:
    """Whether the search of this name runs, or ran, on this machine."""
    host, _, rest = worker.partition(":") if isinstance(worker, str) else ("", "", "")
    place = rest.partition("@")[2]
    return host == socket.gethostname() and (not place or place == _place())


def is_alive(worker: object) -> bool:
    """Whether the search of this name may still run; one on another machine always may.

    Args:
        worker: as the study has it, which others may have written: anything but a name is gone.
    """
    if not isinstance(worker, str):
        return False
    if not is_here(worker):
        return True
    number, _, started = worker.partition(":")[2].partition(":")
    started = started.partition("@")[0]
    try:
        process = int(number)
    except ValueError:
        return False
    if process == os.getpid():
        return worker in _active
    begun, found = started.partition("-")[0], _started(process)
    return found is not None and (not begun or not found or begun == found)


@functools.cache
def _place() -> str:
    """Tells this machine and its process numbers from others; the same after a restart."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = ""
    try:
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        numbers = 0
    return hashlib.sha256(f"{machine}/{numbers}".encode()).hexdigest()[:8]


def _started(process: int) -> str | None:
    """When a running process was started; None where none has this number.

    On Linux in ticks since the system's start, which no change of the clock moves; elsewhere in
    seconds since 1970. Empty where the system does not tell.
    """
    try:
        found = psutil.Process(process)
        if found.status() == psutil.STATUS_ZOMBIE:  # ended; only its parent has not asked how yet
            return None
        if not psutil.LINUX:
            return str(round(found.create_time()))
        # psutil adds the start of the system as the clock has it, which may be set meanwhile.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return fields.rpartition(")")[2].split()[19]  # the name before ")" may hold spaces
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, ValueError):
        return None  # a number that is none, in a damaged name, counts as one that ended
    except (psutil.AccessDenied, PermissionError):
        return ""
