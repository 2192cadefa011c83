"""Where every command begins: signals are heard before anything large is imported."""

import os
import sys
from typing import NoReturn

from nas.runtime import signals, streams
from nas.runtime.waiting import passive_waiting


def run(command: str | None = None) -> NoReturn:
    """Runs the command that the arguments name, or this one with them, and ends the process.

    It ends without Python's own tidying up: that would take half a second after torch, wait for
    threads that a signal has left behind, and print a traceback of a signal that comes meanwhile.
    """
    streams.protect()
    os.environ.update(passive_waiting())  # before torch is imported
    with signals.listening():
        from nas.commands import main

        status = main(sys.argv[1:] if command is None else [command, *sys.argv[1:]])
        sys.stdout.flush()
        error = streams.stdout_error()
        if error is not None and not isinstance(error, BrokenPipeError):  # as in `nas count | head`
            print(f"error: stdout could not be written: {error.strerror}", file=sys.stderr)
            status = status or 1
        sys.stderr.flush()
        os._exit(status)
