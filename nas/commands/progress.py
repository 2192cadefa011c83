"""What a person sees while a search runs: a line per trial, and on a terminal a live panel."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, RenderableType

from nas.commands.display import Display, Panel
from nas.commands.messages import opening_lines, size_lines, warning_line
from nas.commands.words import COLUMNS, described, finished, trial_line
from nas.runtime.load import is_busy
from nas.search.events import (
    BatchesDone,
    EndedElsewhere,
    EpochEnded,
    Event,
    Loading,
    Needed,
    Opened,
    TimeSized,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from nas.search.remaining import Pace, mean_seconds
from nas.search.request import SearchRequest
from nas.study.location import StudyLocation
from nas.study.records import DIED, Outcome, StudyRecord, TrialRecord
from nas.text import about, duration, percent, plural, shortened
from nas.training.loop import EpochResult

_SLOW_EPOCH = 20  # seconds
_LONG = 15 * 60  # seconds: a search expected to take longer says so before it starts
_BARS = 4  # of workers
_PLACES = ("best", "2nd", "3rd")  # of the designs in the panel


@dataclass(slots=True)
class _Running:
    """A design in training."""

    design: str
    needed: Needed | None
    epoch: int = 0  # the last that is done
    val_accuracy: float | None = None
    done: int = 0  # batches of the next one
    batches: int = 0  # 0: not known, since its epochs are short


class SearchProgress(Display):
    """Follows a search.

    Args:
        console: on stderr.
        request: of the search.
        quiet: whether only improvements, warnings and the end are shown.
        log: gets every line with its time.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        console: Console,
        request: SearchRequest,
        *,
        quiet: bool = False,
        log: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, quiet=quiet, log=log, clock=clock)
        self.trials = request.trials
        self.location: StudyLocation | None = None
        self._doing = "starting"
        self._outcomes = Counter[Outcome]()
        self._interrupted = 0
        self._study: StudyRecord | None = None  # as it was found
        self._best: list[TrialRecord] = []  # the best one first
        self._since_best: int | None = None  # runs that ended since the best one
        self._pace = Pace()
        self._threads = 0  # of ours that compute
        self._epochs = 0
        self._running: dict[int, _Running] = {}

    @property
    def done(self) -> int:
        """Runs that are finished in the study so far, to their end or stopped early."""
        return sum(n for outcome, n in self._outcomes.items() if outcome.counts)

    def __call__(self, event: Event) -> None:
        """Takes in what happens, and says what a person wants to know of it."""
        match event:
            case Loading():
                self._doing = "reading images"
            case TimeSized():
                for line in size_lines(event):
                    self.say(line)
            case Opened():
                self._open(event)
            case TrialStarted(number, architecture, cost, needed):
                design = f"{about(cost.parameters)}  {architecture.brief}"
                self._running[number] = _Running(design, needed)
                self._pace.begin(number, self.clock())
                self._doing = "proposing a design"
            case TrialContinued(number, epochs):
                if number in self._running:
                    self._running[number].epoch = epochs
                self.say(f"trial {number}: resumes after epoch {epochs}", "dim")
            case BatchesDone(number, done, batches):
                if number in self._running:
                    self._running[number].done = done
                    self._running[number].batches = batches
            case EpochEnded(number, result, needed):
                self._end_epoch(number, result, needed)
            case TrialEnded(trial):
                running = self._running.get(trial.number)
                better = self._count(trial)
                if trial.outcome not in (Outcome.OVER_BUDGET, Outcome.DUPLICATE):
                    self._say_trial(trial, better, running.needed if running else None)
            case EndedElsewhere(trial, own):
                if self._count(trial):
                    self._say_trial(trial, True, None)
                if (trial.reason or "").startswith(DIED):
                    why = "nothing was heard of this process" if own else "its worker is gone"
                    then = "queued again" if trial.queued_again else "given up"
                    self.say(f"trial {trial.number}: {why}, and its design {then}", "dim")
            case Waiting(running):
                self._doing = f"waiting for {plural(running, 'design')} that other processes train"
                self.say(self._doing, "dim")
            case _:
                self._important(warning_line(event))

    def _important(self, text: str) -> None:
        self.say(text, "bold yellow", important=True)

    def _open(self, opening: Opened) -> None:
        """Says what is searched, where, and how long it will take."""
        study = opening.study
        for note in study.notes:
            self._important(f"NOTE: {note}")
        self._doing = "proposing a design"
        self.trials, self.location = opening.trials, opening.location
        self._study = study
        self._outcomes = study.outcomes
        self._interrupted = study.interrupted
        self._best = list(study.ranking[: len(_PLACES)])
        if self._best and self._best[0].finished:
            since = [t.finished > self._best[0].finished for t in study.trials if t.finished]
            self._since_best = sum(since)
        self._epochs = study.settings.epochs
        self._threads = opening.threads
        for line in opening_lines(opening):
            self.say(line)
        now = self.clock()
        self._pace = Pace(
            mean_seconds(study) or opening.trial_seconds,
            workers=opening.workers,
            pruner=opening.pruner,
            deadline=now + opening.seconds_left,
            epochs=self._epochs,
        )
        left = self._pace.left(self.trials - study.trained, now)
        if left is None:
            if is_busy():
                self.say("machine is busy", "dim")
        elif left.high:
            self.say(left.text(busy=is_busy()), "dim")
            if left.middle > _LONG and opening.seconds_left == math.inf:
                self._important(
                    "NOTE: shorter with --time 1h, a GPU, --subset 0.1, fewer --epochs, a low "
                    "--max-mult-adds, or a --space of narrower and fewer stages"
                )

    def _end_epoch(self, number: int, result: EpochResult, needed: Needed | None) -> None:
        running = self._running.get(number)
        if running is not None:
            running.epoch, running.val_accuracy = result.epoch, result.val_accuracy
            running.done = 0
            running.needed = needed or running.needed  # by which it may just have been stopped
        if result.seconds >= _SLOW_EPOCH:  # long enough for a person to wonder
            self.mention(
                f"trial {number}: epoch {result.epoch} of {self._epochs}, validation accuracy "
                f"{percent(result.val_accuracy)}, {result.images_per_second:,.0f} images/s"
            )

    def _count(self, trial: TrialRecord) -> bool:
        """Counts a trial, and returns whether it is the best so far."""
        assert trial.outcome is not None
        self._running.pop(trial.number, None)
        self._pace.end(trial, self.clock())
        self._outcomes[trial.outcome] += 1
        self._interrupted += trial.queued_again
        if not trial.outcome.counts:
            return False
        accuracy = trial.val_accuracy or 0.0
        full = trial.outcome is Outcome.TRAINED
        better = full and (not self._best or accuracy > (self._best[0].val_accuracy or 0.0))
        if full:
            ranked = sorted([*self._best, trial], key=lambda t: (-(t.val_accuracy or 0), t.number))
            self._best = ranked[: len(_PLACES)]
        self._since_best = 0 if better else (self._since_best or 0) + 1
        return better

    def _say_trial(self, trial: TrialRecord, better: bool, needed: Needed | None) -> None:
        from nas.study.chance import at_chance  # loads SciPy, as the search has

        stopped = trial.outcome is Outcome.STOPPED_EARLY
        at_check = needed is not None and trial.curve and trial.curve[-1][0] == needed.epoch
        least = needed.val_accuracy if stopped and needed is not None and at_check else None
        width = min(COLUMNS, self.width) if self.console.is_terminal else COLUMNS
        guessed = self._study is not None and at_chance(self._study, trial)
        line = trial_line(trial, better=better, needed=least, guessed=guessed, width=width)
        style = "bold green" if better else "dim" if stopped else None
        if trial.outcome is None or not trial.outcome.counts:
            style = "red"
        self.say(line, style, important=better)

    def _counted(self) -> str:
        return f"{min(self.done, self.trials)} of {self.trials}"

    def _left(self) -> str:
        """The time left in words, with what it follows from; empty where nothing is known."""
        left = self._pace.left(self.trials - self.done, self.clock())
        return left.text(busy=is_busy(self._threads)) if left is not None and left.high else ""

    def heartbeat(self) -> str:
        """Elapsed time, trials and the time left."""
        if self.location is None:
            return f"{duration(self.elapsed)}: {self._doing}"
        parts = [f"{duration(self.elapsed)}: {self._counted()}", self._left()]
        return shortened(", ".join(filter(None, parts)), COLUMNS)

    def summary(self) -> str:
        """As in ``8 of 8: 4 full, 4 stopped``."""
        return f"{self._counted()}: {finished(self._outcomes, self._interrupted)}"

    def panel(self) -> RenderableType:
        """Two kinds of bars, the time, and the best designs."""
        panel = Panel(self.width)
        if self.location is None:
            panel.line("", f"{self._doing}, {duration(self.elapsed)}")
            return panel.drawn()
        panel.bar("trials", self.done, self.trials, self.summary())
        panel.line("time", ", ".join(filter(None, [duration(self.elapsed), self._left()])))
        running = sorted(self._running.items())
        for number, one in running[:_BARS]:
            done, of = (one.done, one.batches) if one.batches else (one.epoch, self._epochs)
            panel.bar(str(number), done, of, self._about(one))
        if len(running) > _BARS:
            panel.line("", f"and {len(running) - _BARS} more")
        if not running:
            panel.line("", self._doing if self.done < self.trials else "ending")
        for place, trial in zip(_PLACES, self._best, strict=False):
            panel.line(
                place,
                f"{percent(trial.val_accuracy):>7}  {about(trial.parameters):>6}  "
                f"{described(trial)}  trial {trial.number}",
                "bold green" if trial is self._best[0] else "",
            )
        if self._best and self._since_best:
            panel.line("", f"last improvement {plural(self._since_best, 'trial')} ago")
        return panel.drawn()

    def _about(self, one: _Running) -> str:
        """Epoch, accuracy, what it must reach and the design; the most important first."""
        parts = [f"epoch {min(one.epoch + 1, self._epochs)} of {self._epochs}"]
        if one.val_accuracy is not None:
            parts.append(percent(one.val_accuracy))
        if one.needed is not None and one.needed.epoch > one.epoch and one.needed.val_accuracy > 0:
            parts.append(f"needs {percent(one.needed.val_accuracy)} at {one.needed.epoch}")
        return "  ".join([*parts, one.design])


def make_progress(
    request: SearchRequest, *, quiet: bool = False, log: TextIO | None = None
) -> SearchProgress:
    """What follows a search, on stderr."""
    return SearchProgress(Console(stderr=True), request, quiet=quiet, log=log)
