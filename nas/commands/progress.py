"""What a person sees while a search runs: a line per trial, and on a terminal a live panel."""

import math
from collections import Counter
from typing import Unpack

from rich.console import Console, RenderableType

from nas.commands.display import Display, How, Panel, Running
from nas.commands.messages import opening_lines, size_lines, warning_line
from nas.commands.words import COLUMNS, described, finished, of_asked, trial_line
from nas.search.events import (
    BatchesDone,
    EndedElsewhere,
    EpochEnded,
    Event,
    Loading,
    MeasuringLatency,
    Opened,
    TimeSized,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from nas.search.evidence import Threshold
from nas.search.remaining import Pace, TimeLeft
from nas.search.request import SearchRequest
from nas.study.chance import at_chance
from nas.study.latencies import machine_in_words
from nas.study.location import StudyLocation
from nas.study.records import DIED, Outcome, StudyRecord, TrialRecord
from nas.text import about, duration, percent, plural

_LONG = 15 * 60  # seconds: a search expected to take longer says so before it starts
_PLACES = ("best", "2nd", "3rd")  # of the designs in the panel


class SearchProgress(Display):
    """Follows a search.

    Args:
        console: on stderr.
        request: of the search.
        how: as `Display` has it.
    """

    def __init__(self, console: Console, request: SearchRequest, **how: Unpack[How]) -> None:
        super().__init__(console, **how)
        self.trials = request.trials
        self.location: StudyLocation | None = None
        self._study: StudyRecord | None = None  # as it was found
        self._doing = "starting"
        self._outcomes = Counter[Outcome]()
        self._before = 0  # trials that had finished
        self._interrupted = 0
        self._best: list[TrialRecord] = []  # the best one first
        self._since_best: int | None = None  # trials that finished since the best one
        self._pace = Pace()

    @property
    def done(self) -> int:
        """Trials that are finished in the study so far, to their end or stopped early."""
        # A copy, since another thread draws.
        return sum(n for outcome, n in dict(self._outcomes).items() if outcome.counts)

    def __call__(self, event: Event) -> None:
        """Takes in what happens, and says what a person wants to know of it."""
        match event:
            case Loading():
                self._doing = "reading images"
                self.mention(self._doing)
            case MeasuringLatency(machine):
                self._doing = "measuring latencies"
                self.say(f"{self._doing}: {machine_in_words(machine)}")
            case TimeSized():
                for line in size_lines(event):
                    self.say(line)
            case Opened():
                self._open(event)
            case TrialStarted(number, architecture, cost, threshold):
                design = f"{about(cost.parameters)}  {architecture.brief}"
                self.running[number] = Running(
                    f"trial {number}", design, label=str(number), threshold=threshold
                )
                self._pace.begin(number, self.clock())
                self._doing = "proposing a design"
            case TrialContinued(number, epochs):
                if number in self.running:
                    self.running[number].epoch = epochs
                self.say(f"trial {number}: resumes after epoch {epochs}", "dim")
            case BatchesDone(number, done, batches):
                self.do_batches(number, done, batches)
            case EpochEnded(number, result, threshold):
                self.end_epoch(number, result, threshold)
                left = self.epochs - result.epoch
                self._pace.epoch(number, result.seconds, left, self.clock())
            case TrialEnded(trial):
                running = self.running.get(trial.number)
                better = self._count(trial)
                if trial.outcome not in (Outcome.OVER_BUDGET, Outcome.DUPLICATE):
                    self._say_trial(trial, better, running.threshold if running else None)
            case EndedElsewhere(trial, own):
                if self._count(trial):
                    self._say_trial(trial, True, None)
                if (trial.reason or "").startswith(DIED):
                    why = "this process sent no heartbeat" if own else "its worker is gone"
                    then = "is queued again" if trial.queued_again else "is given up"
                    self.say(f"trial {trial.number}: {why}, and its design {then}", "dim")
            case Waiting(running):
                self._doing = f"waiting for {plural(running, 'trial')} of other processes"
                self.say(self._doing, "dim")
            case _:
                self.warn(warning_line(event))

    def _open(self, opening: Opened) -> None:
        """Says what is searched, where, and how long it will take."""
        study = opening.study
        starts = opening.workers > 1  # in processes of their own, which takes seconds
        self._doing = "starting the workers" if starts else "proposing a design"
        self.trials, self.location = opening.trials, opening.location
        self._study = study
        self._outcomes, self._before = study.outcomes, study.trained
        self._interrupted = study.interrupted
        self._best = list(study.ranking[: len(_PLACES)])
        if self._best and (best := self._best[0].finished):
            counting = [t for t in study.trials if t.counts]
            self._since_best = sum(t.finished > best for t in counting if t.finished)
        self.epochs, self.threads = study.settings.epochs, opening.threads
        for line in opening_lines(opening):
            self.say(line)
        for note in study.notes:
            self.warn(f"NOTE: {note}")
        self._pace = Pace(
            opening.trial_seconds,
            workers=opening.workers,
            pruner=opening.pruner,
            before=self._outcomes[Outcome.TRAINED],
            deadline=self.clock() + opening.seconds_left,
            ended_by=opening.ended_by,
            epochs=self.epochs,
        )
        left = self.left()
        if left is None:
            return
        self.say(left.text(), "dim")
        if left.middle > _LONG and opening.seconds_left == math.inf:
            now = ["--time 1h"] if left.middle > 2 * 3600 else []
            now += ["fewer --trials"]
            now += ["a GPU"] if opening.device.startswith("cpu") else []
            self.warn(
                f"NOTE: shorter with {' or '.join(now)}; or as a new --study with --subset 0.1, "
                "fewer --epochs, a low --max-mult-adds, or a --space of narrower and fewer stages"
            )

    def _count(self, trial: TrialRecord) -> bool:
        """Counts a trial, and returns whether it is the best so far."""
        assert trial.outcome is not None
        self.running.pop(trial.number, None)
        self._pace.end(trial, self.clock())
        self._outcomes[trial.outcome] += 1
        self._interrupted += trial.queued_again
        if not trial.counts:
            return False
        accuracy = trial.val_accuracy or 0.0
        full = trial.outcome is Outcome.TRAINED
        better = full and (not self._best or accuracy > (self._best[0].val_accuracy or 0.0))
        if full:
            ranked = sorted([*self._best, trial], key=lambda t: (-(t.val_accuracy or 0), t.number))
            self._best = ranked[: len(_PLACES)]
        self._since_best = 0 if better else (self._since_best or 0) + 1
        return better

    def _say_trial(self, trial: TrialRecord, better: bool, threshold: Threshold | None) -> None:
        stopped = trial.outcome is Outcome.STOPPED_EARLY
        at_check = threshold is not None and trial.curve and trial.curve[-1][0] == threshold.step
        line = trial_line(
            trial,
            better=better,
            needed=threshold.score if threshold is not None and stopped and at_check else None,
            guessed=self._study is not None and at_chance(self._study, trial),
            width=min(COLUMNS, self.width) if self.console.is_terminal else COLUMNS,
        )
        style = "bold green" if better else "dim" if stopped else None
        if not trial.counts:
            style = "red"
        self.say(line, style, important=better)

    def left(self) -> TimeLeft | None:
        """The time until as many designs are trained as are asked for."""
        return self._pace.left(self.trials - self.done, self.clock())

    def progress_text(self) -> str:
        """As in ``9 of 50``."""
        return self._doing if self.location is None else of_asked(self.done, self.trials)

    def summary(self) -> str:
        """As in ``8 of 8: 4 full, 4 stopped``, and how many of them in this search if not all."""
        outcomes = dict(self._outcomes)
        now = f"; {self.done - self._before} now" if self._before else ""
        of = of_asked(self.done, self.trials)
        return f"{of}: {finished(outcomes, self._interrupted)}{now}"

    def panel(self) -> RenderableType:
        """Two kinds of bars, the time, and the best designs."""
        panel = Panel(self.width)
        if self.location is None:
            panel.line("", f"{self._doing}, {duration(self.elapsed)}")
            return panel.drawn()
        panel.bar("trials", self.done, self.trials, self.summary())
        panel.line("time", ", ".join(filter(None, [duration(self.elapsed), self.time])))
        running = list(self.running.values())
        panel.bars(running, self.epochs)
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
