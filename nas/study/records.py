"""What a study holds, as plain typed values: the one way other modules read a study.

`TrialRecord` and `StudyRecord` know nothing of Optuna or SQL, so tables and figures can be made,
and tested, from records written by hand.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from nas.architecture import Architecture, ImageInput
from nas.counting import COSTS, LIMITED, Cost, count, shown_costs
from nas.latency import LatencyLimit
from nas.runtime.precision import Precision
from nas.space import Limits
from nas.text import milliseconds
from nas.training.config import precision_of

INTERRUPTED = "interrupted"
DIED = "the process died"
TIME_UP = "the time was up"
NOBODY = "nobody trains it, and it names no design"
CHANGED = "changed in the database"
DAMAGED = "damaged in the database"
FOREIGN = "written by another version of nas"
"""How reasons begin of trials that are not as this version leaves them."""
QUEUED_AGAIN = (INTERRUPTED, DIED)
"""Reasons of failed trials whose designs were queued again."""


class Outcome(StrEnum):
    """How a trial ended."""

    TRAINED = "trained"  # to the last epoch
    STOPPED_EARLY = "stopped_early"  # by the pruner
    OVER_BUDGET = "over_budget"  # never built
    DUPLICATE = "duplicate"  # never built: an earlier trial had the same network
    DIVERGED = "diverged"  # the loss was no longer finite
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # an error, or interrupted

    @property
    def counts(self) -> bool:
        """Whether such a trial is one of the designs that `--trials` asks for."""
        return self in (Outcome.TRAINED, Outcome.STOPPED_EARLY)

    @property
    def state(self) -> str:
        """The name of Optuna's state of a trial that ended this way."""
        if self is Outcome.TRAINED:
            return "COMPLETE"
        return "FAIL" if self in (Outcome.OUT_OF_MEMORY, Outcome.FAILED) else "PRUNED"


_CHANGED_TO = {
    "COMPLETE": Outcome.TRAINED,
    "PRUNED": Outcome.STOPPED_EARLY,
    "FAIL": Outcome.FAILED,
}


def ended_as(state: str, recorded: object, value: object) -> Outcome | None:
    """How a trial ended, as a database says it in two places: Optuna's state and our outcome.

    The state has the last word, since that is what people change: to FAIL, to be rid of a trial.

    Args:
        state: the name of Optuna's.
        recorded: the attribute `outcome`.
        value: of the trial.

    Returns:
        The outcome; None while it has not ended, or where it does not say.
    """
    outcome = next((outcome for outcome in Outcome if outcome == recorded), None)
    if outcome is None or state not in _CHANGED_TO:
        return None
    if state == "COMPLETE" and not (isinstance(value, int | float) and 0 <= value <= 1):
        return None  # not an accuracy
    return outcome if outcome.state == state else _CHANGED_TO[state]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """What a study was made with. A search with other settings does not continue it.

    Every value must stay as it was, since accuracies would no longer be comparable.
    """

    dataset: str
    dataset_digest: str  # of the training and validation part's files or pixels
    input: ImageInput
    train_images: int
    validation_images: int
    subset: float  # share of the training part that is used
    split_seed: int
    limits: Limits
    space: Mapping[str, object]  # SearchSpace.to_dict()
    recipe: Mapping[str, object]  # TrainingConfig as a dict; holds `epochs`
    tuning: Mapping[str, Sequence[object]] = field(default_factory=dict)  # choice -> its values
    latency: LatencyLimit | None = None  # what a design may take on the machine that measures

    @property
    def within(self) -> str:
        """The limits in words, `limits_in_words`."""
        return limits_in_words(self.limits, self.latency)

    @property
    def epochs(self) -> int:
        """Length of a full run."""
        epochs = self.recipe["epochs"]
        assert isinstance(epochs, int)
        return epochs

    @property
    def precision(self) -> Precision:
        """The arithmetic of all runs."""
        return precision_of(self.recipe)


