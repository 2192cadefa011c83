"""What a person sees of a final training: a bar per run at it, or a line per run."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nas.final.final import FinalObserver
from nas.final.records import FinalDesign
from nas.final.request import TRAIN
from nas.final.runs import Run
from nas.study.records import StudyRecord
from nas.text import percent, plural
from nas.training.loop import EpochResult

_SLOW_EPOCH = 20  # seconds


class FinalProgress(FinalObserver):
    """Follows a final training and prints a line per run to the console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self.runs = 0
        self.done = 0
        self._capture_failed = False

    def loading(self) -> None:
        """Says that images are read."""
        self.say("reading images", style="dim")

    def opened(
        self, study: StudyRecord, runs: Sequence[Run], epochs: int, device: str, precision: str
    ) -> None:
        """Says what is trained."""
        for note in study.notes:
            self.say(f"NOTE: {note}", style="bold yellow")
        if study.doubts:
            self.say(f"NOTE: {study.doubts}", style="bold yellow")
        self.epochs, self.runs = epochs, len(runs)
        designs = list(dict.fromkeys(run.name for run in runs))
        seeds = sorted({run.seed for run in runs})
        self.say(
            f"study {study.name}: {plural(len(designs), 'design')} ({', '.join(designs)}) with "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
            f"{plural(epochs, 'epoch')} each, in {precision} on {device}"
        )

    def run_started(self, run: Run, epochs_done: int) -> None:
        """Says so where a run was begun before."""
        if epochs_done:
            self.say(f"{_called(run)}: goes on after epoch {epochs_done}", style="dim")

    def epoch_ended(self, run: Run, result: EpochResult) -> None:
        """Prints an epoch that took long enough for a person to wonder."""
        if result.seconds >= _SLOW_EPOCH:
            self.say(
                f"{_called(run)}: epoch {result.epoch} of {self.epochs}, validation accuracy "
                f"{percent(result.val_accuracy)}, {result.images_per_second:,.0f} images/s"
            )

    def run_ended(self, run: Run, val_accuracy: float | None, seconds: float) -> None:
        """Prints what the run reached."""
        self.done += 1
        reached = "failed" if val_accuracy is None else f"{percent(val_accuracy)} validation"
        if val_accuracy is not None and run.on != TRAIN:
            reached = "trained"  # its validation images, too
        self.say(f"{_called(run)}: {reached} | {seconds:.1f} s")

    def capture_failed(self, reason: str) -> None:
        """Says once why steps are slower than they could be."""
        if not self._capture_failed:
            self._capture_failed = True
            self.say(f"steps are not captured as CUDA graphs ({reason})", style="yellow")

    def chosen(self, finalists: Sequence[FinalDesign]) -> None:
        """Says which design is chosen, before anything is tested."""
        best = finalists[0]
        mean = best.validation.mean.value if best.validation else None
        self.say(
            f"chosen: {best.name} with a mean validation accuracy of {percent(mean)}; no test "
            "image was read for this choice"
        )

    def more_runs(self, runs: Sequence[Run]) -> None:
        """Says that the tested networks are trained on more images."""
        self.say(f"{plural(len(runs), 'run')} on the training and validation images")

    def testing(self, images: int) -> None:
        """Says that the test images are read now."""
        self.say(f"reading the {plural(images, 'test image')}")

    def worker_failed(self, reason: str) -> None:
        """Says which worker is gone."""
        self.say(reason, style="bold yellow")

    def say(self, text: str, style: str | None = None) -> None:
        """Prints a line."""
        self.console.print(text, style=style, markup=False, highlight=False)

    def close(self) -> None:
        """Ends the display."""


class LiveFinalProgress(FinalProgress):
    """The same with a bar for each run that is at it, for terminals."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accuracy]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[Run, TaskID] = {}

    def opened(
        self, study: StudyRecord, runs: Sequence[Run], epochs: int, device: str, precision: str
    ) -> None:
        """Says what is trained, and opens the bars."""
        super().opened(study, runs, epochs, device, precision)
        self._bars.start()

    def run_started(self, run: Run, epochs_done: int) -> None:
        """Shows a bar for the run, a new one if it begins again."""
        super().run_started(run, epochs_done)
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        self._tasks[run] = self._bars.add_task(
            _called(run), total=self.epochs, completed=epochs_done, accuracy=""
        )

    def epoch_ended(self, run: Run, result: EpochResult) -> None:
        """Moves the run's bar."""
        if run in self._tasks:
            self._bars.update(
                self._tasks[run],
                completed=result.epoch,
                accuracy=f"{percent(result.val_accuracy)} validation",
            )

    def run_ended(self, run: Run, val_accuracy: float | None, seconds: float) -> None:
        """Prints what the run reached, in place of its bar."""
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        super().run_ended(run, val_accuracy, seconds)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._bars.stop()


def _called(run: Run) -> str:
    return f"{run.name}, seed {run.seed}"


def make_final_progress() -> FinalProgress:
    """Bars on stderr when that is a terminal, else a line per run."""
    console = Console(stderr=True)
    if console.is_terminal:
        return LiveFinalProgress(console)
    console.soft_wrap = True  # a line stays a line in a file
    return FinalProgress(console)
