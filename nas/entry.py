"""Where every command begins: signals are heard before anything large is imported."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from nas.runtime import signals


def run(command: str | None = None) -> NoReturn:
    """Runs the command that the arguments name, or this one with them, and ends the process.

    It ends without Python's own tidying up: that would take half a second after torch, wait for
    threads that a signal has left behind, and print a traceback of a signal that comes meanwhile.
    """
    with signals.listening():
        from nas.commands import main

        status = main(sys.argv[1:] if command is None else [command, *sys.argv[1:]])
        try:
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError):  # full, or closed: then nothing was asked for
            status = status or int(sys.stdout is not None)
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os._exit(status)