def limits_in_words(limits: Limits, latency: LatencyLimit | None) -> str:
    """As in at most 5,000,000 parameters and a latency of 5 ms (float, 1 thread)."""
    costs = [str(limits)] if limits or latency is None else []
    return " and ".join(costs + ([] if latency is None else [f"a latency of {latency}"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One proposed design and what became of it."""

    number: int
    outcome: Outcome | None  # None: running, or ended without saying
    architecture: Architecture | None = None  # None: ended before the proposal was complete
    parameters: int | None = None
    mult_adds: int | None = None  # for one image
    activations: int | None = None  # likewise
    peak_ram: int | None = None  # bytes, see `nas.counting.Count`
    arena: int | None = None  # likewise
    flash: int | None = None  # likewise
    latency_estimate_ms: float | None = None  # from its layers
    latency_ms: float | None = None  # of the whole design, where it was measured
    val_accuracy: float | None = None  # 0..1; of the last epoch, for stopped_early too
    curve: tuple[tuple[int, float], ...] = ()  # (epoch from 1, val_accuracy)
    started: datetime | None = None
    finished: datetime | None = None
    seconds: float | None = None  # of training
    images_per_second: float | None = None
    device: str | None = None
    worker: str | None = None
    preset: str | None = None  # its name, of a known design that was queued by it
    training: Mapping[str, object] = field(default_factory=dict)  # where it is tuned: real values
    reason: str | None = None  # why it ended so, where that says more than its outcome
    forecast: str | None = None  # why stopped_early, by `nas.search.evidence`

    @property
    def design(self) -> str | None:
        """The design in one line, with the name of a preset; None before it is complete."""
        if self.architecture is None:
            return None
        return f"{self.architecture}" + (f" ({self.preset})" if self.preset else "")

    @property
    def counts(self) -> bool:
        """Whether it counts as trained, to the end or until it was stopped early."""
        return self.outcome is not None and self.outcome.counts

    @property
    def latency_in_words(self) -> str | None:
        """As in 4.81 ms of latency (estimated 4.93 ms); None where it has no limit."""
        if self.latency_estimate_ms is None:
            return None
        estimate = f"estimated {milliseconds(self.latency_estimate_ms)}"
        if self.latency_ms is None:
            return f"a latency of {estimate}"
        return f"{milliseconds(self.latency_ms)} of latency ({estimate})"

    def trained_on(self, kind: str) -> bool:
        """Whether it was trained on this kind of device, cpu or cuda; a GPU has its own name."""
        return self.device is not None and self.device.startswith("cpu") == (kind == "cpu")

    @property
    def queued_again(self) -> bool:
        """Whether it was only interrupted, and its design queued again."""
        return self.reason in QUEUED_AGAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReading:
    """One time that the test set was read, see `nas.study.test_access`."""

    began: str  # ISO 8601, with the time zone
    plan: str  # digest of what was asked
    networks: str  # digest of the weights that were tested
    command: str | None = None
    worker: str | None = None  # who reads, see nas.runtime.liveness
    ended: str | None = None  # None: cut off, or going on
    result: Mapping[str, Any] = field(default_factory=dict)  # nas.final.records.FinalRecord

    __test__: ClassVar[bool] = False  # no class of tests, whatever pytest makes of its name


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study, read whole."""

    name: str
    settings: StudySettings
    notes: tuple[str, ...] = ()  # what a reader must know, such as a fallback to another dataset
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version
    seed: int | None = None
    command: str | None = None  # the command that made the study
    searches: tuple[Mapping[str, object], ...] = ()  # all of them, the first one, too
    trials: tuple[TrialRecord, ...] = ()
    readings: tuple[TestReading, ...] = ()  # of the test set, oldest first
    latency_machines: tuple[Mapping[str, object], ...] = ()  # that measured, the last one now

    @property
    def ranking(self) -> tuple[TrialRecord, ...]:
        """The trained designs within the limits, best first; of equals the earlier first.

        Optuna's best trial is chosen in the same way.
        """
        trained = [t for t in self.trials if t.outcome is Outcome.TRAINED]
        return tuple(sorted(trained, key=lambda t: (-_measured(t), t.number)))

    @property
    def front_size(self) -> str:
        """Which of `LIMITED` the last search weighed accuracy against; else `parameters`."""
        objectives = self.searches[-1].get("objectives") if self.searches else None
        known = objectives if isinstance(objectives, list | tuple) else ()
        return next((name for name in LIMITED if name in known), "parameters")

    @property
    def target(self) -> str | None:
        """The device that the last search was for, if it was for one of `nas.devices`."""
        target = self.searches[-1].get("target") if self.searches else None
        return target if isinstance(target, str) else None

    @property
    def shown_costs(self) -> tuple[Cost, ...]:
        """The costs that its tables show."""
        return shown_costs({*self.settings.limits, self.front_size})

    def pareto_front(self, by: str = "parameters") -> tuple[TrialRecord, ...]:
        """The trained designs that no other dominates, the smallest first.

        Each is more accurate than all designs that are no larger; of designs that are equal in both
        the earliest is taken. Designs that were stopped early were not compared at full length and
        are left out.

        Args:
            by: one of `COSTS`.
        """
        sized = [
            (size, -t.val_accuracy, t.number, t)
            for t in self.ranking
            if (size := getattr(t, by)) is not None and t.val_accuracy is not None
        ]
        front: list[TrialRecord] = []
        best = math.inf
        for _, missed, _, trial in sorted(sized, key=lambda found: found[:3]):
            if missed < best:
                best = missed
                front.append(trial)
        return tuple(front)

    @property
    def incumbent(self) -> TrialRecord | None:
        """The best trained design so far, or None."""
        return self.ranking[0] if self.ranking else None

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many trials ended in which way."""
        return Counter(t.outcome for t in self.trials if t.outcome is not None)

    @property
    def asked(self) -> int | None:
        """How many designs it was to hold by its last search that says so; None where none does."""
        return asked_of(self.searches)

    @property
    def interrupted(self) -> int:
        """How many of the failed trials were only interrupted, and their designs queued again."""
        return sum(t.queued_again for t in self.trials)

    @property
    def doubts(self) -> str | None:
        """Which trials are not as nas has left them, in one line; None where all are."""
        odd = (CHANGED, DAMAGED, FOREIGN)
        found = [t for t in self.trials if (t.reason or "").startswith(odd)]
        if not found:
            return None
        others = ", ".join(str(t.number) for t in found[1:])
        more = f"; and others: {others}" if others else ""
        return f"study {self.name}, trial {found[0].number}: {found[0].reason}{more}"

    @property
    def trained(self) -> int:
        """How many designs were trained, to the end or until stopped early."""
        return sum(t.counts for t in self.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableStudy:
    """A study whose settings this version of nas cannot read, and what it can read of it."""

    name: str
    reason: str  # why not
    attributes: Mapping[str, object] = field(default_factory=dict)  # of the study, as they are
    trials: tuple[TrialRecord, ...] = ()


def asked_of(searches: Sequence[Mapping[str, object]]) -> int | None:
    """How many designs the last of these searches that says so asked for; None where none does.

    Version 0.1.0 kept that in the command alone.
    """
    for search in reversed(searches):
        if isinstance(said := search.get("trials"), int):
            return said
        if typed := re.search(r" --trials (\d+)( |$)", str(search.get("command"))):
            return int(typed[1])
    return None


_Counted = TypeVar("_Counted")


def with_costs(design: _Counted, input: ImageInput) -> _Counted:
    """A record of a design with the costs that it lacks, as what an earlier version wrote does.

    It stays as it is where it has no design, or one that cannot read these images.
    """
    record: Any = design
    if record.architecture is None or all(getattr(record, n) is not None for n in COSTS):
        return design
    try:
        cost = count(record.architecture, input)
    except ValueError:
        return design
    missing = {n: getattr(cost, n) for n in COSTS if getattr(record, n) is None}
    found: _Counted = replace(record, **missing)
    return found


def _measured(trial: TrialRecord) -> float:
    """The accuracy to rank by; what was not measured, or is no number, comes last."""
    value = trial.val_accuracy
    return value if value is not None and value >= 0 else 0.0


def training_in_words(training: Mapping[str, object]) -> str:
    """A trial's own recipe in short: ``adam 0.002, batch 512, crop+flip``; empty without one."""
    if not training:
        return ""
    get = {name: training.get(name, "?") for name in ("optimizer", "lr", "batch_size", "augment")}
    return f"{get['optimizer']} {get['lr']}, batch {get['batch_size']}, {get['augment']}"
