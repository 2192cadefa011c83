"""Files that are whole or not there: written under another name, then renamed.

A file or folder that is not finished is locked by its writer. The lock goes with the process, so
that one without a lock is left from a writer that was killed, and whoever opens the folder next
removes it.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

_UNFINISHED = f".*.{'[0-9a-f]' * 32}.nas.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well.

    When the block or the disk fails, nothing of it is left and an older file is unchanged. What
    killed writers have left in the folder is removed first.

    Raises:
        OSError: the file cannot be written.
    """
    with _unfinished(path, Path.touch) as unfinished:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def replacing_all(contents: Mapping[Path, bytes]) -> None:
    """Writes several files, of which none takes its place before all are on the disk.

    They take their places in the given order, one right after another.

    Raises:
        OSError: one cannot be written; nothing of any is left and the older files are unchanged.
    """
    with ExitStack() as stack:
        for path in reversed(list(contents)):  # the last one entered is renamed first
            file = stack.enter_context(replacing(path))
            file.write(contents[path])
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder, for this user only, that is removed with all its files when the block ends.

    What killed processes have left in `parent` is removed first; `name` is a part of its name.

    Raises:
        OSError: it cannot be made.
    """
    with _unfinished(parent / name, lambda path: path.mkdir(mode=0o700)) as folder:
        yield folder


def cache_folder() -> Path | None:
    """Our folder in the user's caches, by the XDG specification; None where no home is known."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The specification ignores relative paths; a "~" stays where no home is known.
    path = given if os.path.isabs(given) else os.path.expanduser("~/.cache")
    return Path(path, "nas") if os.path.isabs(path) else None


def remove_unfinished(folder: Path) -> None:
    """Removes what killed writers have left in a folder; files of living ones stay."""
    for path in left_unfinished(folder):
        _remove(path)


def left_unfinished(folder: Path) -> Iterator[Path]:
    """What killed writers have left in a folder, each locked until the next one is asked for.

    Where nobody can tell, on file systems without locks, it is nothing.
    """
    paths: list[Path] = []
    with suppress(OSError):
        paths = sorted(folder.glob(_UNFINISHED))
    for path in paths:
        try:
            lock = _lock(path)
        except OSError:
            continue
        try:
            yield path
        finally:
            os.close(lock)


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder beside `path`, locked until the block ends and then removed."""
    remove_unfinished(path.parent)
    while True:
        unfinished = path.with_name(f".{path.name[:100]}.{uuid4().hex}.nas.tmp")
        make(unfinished)
        try:
            lock = _lock(unfinished)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process took it for one that was left, before it was locked
        except OSError:
            lock = None
        if lock is None or unfinished.exists():
            break
        os.close(lock)  # as above
    try:
        yield unfinished
    finally:
        _remove(unfinished)
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int:
    """Opens and locks a file or folder, until it is closed or the process ends.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: it is not there or a link, it cannot be opened, or nothing can be locked here.
    """
    access = os.O_RDONLY if path.is_dir() else os.O_RDWR  # network file systems lock for writers
    descriptor = os.open(path, access | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
