"""stdout and stderr that fail nobody: what they cannot take is dropped, and the work goes on.

Python raises an OSError in whatever prints at the moment when a pipe breaks, a terminal goes away
or the disk behind a log is full. There it is taken for an error of the work, or of a file of it.
"""

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """A descriptor that takes everything, as far as the layers above it can tell."""

    error: OSError | None = None  # the first: something was dropped

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            while (written := super().write(data)) is None:  # full, and made not to block
                select.select([], [self], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes


_stdout: _Output | None = None


def protect() -> None:
    r"""Lets nothing that is printed in this process fail; to be called before a file is opened.

    A standard descriptor that is closed becomes the null device: the next file to be opened, a
    database say, would get its number, and what a child process or a library prints.

    What an encoding cannot express is written as Python source would (`\u732b`), as it always is
    on stderr: nothing of it is lost, and two names that differ still do.
    """
    global _stdout
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    _stdout = _Output(1, "w", closefd=False)
    sys.stdout = _text(_stdout, like=sys.stdout)
    sys.stderr = _text(_Output(2, "w", closefd=False), like=sys.stderr)


def stdout_error() -> OSError | None:
    """Why something that was written to stdout is lost; None if nothing is, or nobody knows."""
    return _stdout.error if _stdout else None


def _text(output: _Output, *, like: TextIO | None) -> TextIO:
    """A text stream with the encoding and the buffering of one that Python has made."""
    by_line = isinstance(like, io.TextIOWrapper) and (like.line_buffering or like.write_through)
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=like.encoding if like else "utf-8",
        errors="backslashreplace",
        line_buffering=by_line,
    )
