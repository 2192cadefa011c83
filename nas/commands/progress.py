"""What a person sees while a search runs: a live panel, or a line per trial where none can be."""

import math
from typing import assert_never

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.commands.words import outcome_counts
from nas.counting import COSTS
from nas.search.estimate import Pace
from nas.search.events import (
    CaptureFailed,
    CheckpointFailed,
    DatabaseBack,
    DatabaseGone,
    EndedElsewhere,
    EpochEnded,
    Event,
    Loading,
    Opened,
    TimeSized,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
    Warned,
    WorkerFailed,
)
from nas.search.request import SearchRequest
from nas.study.location import StudyLocation
from nas.study.records import DIED, Outcome, TrialRecord, training_in_words
from nas.text import duration, percent, plural
from nas.training.loop import EpochResult

_SLOW_EPOCH = 20  # seconds
_LONG = 15 * 60  # seconds: a search expected to take longer says so before it starts


class Progress:
    """Follows a search and prints a line per trained design to the console."""

    def __init__(self, console: Console, request: SearchRequest) -> None:
        self.console = console
        self.request = request
        self.trials = request.trials
        self.location: StudyLocation | None = None
        self.outcomes: dict[Outcome, int] = {}
        self.interrupted = 0
        self.incumbent: TrialRecord | None = None
        self.pace = Pace(None)
        self.epochs = 0

    @property
    def trained(self) -> int:
        """Designs trained in the study so far."""
        return sum(n for outcome, n in self.outcomes.items() if outcome.counts)

    def __call__(self, event: Event) -> None:
        """Prints what a person wants to know of it."""
        match event:
            case TimeSized():
                self._say_size(event)
            case Opened():
                self._open(event)
            case TrialContinued(number, epochs):
                self._print(f"trial {number}: goes on after epoch {epochs}", "dim")
            case Warned(warning):
                self._print(f"NOTE: {warning}", "bold yellow")
            case CheckpointFailed(reason):
                self._print(
                    f"warning: a checkpoint could not be written ({reason}): a trial that is "
                    "interrupted would begin anew",
                    "bold yellow",
                )
            case CaptureFailed(reason):
                self._print(
                    f"steps are not captured as CUDA graphs ({reason}): thin designs train slower",
                    "yellow",
                )
            case DatabaseGone(reason, patience):
                self._print(
                    f"the database does not answer ({reason}): trying again for "
                    f"{duration(patience)}",
                    "bold yellow",
                )
            case DatabaseBack():
                self._print("the database answers again", "dim")
            case WorkerFailed(reason):
                self._print(reason, "bold yellow")
            case EpochEnded(number, result):
                if result.seconds >= _SLOW_EPOCH:  # long enough for a person to wonder
                    self._print(f"trial {number}: epoch {self._progress_of(result)}")
            case TrialEnded(trial):
                better = self._count(trial)
                if trial.outcome not in (Outcome.OVER_BUDGET, Outcome.DUPLICATE):
                    self._print(self._line(trial, better))
            case EndedElsewhere(trial, own):
                self._count(trial)
                if (trial.reason or "").startswith(DIED):
                    why = "nothing was heard of this process" if own else "its worker is gone"
                    then = "queued again" if trial.queued_again else "given up"
                    self._print(f"trial {trial.number}: {why}, and its design {then}", "dim")
            case Waiting(running):
                designs = "design" if running == 1 else "designs"
                self._print(f"waiting for {running} {designs} that other processes train", "dim")
            case Loading() | TrialStarted():
                pass
            case _:
                assert_never(event)

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False)

    def _say_size(self, sized: TimeSized) -> None:
        """Says what was chosen by the time, why, and how to have it again."""
        size = sized.size
        why = f"--time {sized.time}: "
        if sized.otherwise is not None:
            why += (
                f"without a GPU and a limit of time (--time none) it would take about "
                f"{duration(sized.otherwise)}; "
            )
        images = "all" if size.subset == 1 else f"{size.subset:.0%} of the"
        parts = [plural(size.epochs, "epoch"), f"{images} training images"]
        if size.max_mult_adds is not None:
            parts.append(f"at most {COSTS['mult_adds'].exactly(size.max_mult_adds)}")
        fit = f"so that {plural(sized.trials, 'design')} fit"
        if sized.trials < sized.asked:
            fit = f"the least there is, of which about {sized.trials} of {sized.asked} designs fit"
        each = f"about {duration(sized.trial_seconds)} for a design on this machine"
        self._print(f"{why}{', '.join(parts)}, {fit}, {each}")
        self._print(f"the same without measuring: {sized.command}", "dim")

    def _open(self, opening: Opened) -> None:
        """Says what is searched, where, and how long it will take."""
        study, settings = opening.study, opening.study.settings
        for note in study.notes:
            self._print(f"NOTE: {note}", "bold yellow")
        self.trials, self.location = opening.trials, opening.location
        self.outcomes = dict(study.outcomes)
        self.interrupted = study.interrupted
        self.incumbent = study.incumbent
        self.epochs = settings.epochs
        self.console.print(
            f"{settings.dataset}: {settings.train_images:,} training, "
            f"{settings.validation_images:,} validation, "
            f"{plural(opening.test_images, 'test image')} (unread), {settings.input}\n"
            f"study {study.name} in {opening.location}: {study.trained} of "
            f"{plural(self.trials, 'design')} trained, {settings.limits}, "
            f"{plural(self.epochs, 'epoch')} each, in {opening.precision} on {opening.device}",
            markup=False,
            highlight=False,
        )
        each = opening.trial_seconds
        total = (each or 0) * (self.trials - study.trained) / opening.workers
        if each and total > _LONG:
            self.console.print(
                f"NOTE: about {duration(total)} on this machine, {duration(each)} per design "
                "trained to the end. Shorter: --time 1h, a GPU, --subset 0.1, fewer --epochs, a "
                "low --max-mult-adds, or a --space of narrower and fewer stages",
                style="bold yellow",
                markup=False,
            )
        elif each and total:
            self.console.print(f"about {duration(total)} on this machine", style="dim")
        elif opening.seconds_left < math.inf:
            self._print(f"at most {duration(opening.seconds_left)}, as --time says", "dim")
        self.pace = Pace(each, opening.workers, opening.seconds_left)

    def _progress_of(self, result: EpochResult) -> str:
        return (
            f"{result.epoch} of {self.epochs}, validation accuracy "
            f"{percent(result.val_accuracy)}, {result.images_per_second:,.0f} images/s"
        )

    def _count(self, trial: TrialRecord) -> bool:
        """Counts a trial, and returns whether it is the best so far."""
        outcome = trial.outcome
        assert outcome is not None
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.interrupted += trial.queued_again
        if outcome.counts:
            self.pace.trial_done()
        best = self.incumbent.val_accuracy if self.incumbent else None
        accuracy = trial.val_accuracy or 0.0
        better = outcome is Outcome.TRAINED and (best is None or accuracy > best)
        if better:
            self.incumbent = trial
        return better

    def _line(self, trial: TrialRecord, better: bool) -> str:
        assert trial.outcome is not None
        parts = [f"trial {trial.number}: {trial.outcome.replace('_', ' ')}"]
        if trial.curve:
            parts.append(f"{percent(trial.curve[-1][1])} after epoch {trial.curve[-1][0]}")
        if why := trial.reason or trial.forecast:
            parts.append(why)
        if trial.architecture and trial.parameters:
            parts.append(f"{trial.parameters:,} parameters, {trial.design}")
        if trial.training:
            parts.append(training_in_words(trial.training))
        if trial.seconds:
            parts.append(duration(trial.seconds))
        parts.append(f"{self.trained}/{self.trials}")
        left = self.pace.seconds_left(self.trials - self.trained)
        if left is not None and self.trained < self.trials:
            parts.append(f"about {duration(left)} left")
        return " | ".join(parts) + (" | best so far" if better else "")

    def close(self) -> None:
        """Ends the display."""


