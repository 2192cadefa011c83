"""A sign of life while what a command needs is imported, and the log that it will write."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nas.errors import RequestError


@contextmanager
def loading(what: str, *, quiet: bool = False) -> Iterator[None]:
    """A sign of life on a terminal during a block that takes seconds."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what, spinner="line"):  # ASCII, unlike others
        yield


def open_log(path: Path | None) -> TextIO | None:
    """The file of `--log-file`, to which lines are added.

    Raises:
        RequestError: it cannot be written.
    """
    if path is None:
        return None
    try:
        return path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise RequestError(
            f"--log-file: expected a file that can be written, got {path}: {error.strerror}"
        ) from error
