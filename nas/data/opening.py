"""Files opened as images, with the reason where one cannot be."""

import errno
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from PIL import Image, ImageFile, UnidentifiedImageError

from nas.data.catalogue import DataError
from nas.runtime import signals
from nas.text import in_one_line, printable

# Pillow knows dozens more, and starts other programs for some; those are no formats of photos.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_CHUNK = 64  # files per task of the thread pool

Item = TypeVar("Item")
Result = TypeVar("Result")


class Unreadable(Exception):
    """A file is no readable image; the message is the reason."""


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile.ImageFile]:
    """The image, and what goes wrong in the block with it.

    Raises:
        Unreadable: it is no whole image of one of the formats.
        DataError: the system does not let us read the file.
    """
    try:
        _check_is_file(path)
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except (DataError, Unreadable):
        raise
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0
        raise Unreadable("empty" if empty else "unknown image format") from error
    except Exception as error:  # PIL raises errors of a dozen kinds for broken files
        number = getattr(error, "errno", None)  # of the system; a broken file's offsets are EINVAL
        if isinstance(error, MemoryError) or number not in (None, errno.EINVAL):
            reason = getattr(error, "strerror", None) or "out of memory"
            raise unreadable(path, reason) from error
        reason = in_one_line(error) or type(error).__name__
        if reason.startswith("image file is truncated"):  # and so many bytes
            reason = "truncated"
        raise Unreadable(reason) from error


def unreadable(path: str | os.PathLike[str], reason: str) -> DataError:
    """The error that the system does not let us read a file or folder."""
    return DataError(
        f"{printable(path)}: expected a file or folder that can be read, got: {reason}; check the "
        "path and its permissions"
    )


def _check_is_file(path: str | os.PathLike[str]) -> None:
    """Refuses what is no file, of which a pipe would be waited for, and says what it is."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if leads_nowhere(path):
            raise Unreadable("a broken link") from error
        raise
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise Unreadable(f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def leads_nowhere(path: str | os.PathLike[str]) -> bool:
    """Whether it is a link to what is not there, or to itself."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in _NOWHERE and os.path.islink(path)
    return False


def map_files(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> tuple[dict[int, Result], dict[int, str]]:
    """By index what `function` returns, and why where the item is unreadable; both in order.

    PIL decodes outside the interpreter lock.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    results: dict[int, Result] = {}
    broken: dict[int, str] = {}

    def run(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(items))):
            try:
                results[i] = function(items[i])
            except Unreadable as error:
                broken[i] = str(error)

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images and odd metadata
        chunks = [pool.submit(run, start) for start in range(0, len(items), _CHUNK)]
        try:
            for chunk in chunks:
                signals.result(chunk)
        finally:  # a file that hangs must not hold a signal up
            pool.shutdown(wait=False, cancel_futures=True)
    return dict(sorted(results.items())), dict(sorted(broken.items()))