class LiveProgress(Progress):
    """The same with a panel that is always up to date, for terminals."""

    def __init__(self, console: Console, request: SearchRequest) -> None:
        super().__init__(console, request)
        self._designs: dict[int, str] = {}  # in training, by the number of the trial
        self._epochs: dict[int, str] = {}
        self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=4)
        self._loading = console.status("reading images", spinner="line")  # ASCII, unlike others

    def __call__(self, event: Event) -> None:
        """Prints what a person wants to know of it, and keeps the panel up to date."""
        match event:
            case Loading():
                self._loading.start()
            case TimeSized():
                self._loading.stop()
                super().__call__(event)
            case Opened():
                self._loading.stop()
                super().__call__(event)
                self._live.start()
            case TrialStarted(number, architecture, cost):
                self._designs[number] = f"{number}: {architecture}, {cost}"
                self._epochs[number] = f"0 of {self.epochs}"
            case EpochEnded(number, result):
                self._epochs[number] = self._progress_of(result)
            case TrialEnded(trial) | EndedElsewhere(trial):
                super().__call__(event)
                self._forget(trial.number)
            case _:
                super().__call__(event)

    def _forget(self, number: int) -> None:
        self._designs.pop(number, None)
        self._epochs.pop(number, None)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._loading.stop()
        if self._live.is_started:
            self._live.stop()

    def _panel(self) -> Group:
        wanted = self.trials
        trained = min(self.trained, wanted)
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="fold")
        left = self.pace.seconds_left(wanted - trained)
        rows.add_row(
            "designs",
            Text(
                f"{trained} of {wanted} trained"
                + (f", about {duration(left)} left" if left is not None else "")
            ),
        )
        rows.add_row("", ProgressBar(total=wanted, completed=trained, width=40))
        rows.add_row("trials", Text(outcome_counts(self.outcomes, self.interrupted)))
        for number, design in sorted(self._designs.items()):
            rows.add_row("trial", Text(design))
            rows.add_row("epoch", Text(self._epochs[number]))
        if not self._designs:
            rows.add_row("trial", Text("proposing"))
        best = self.incumbent
        rows.add_row(
            "incumbent",
            Text("none yet")
            if best is None
            else Text(
                f"{percent(best.val_accuracy)} with {best.parameters:,} parameters: trial "
                f"{best.number}, {best.design}",
                style="bold green",
            ),
        )
        return Group(Text(), rows)


def make_progress(request: SearchRequest) -> Progress:
    """A live panel on stderr when that is a terminal, else a line per trial."""
    console = Console(stderr=True)
    if console.is_terminal:
        return LiveProgress(console, request)
    console.soft_wrap = True  # a line stays a line in a file
    return Progress(console, request)
