"""Ctrl-C and SIGTERM that never land between two writes of a study."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """A block in which SIGTERM raises KeyboardInterrupt, as Ctrl-C does; in the main thread."""
    heard = threading.current_thread() is threading.main_thread()
    if not heard or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interrupts:
    """While it is open, a signal raises KeyboardInterrupt in `allowed` blocks only.

    One that comes elsewhere waits for the next such block; one that is ignored stays so. Outside
    the main thread, where Python delivers no signals, nothing changes.
    """

    def __init__(self) -> None:
        self._allowed = False
        self._pending = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            heard = [s for s in _SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in heard}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A block that a signal may end with KeyboardInterrupt."""
        self.check()
        self._allowed = True
        try:
            yield
        except KeyboardInterrupt:
            self._pending = False  # it has come through
            raise
        finally:
            self._allowed = False

    def hold(self) -> None:
        """Inside `allowed`: from here on a signal waits, until `release` or the next block."""
        self._allowed = False

    def release(self) -> None:
        """Inside `allowed`: ends `hold`, and raises KeyboardInterrupt when a signal is waiting."""
        self.check()
        self._allowed = True

    def check(self) -> None:
        """Raises KeyboardInterrupt when a signal is waiting."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._pending = True  # also if it is raised where Python drops it, as in a destructor
        if self._allowed:
            self._allowed = False  # a second one must not end the clean-up
            raise KeyboardInterrupt
