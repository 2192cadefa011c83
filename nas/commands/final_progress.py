"""What a person sees of a final training: a line per run, and on a terminal a bar for each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO, assert_never

from rich.console import Console, RenderableType

from nas.commands.display import Display, Panel
from nas.commands.words import COLUMNS
from nas.final.events import (
    DesignChosen,
    Event,
    MoreRuns,
    Opened,
    ReadingTestImages,
)
from nas.final.expected import FinalPace
from nas.final.request import TRAIN
from nas.final.runs import Run, RunBatchesDone, RunEnded, RunEpochEnded, RunStarted
from nas.runtime.load import is_busy
from nas.search.events import CaptureFailed, Loading, WorkerFailed
from nas.text import duration, percent, plural, shortened

_SLOW_EPOCH = 20  # seconds
_BARS = 4  # of workers


@dataclass(slots=True)
class _Running:
    """A run at work."""

    epoch: int  # the last that is done
    val_accuracy: float | None = None
    done: int = 0  # batches of the next one
    batches: int = 0  # 0: not known, since its epochs are short


class FinalProgress(Display):
    """Follows a final training.

    Args:
        console: on stderr.
        quiet: whether only the choice, warnings and the end are shown.
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
        super().__init__(console, quiet=quiet, log=log, clock=clock)
        self._doing = "starting"
        self._epochs = 0
        self._runs = self._done = 0
        self._best: float | None = None  # validation accuracy of a run
        self._pace = FinalPace(0, {}, 1)
        self._workers = 0
        self._running: dict[Run, _Running] = {}
        self._capture_failed = False

    def __call__(self, event: Event) -> None:
        """Takes in what happens, and says what a person wants to know of it."""
        match event:
            case Loading():
                self._doing = "reading images"
                self.mention(self._doing)
            case Opened():
                self._open(event)
            case RunStarted(run, epochs_done):
                self._pace.begin(run, epochs_done)
                self._running[run] = _Running(epochs_done)  # also where it begins again
                if epochs_done:
                    self.say(f"{_called(run)}: resumes after epoch {epochs_done}", "dim")
            case RunBatchesDone(run, done, batches):
                if run in self._running:
                    self._running[run].done, self._running[run].batches = done, batches
            case RunEpochEnded(run, result):
                self._pace.epoch(run, result.epoch, result.seconds)
                if run in self._running:
                    running = self._running[run]
                    running.epoch, running.done = result.epoch, 0
                    running.val_accuracy = result.val_accuracy
                if result.seconds >= _SLOW_EPOCH:  # long enough for a person to wonder
                    self.mention(
                        f"{_called(run)}: epoch {result.epoch} of {self._epochs}, validation "
                        f"accuracy {percent(result.val_accuracy)}, "
                        f"{result.images_per_second:,.0f} images/s"
                    )
            case RunEnded():
                self._end(event)
            case CaptureFailed(reason):
                if not self._capture_failed:
                    self._capture_failed = True
                    self._warn(f"steps are not captured as CUDA graphs ({reason})")
            case DesignChosen(finalists):
                best = finalists[0]
                mean = best.validation.mean.value if best.validation else None
                self.say(
                    f"chosen: {best.name} with a mean validation accuracy of {percent(mean)}; no "
                    "test image was read for this choice",
                    important=True,
                )
            case MoreRuns(runs, left):
                self._add(left)
                self.say(f"{plural(len(runs), 'run')} on the training and validation images")
            case ReadingTestImages(images):
                self._doing = f"reading the {plural(images, 'test image')}"
                self.say(self._doing)
            case WorkerFailed(reason):
                self._warn(reason)
            case _:
                assert_never(event)

    def _warn(self, text: str) -> None:
        self.say(text, "bold yellow", important=True)

    def _open(self, opening: Opened) -> None:
        """Says what is trained, and how long that will take."""
        study, runs = opening.study, opening.runs
        for doubt in (*study.notes, study.doubts):
            if doubt:
                self._warn(f"NOTE: {doubt}")
        self._doing = ""
        self._epochs, self._workers = opening.epochs, opening.workers
        designs = list(dict.fromkeys(run.name for run in runs))
        seeds = sorted({run.seed for run in runs})
        self.say(
            f"study {study.name}: {plural(len(designs), 'design')} ({', '.join(designs)}) with "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
            f"{plural(self._epochs, 'epoch')} each, in {opening.precision} on {opening.device}"
        )
        self._pace = FinalPace(opening.epochs, opening.epoch_seconds, opening.workers)
        self._add(opening.left)
        if not opening.left:
            return
        expected = [opening.epoch_seconds.get(run.name) for run in opening.left]
        known = [seconds for seconds in expected if seconds is not None]
        parts = [plural(len(opening.left), "run"), plural(self._epochs, "epoch")]
        if known:
            parts.append(f"{duration(sum(known) / len(known))} as in the search")
        self.say(" x ".join(parts), "dim")
        if left := self._left():
            self.say(left, "dim")

    def _add(self, runs: Sequence[Run]) -> None:
        self._runs += len(runs)
        self._pace.add(runs)

    def _end(self, ended: RunEnded) -> None:
        self._running.pop(ended.run, None)
        self._pace.end(ended.run)
        self._done += 1
        accuracy = ended.val_accuracy
        reached, style, better = "failed", "red", False
        if accuracy is not None:
            reached, style = "full", ""
            if ended.run.on == TRAIN:  # else it is no validation accuracy
                better = self._best is None or accuracy > self._best
                self._best = max(accuracy, self._best or 0.0)
                reached += f"  {percent(accuracy):>7}"
        line = f"{_called(ended.run):<20}  {reached:<15}  {duration(ended.seconds)}"
        if better:
            line, style = f"{line}  best so far", "bold green"
        self.say(shortened(line, COLUMNS), style, important=better)

    def _left(self) -> str:
        """The time left in words, with what it follows from; empty where nothing is known."""
        left = self._pace.left()
        return left.text(busy=is_busy(self._workers)) if left is not None and left.high else ""

    def heartbeat(self) -> str:
        """Elapsed time, runs and the time left."""
        doing = self._doing or f"{self._done} of {self._runs} runs"
        parts = [f"{duration(self.elapsed)}: {doing}", self._left()]
        return shortened(", ".join(filter(None, parts)), COLUMNS)

    def panel(self) -> RenderableType:
        """A bar of all runs, the time, and a bar for each run at work."""
        panel = Panel(self.width)
        if self._doing:
            panel.line("", f"{self._doing}, {duration(self.elapsed)}")
            return panel.drawn()
        best = "" if self._best is None else f", best {percent(self._best)}"
        panel.bar("runs", self._done, self._runs, f"{self._done} of {self._runs}{best}")
        panel.line("time", ", ".join(filter(None, [duration(self.elapsed), self._left()])))
        running = list(self._running.items())
        for run, one in running[:_BARS]:
            done, of = (one.done, one.batches) if one.batches else (one.epoch, self._epochs)
            text = f"epoch {min(one.epoch + 1, self._epochs)} of {self._epochs}"
            if one.val_accuracy is not None:
                text += f"  {percent(one.val_accuracy)}"
            panel.bar("", done, of, f"{text}  {_called(run)}")
        if len(running) > _BARS:
            panel.line("", f"and {len(running) - _BARS} more")
        return panel.drawn()

    def summary(self) -> str:
        """As in ``9 of 9 runs``."""
        return f"{self._done} of {plural(self._runs, 'run')}"


def _called(run: Run) -> str:
    return f"{run.name}, seed {run.seed}"


def make_final_progress(*, quiet: bool = False, log: TextIO | None = None) -> FinalProgress:
    """What follows a final training, on stderr."""
    return FinalProgress(Console(stderr=True), quiet=quiet, log=log)
