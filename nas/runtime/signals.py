"""Ctrl-C and SIGTERM: noted when they come, acted on where the program looks for them.

A handler that raises does so between any two instructions, and Python drops what is raised in a
destructor or a callback. Here a handler only sets a flag: `check` raises KeyboardInterrupt at
points that are safe, and `sleep` and `result` do so as soon as a signal ends their wait. A second
signal ends the process at once, as SIGKILL would.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

INTERRUPTED = 130
"""The exit status of a process that a signal has ended."""

LOOK = 0.2
"""Seconds between two looks for a signal of whoever waits for something else."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_AND_THE_SAME = 0.1  # seconds: a launcher passes on what a terminal has sent to all
_SHOW_CURSOR = b"\x1b[?25h\n"  # which a live display hides

_Result = TypeVar("_Result")


class _Listener:
    """What has been heard since listening began."""

    def __init__(self, *, second_ends: bool) -> None:
        self.came = False
        self.raised = False  # `check` has raised
        self.woken = threading.Event()
        self._second_ends = second_ends
        self._before: dict[signal.Signals, Any] = {}

    def start(self) -> None:
        """Takes the place of the handlers of signals, but for those that are ignored."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        # In a thread of its own, since a handler must take no lock, and since the main thread,
        # where Python runs handlers, may be in a call that takes long.
        self._thread = threading.Thread(target=self._read, args=(ours,), name="signals")
        self._thread.daemon = True
        self._thread.start()
        self._socket = theirs
        unheard = (signal.SIG_IGN, None)  # None: it is not Python's, and could not be put back
        for number in _SIGNALS:
            if signal.getsignal(number) not in unheard:
                self._before[number] = signal.signal(number, self._handle)
        self._fd_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def stop(self) -> None:
        """Puts the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._socket.close()
        self._thread.join()

    def note(self) -> None:
        """Notes that the program is to end, and wakes it."""
        self.came = True
        self.woken.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    def _read(self, signals: socket.socket) -> None:
        """Reads the number of each signal, which Python writes whatever the main thread does."""
        first = None
        with signals:
            while byte := signals.recv(1):
                if byte[0] not in self._before:
                    continue
                now = time.monotonic()
                if first is None:
                    first = now
                    self.note()
                elif self._second_ends and now - first > _ONE_AND_THE_SAME:
                    _end_at_once()


_listener: _Listener | None = None


@contextmanager
def listening(*, second_ends: bool = True) -> Iterator[None]:
    """A block in which signals are noted for `check`; one in another shares the outer one's.

    Signals that are ignored stay so. Outside the main thread, where Python handles no signals,
    nothing changes. A second signal ends the process at once, if it may.

    Raises:
        KeyboardInterrupt: at its end, for a signal that nobody has acted on.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    listener = _Listener(second_ends=second_ends)
    listener.start()
    _listener = listener
    try:
        yield
        check()
    finally:
        _listener = None
        listener.stop()


def check() -> None:
    """Raises KeyboardInterrupt if a signal has come; only once, so that cleaning up may check, too.

    In the main thread of a process that is `listening`; elsewhere it does nothing.
    """
    listener = _listener
    if listener is None or not listener.came or listener.raised:
        return
    if threading.current_thread() is threading.main_thread():
        listener.raised = True
        raise KeyboardInterrupt


def has_come() -> bool:
    """Whether a signal has come, of whatever thread that is asked; `check` acts on it."""
    listener = _listener
    return listener is not None and listener.came


def sleep(seconds: float) -> None:
    """Waits so long, or until a signal comes.

    Raises:
        KeyboardInterrupt: as `check`.
    """
    check()
    listener = _listener
    if listener is None or listener.raised:
        time.sleep(seconds)
    else:
        listener.woken.wait(seconds)
        check()


def result(future: "Future[_Result]") -> _Result:
    """What a future of another thread gives, waited for.

    Raises:
        KeyboardInterrupt: as `check`; the thread goes on.
    """
    while not future.done():
        check()
        try:
            return future.result(LOOK)
        except TimeoutError:
            continue  # if it is the work's own it is raised below
    return future.result()


def stop() -> None:
    """Does what a first signal does, from any thread; however often, it is no second one."""
    listener = _listener
    if listener is not None:
        listener.note()


def _end_at_once() -> None:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(INTERRUPTED)
