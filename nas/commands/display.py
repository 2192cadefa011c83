"""What a command shows while it works: plain lines, a live panel on a terminal, a log."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.text import duration, printable, shortened

_BEAT = 60.0  # seconds without a line after which there is one all the same
_LOOK = 1.0  # seconds between two looks whether that is so
_REFRESH = 2  # times a second that the panel is drawn: each takes milliseconds from a training
_WIDE = 100  # columns from which on bars are longer
_LABEL, _GAP = 6, 2  # columns of a panel's labels, and after each column


class Display(ABC):
    """Lines about something that happens, while a `with` block runs.

    On a terminal there is a panel below them, which is always up to date and goes at the end. Where
    there is none, or in the log, a minute without a line brings one.

    Args:
        console: on stderr.
        quiet: whether only what is important is shown; the log has all.
        log: gets every line with its time.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        console: Console,
        *,
        quiet: bool = False,
        log: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.clock = clock
        self._lock = threading.RLock()  # heartbeats come in a thread of their own
        self._quiet = quiet
        self._log = log
        able = console.is_terminal and not console.is_dumb_terminal
        self.shows_panel = able and not quiet
        self._live: Live | None = None
        self._began = self._last_line = clock()
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @abstractmethod
    def heartbeat(self) -> str:
        """Where things stand, in one line."""

    @abstractmethod
    def panel(self) -> RenderableType:
        """Where things stand, on a terminal; asked for by another thread, which must not wait."""

    @abstractmethod
    def summary(self) -> str:
        """What is finished, as in ``8 of 8: 4 full, 4 stopped``."""

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return self.clock() - self._began

    @property
    def width(self) -> int:
        """Columns there are."""
        return self.console.width

    def say(self, text: str, style: str | None = None, *, important: bool = False) -> None:
        """A line that everybody sees; with --quiet only if it is important."""
        with self._lock:
            self.log(text)
            if important or not self._quiet:
                self._print(text, style)

    def mention(self, text: str) -> None:
        """A line of what a panel shows anyway."""
        with self._lock:
            self.log(text)
            if not (self.shows_panel or self._quiet):
                self._print(text, None)

    def log(self, text: str) -> None:
        """A line for the log alone."""
        self._last_line = self.clock()
        if self._log is None:
            return
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        try:
            self._log.writelines(f"{now}  {printable(line)}\n" for line in text.splitlines())
        except OSError as error:  # which must not end the work
            log, self._log = self._log, None
            self._print(f"the log file is written no more: {error}", "bold yellow")
            with suppress(OSError):
                log.close()

    def beat(self) -> None:
        """A line about where things stand, if there was none for a minute."""
        with self._lock:
            if self.clock() - self._last_line >= _BEAT:
                self.mention(self.heartbeat())

    def __enter__(self) -> Self:
        if self.shows_panel:
            self._live = Live(
                console=self.console,
                get_renderable=self.panel,
                refresh_per_second=_REFRESH,
                transient=True,
            )
            self._live.start()
        self._beats.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def conclude(self) -> None:
        """Ends with a summary, which a terminal does not need: the results come next."""
        self.close()
        said = f"finished {self.summary()} in {duration(self.elapsed)}"
        if self.shows_panel:
            self.log(said)
        else:
            self.say(said, important=True)

    def fail(self, said: str, status: int) -> int:
        """Ends without a result, with this line and exit status."""
        self.close()
        self.log(said)
        print(said, file=sys.stderr)
        return status

    def close(self) -> None:
        """Leaves the terminal as it was; may be called again."""
        self._ended.set()
        if self._live is not None:
            self._live.stop()

    def _beat(self) -> None:
        while not self._ended.wait(_LOOK):
            self.beat()

    def _print(self, text: str, style: str | None) -> None:
        # A line in a file stays a line; on a terminal words are kept whole.
        plain = not self.console.is_terminal
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=plain)


class Panel:
    """Rows of a panel, none of which is broken into two.

    Args:
        width: columns there are.
    """

    def __init__(self, width: int) -> None:
        self._rows: list[RenderableType] = [Text()]
        self._width = width
        self._bar = 40 if width >= _WIDE else 20

    def bar(self, label: str, done: float, of: float, text: str) -> None:
        """A bar with what it is of, and what to say of it."""
        bar = ProgressBar(total=max(of, 1), completed=done)
        self._add(label, text, "", (self._bar, bar))

    def line(self, label: str, text: str, style: str = "") -> None:
        """A line of text."""
        self._add(label, text, style)

    def _add(self, label: str, text: str, style: str, *between: tuple[int, RenderableType]) -> None:
        columns = [(_LABEL, Text(label, style="dim")), *between]
        room = max(1, self._width - sum(width + _GAP for width, _ in columns))
        columns.append((room, Text(shortened(text, room), style=style)))
        row = Table.grid(padding=(0, _GAP, 0, 0))
        for width, _ in columns:
            row.add_column(width=width, no_wrap=True)
        row.add_row(*(shown for _, shown in columns))
        self._rows.append(row)

    def drawn(self) -> Group:
        """All of them, for rich."""
        return Group(*self._rows)
