"""What a command shows while it works: plain lines, a live panel on a terminal, a log."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO, TypedDict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.commands.loading import write_log
from nas.commands.words import COLUMNS
from nas.runtime import signals
from nas.runtime.load import is_busy
from nas.search.evidence import Threshold
from nas.search.remaining import TimeLeft
from nas.text import duration, percent, shortened
from nas.training.loop import EpochResult

_PAUSE = 60.0  # seconds without a line after which there is one all the same
_SLOW_EPOCH = 20  # seconds after which an epoch is long enough for a person to wonder
_BARS = 4  # of what runs
_REFRESH = 2  # times a second that the panel is drawn: each takes milliseconds from a training
_WIDE = 100  # columns from which on bars are longer
_LABEL, _GAP = 6, 2  # columns of a panel's labels, and after each column


@dataclass(slots=True)
class Running:
    """A training that runs now."""

    name: str  # in lines
    text: str  # at the end of its bar
    epoch: int = 0  # the last that is done
    label: str = ""  # before its bar
    threshold: Threshold | None = None
    val_accuracy: float | None = None
    done: int = 0  # batches of the next epoch
    batches: int = 0  # 0: not known, since its epochs are short

    def bar(self, panel: "Panel", epochs: int) -> None:
        """Adds its bar: epoch, accuracy, what it must reach and the rest, the most important first.

        Args:
            panel: to add it to.
            epochs: of a full run.
        """
        parts = [f"epoch {min(self.epoch + 1, epochs)} of {epochs}"]
        if self.val_accuracy is not None:
            parts.append(percent(self.val_accuracy))
        threshold = self.threshold
        if threshold is not None and threshold.step > self.epoch and threshold.score > 0:
            parts.append(f"needs {percent(threshold.score)} at {threshold.step}")
        done, of = (self.done, self.batches) if self.batches else (self.epoch, epochs)
        panel.bar(self.label, done, of, "  ".join([*parts, self.text]))


class How(TypedDict, total=False):
    """How a display shows things, as the keywords of `Display`."""

    quiet: bool
    log: TextIO | None
    clock: Callable[[], float]
    busy: Callable[[int], bool]


class Display(ABC):
    """Lines about something that happens, while a `with` block runs.

    On a terminal there is a panel below them, which is always up to date and goes at the end. Where
    there is none, or in the log, a minute without a line brings one.

    Args:
        console: on stderr.
        quiet: whether only what is important is shown; the log has all.
        log: gets every line with its time.
        clock: seconds that only ever grow.
        busy: whether other programs keep the machine busy, beside so many threads of ours.
    """

    def __init__(
        self,
        console: Console,
        *,
        quiet: bool = False,
        log: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[int], bool] = is_busy,
    ) -> None:
        self.console = console
        self.clock = clock
        self.epochs = 0  # of a full run
        self.threads = 0  # of ours that compute
        self.running: dict[Hashable, Running] = {}
        self._busy = busy
        self._lock = threading.RLock()  # status lines come in a thread of their own
        self._quiet = quiet
        self._log = log
        able = console.is_terminal and not console.is_dumb_terminal
        self.shows_panel = able and not quiet
        self._live: Live | None = None
        self._began = self._last_line = clock()
        self._ended = threading.Event()
        self._ticks = threading.Thread(target=self._tick, name="status", daemon=True)

    @abstractmethod
    def progress_text(self) -> str:
        """What is done, or what is being done, as in ``9 of 50``."""

    @abstractmethod
    def left(self) -> TimeLeft | None:
        """The time left; None where nothing is known, or nothing is left."""

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

    @property
    def time(self) -> str:
        """The time left in words, with what it follows from; empty where there is none to tell."""
        left = self.left()
        return left.text(busy=self._busy(self.threads)) if left is not None else ""

    def status(self) -> str:
        """Elapsed time, what is done and the time left, in one line."""
        parts = [f"{duration(self.elapsed)}: {self.progress_text()}", self.time]
        return shortened(", ".join(filter(None, parts)), COLUMNS)

    def end_epoch(
        self, key: Hashable, result: EpochResult, threshold: Threshold | None = None
    ) -> None:
        """Takes in the end of an epoch of what runs, and says so if it was long."""
        running = self.running.get(key)
        if running is None:
            return
        running.epoch, running.val_accuracy, running.done = result.epoch, result.val_accuracy, 0
        running.threshold = threshold or running.threshold  # by which it may just have been stopped
        if result.seconds >= _SLOW_EPOCH:
            self.mention(
                f"{running.name}: epoch {result.epoch} of {self.epochs}, validation accuracy "
                f"{percent(result.val_accuracy)}, {result.images_per_second:,.0f} images/s"
            )

    def do_batches(self, key: Hashable, done: int, batches: int) -> None:
        """Takes in how many batches of its epoch have begun of what runs."""
        if key in self.running:
            self.running[key].done, self.running[key].batches = done, batches

    def warn(self, text: str) -> None:
        """A line that everybody must see."""
        self.say(text, "bold yellow", important=True)

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
        try:
            write_log(self._log, text)
        except OSError as error:  # which must not end the work
            log, self._log = self._log, None
            self._print(f"the log file can no longer be written: {error}", "bold yellow")
            with suppress(OSError):
                log.close()

    def tick(self) -> None:
        """A line about where things stand, if there was none for a minute."""
        with self._lock:
            if self.clock() - self._last_line >= _PAUSE:
                self.mention(self.status())

    def __enter__(self) -> Self:
        if self.shows_panel:
            self._live = Live(
                console=self.console,
                get_renderable=self.panel,
                refresh_per_second=_REFRESH,
                transient=True,
            )
            self._live.start()
        self._ticks.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def conclude(self) -> None:
        """Ends with a summary, which is not needed where the results come next in a terminal."""
        self.close()
        said = f"finished {self.summary()} in {duration(self.elapsed)}"
        if self.shows_panel and sys.stdout.isatty():
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

    def _tick(self) -> None:
        stopping = False
        while not self._ended.wait(signals.LOOK):
            if signals.has_come() and not stopping:
                stopping = True
                self.warn("stopping after this batch ...; a second Ctrl-C ends at once")
            self.tick()

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

    def bars(self, running: Sequence[Running], epochs: int) -> None:
        """The bars of the first few that run, and how many more there are."""
        for one in running[:_BARS]:
            one.bar(self, epochs)
        if len(running) > _BARS:
            self.line("", f"and {len(running) - _BARS} more")

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
