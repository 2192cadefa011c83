"""What a person sees of a final training: a bar per run at it, or a line per run."""

from typing import assert_never

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nas.final.events import (
    DesignChosen,
    Event,
    MoreRuns,
    Opened,
    ReadingTestImages,
)
from nas.final.request import TRAIN
from nas.final.runs import Run, RunEnded, RunEpochEnded, RunStarted
from nas.search.events import CaptureFailed, Loading, WorkerFailed
from nas.text import duration, percent, plural

_SLOW_EPOCH = 20  # seconds


class FinalProgress:
    """Follows a final training and prints a line per run to the console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self.runs = 0
        self.done = 0
        self._capture_failed = False

    def __call__(self, event: Event) -> None:
        """Prints what a person wants to know of it."""
        match event:
            case Loading():
                self._print("reading images", "dim")
            case Opened():
                self._open(event)
            case RunStarted(run, epochs_done):
                if epochs_done:
                    self._print(f"{_called(run)}: goes on after epoch {epochs_done}", "dim")
            case RunEpochEnded(run, result):
                if result.seconds >= _SLOW_EPOCH:  # long enough for a person to wonder
                    self._print(
                        f"{_called(run)}: epoch {result.epoch} of {self.epochs}, validation "
                        f"accuracy {percent(result.val_accuracy)}, "
                        f"{result.images_per_second:,.0f} images/s"
                    )
            case RunEnded(run, val_accuracy, seconds):
                self.done += 1
                reached = "failed"
                if val_accuracy is not None:  # of a run on ALL it is no validation accuracy
                    on_train = run.on == TRAIN
                    reached = f"{percent(val_accuracy)} validation" if on_train else "trained"
                self._print(f"{_called(run)}: {reached} | {duration(seconds)}")
            case CaptureFailed(reason):
                if not self._capture_failed:
                    self._capture_failed = True
                    self._print(f"steps are not captured as CUDA graphs ({reason})", "yellow")
            case DesignChosen(finalists):
                best = finalists[0]
                mean = best.validation.mean.value if best.validation else None
                self._print(
                    f"chosen: {best.name} with a mean validation accuracy of {percent(mean)}; no "
                    "test image was read for this choice"
                )
            case MoreRuns(runs):
                self._print(f"{plural(len(runs), 'run')} on the training and validation images")
            case ReadingTestImages(images):
                self._print(f"reading the {plural(images, 'test image')}")
            case WorkerFailed(reason):
                self._print(reason, "bold yellow")
            case _:
                assert_never(event)

    def _open(self, opening: Opened) -> None:
        """Prints what is trained."""
        study, runs = opening.study, opening.runs
        for note in study.notes:
            self._print(f"NOTE: {note}", "bold yellow")
        if study.doubts:
            self._print(f"NOTE: {study.doubts}", "bold yellow")
        self.epochs, self.runs = opening.epochs, len(runs)
        designs = list(dict.fromkeys(run.name for run in runs))
        seeds = sorted({run.seed for run in runs})
        self._print(
            f"study {study.name}: {plural(len(designs), 'design')} ({', '.join(designs)}) with "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
            f"{plural(self.epochs, 'epoch')} each, in {opening.precision} on {opening.device}"
        )

    def _print(self, text: str, style: str | None = None) -> None:
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

    def __call__(self, event: Event) -> None:
        """Prints what a person wants to know of it, and moves the bars."""
        match event:
            case Opened():
                super().__call__(event)
                self._bars.start()
            case RunStarted(run, epochs_done):
                super().__call__(event)
                self._remove(run)  # where it begins again
                self._tasks[run] = self._bars.add_task(
                    _called(run), total=self.epochs, completed=epochs_done, accuracy=""
                )
            case RunEpochEnded(run, result):
                if run in self._tasks:
                    self._bars.update(
                        self._tasks[run],
                        completed=result.epoch,
                        accuracy=f"{percent(result.val_accuracy)} validation",
                    )
            case RunEnded(run):
                self._remove(run)
                super().__call__(event)
            case _:
                super().__call__(event)

    def _remove(self, run: Run) -> None:
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))

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
