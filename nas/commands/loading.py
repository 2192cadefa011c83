"""A sign of life while what a command needs is imported, and the log that it will write."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from nas.errors import RequestError
from nas.text import error_lines, printable


@contextmanager
def loading(what: str, *, quiet: bool = False) -> Iterator[None]:
    """A sign of life on a terminal during a block that takes seconds."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what, spinner="line"):  # ASCII, unlike others
        yield


@contextmanager
def log_file(path: Path | None) -> Iterator[TextIO | None]:
    """The file of `--log-file`, to which lines are added; the last says which error ends the block.

    Raises:
        RequestError: it cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        log = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise RequestError(
            f"--log-file: expected a file that can be written, got {path}: {error.strerror}"
        ) from error
    try:
        yield log
    except BaseException as error:
        ended = isinstance(error, KeyboardInterrupt)
        with suppress(OSError, ValueError):  # ValueError: it could not be written, and was closed
            write_log(log, "interrupted" if ended else "\n".join(error_lines(error)))
        raise
    finally:
        with suppress(OSError):
            log.close()


def write_log(log: TextIO, text: str) -> None:
    """Adds lines to a log, each with its time.

    Raises:
        OSError: it cannot be written.
    """
    now = datetime.now().isoformat(sep=" ", timespec="seconds")
    log.writelines(f"{now}  {printable(line)}\n" for line in text.splitlines())
