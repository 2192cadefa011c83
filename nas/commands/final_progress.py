"""What a person sees of a final training: a line per run, and on a terminal a bar for each."""

from collections.abc import Sequence
from typing import Unpack, assert_never

from rich.console import Console, RenderableType

from nas.commands.display import Display, How, Panel, Running
from nas.commands.messages import warning_line
from nas.commands.words import COLUMNS
from nas.final.events import (
    DesignChosen,
    Event,
    MakingInt8,
    MoreRuns,
    Opened,
    ReadingTestImages,
)
from nas.final.expected import FinalPace
from nas.final.request import TRAIN
from nas.final.runs import Run, RunBatchesDone, RunEnded, RunEpochEnded, RunStarted
from nas.search.events import CaptureFailed, Loading, WorkerFailed
from nas.search.remaining import TimeLeft
from nas.text import duration, percent, plural, shortened


class FinalProgress(Display):
    """Follows a final training.

    Args:
        console: on stderr.
        how: as `Display` has it.
    """

    def __init__(self, console: Console, **how: Unpack[How]) -> None:
        super().__init__(console, **how)
        self._doing = "starting"
        self._runs = self._done = 0
        self._best: float | None = None  # validation accuracy of a run
        self._pace = FinalPace(0, {}, 1)
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
                self.running[run] = Running(_called(run), _called(run), epochs_done)  # or again
                if epochs_done:
                    self.say(f"{_called(run)}: resumes after epoch {epochs_done}", "dim")
            case RunBatchesDone(run, done, batches):
                self.do_batches(run, done, batches)
            case RunEpochEnded(run, result):
                self._pace.epoch(run, result.epoch, result.seconds)
                self.end_epoch(run, result)
            case RunEnded():
                self._end(event)
            case CaptureFailed():
                if not self._capture_failed:
                    self._capture_failed = True
                    self.warn(warning_line(event))
            case DesignChosen(finalists):
                best = finalists[0]
                mean = best.validation.mean.value if best.validation else None
                self.say(
                    f"chosen: {best.name} with a mean validation accuracy of {percent(mean)}; no "
                    "test image was read for this choice",
                    important=True,
                )
            case MoreRuns(runs, what, left):
                self._add(left)
                self.say(f"{plural(len(runs), 'run')} {what}")
            case MakingInt8():
                self._doing = "making int8 files"
                self.say(self._doing)
            case ReadingTestImages(images):
                self._doing = f"reading the {plural(images, 'test image')}"
                self.say(self._doing)
            case WorkerFailed(reason):
                self.warn(reason)
            case _:
                assert_never(event)

    def _open(self, opening: Opened) -> None:
        """Says what is trained, and how long that will take."""
        study, runs = opening.study, opening.runs
        unfinished = None
        if study.asked is not None and study.trained < study.asked:
            unfinished = (
                f"the search has finished {study.trained} of {study.asked} designs; designs found "
                "later cannot be chosen, since the test images are read only once"
            )
        for doubt in (*study.notes, study.doubts, unfinished):
            if doubt:
                self.warn(f"NOTE: {doubt}")
        self._doing = ""
        self.epochs, self.threads = opening.epochs, opening.threads
        designs = list(dict.fromkeys(run.name for run in runs))
        seeds = sorted({run.seed for run in runs})
        self.say(
            f"study {study.name}: {plural(len(designs), 'design')} ({', '.join(designs)}) with "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
            f"{plural(self.epochs, 'epoch')} each, in {opening.precision} on {opening.device}"
        )
        if opening.left_out:
            self.say(
                f"without {', '.join(opening.left_out)}: more accurate in the search, but less "
                "is expected by the Gaussian process fitted to its designs"
            )
        self._pace = FinalPace(opening.epochs, opening.epoch_seconds, opening.workers)
        self._add(opening.left)
        if not opening.left:
            return
        expected = [opening.epoch_seconds.get(run.name) for run in opening.left]
        known = [seconds for seconds in expected if seconds is not None]
        parts = [plural(len(opening.left), "run"), plural(self.epochs, "epoch")]
        if known:
            parts.append(f"{duration(sum(known) / len(known))} as in the search")
        self.say(" x ".join(parts), "dim")
        if left := self.left():
            self.say(left.text(), "dim")

    def _add(self, runs: Sequence[Run]) -> None:
        self._runs += len(runs)
        self._pace.add(runs)

    def _end(self, ended: RunEnded) -> None:
        self.running.pop(ended.run, None)
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

    def left(self) -> TimeLeft | None:
        """The time until all runs have ended."""
        return self._pace.left()

    def progress_text(self) -> str:
        """As in ``3 of 9 runs``."""
        return self._doing or f"{self._done} of {self._runs} runs"

    def panel(self) -> RenderableType:
        """A bar of all runs, the time, and a bar for each run at work."""
        panel = Panel(self.width)
        if self._doing:
            panel.line("", f"{self._doing}, {duration(self.elapsed)}")
            return panel.drawn()
        best = "" if self._best is None else f", best {percent(self._best)}"
        panel.bar("runs", self._done, self._runs, f"{self._done} of {self._runs}{best}")
        panel.line("time", ", ".join(filter(None, [duration(self.elapsed), self.time])))
        panel.bars(list(self.running.values()), self.epochs)
        return panel.drawn()

    def summary(self) -> str:
        """As in ``9 of 9 runs``."""
        return f"{self._done} of {plural(self._runs, 'run')}"


def _called(run: Run) -> str:
    return f"{run.name}, seed {run.seed}"
