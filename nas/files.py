"""Files that are whole or not there: written under another name, then renamed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well.

    When the block or the disk fails, nothing of it is left and an older file is unchanged.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name[:100]}.{uuid4().hex}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


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


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Removes what processes that were killed in `replacing` have left of a file, or of all."""
    with suppress(OSError):
        for path in folder.glob(f".{name}.*.tmp"):
            path.unlink(missing_ok=True)
