"""Where a study stands between two trials: all that decides what comes next."""

from dataclasses import dataclass, field, replace

from optuna.trial import FrozenTrial, TrialState

from nas.study.outcomes import reason_of
from nas.study.records import QUEUED_AGAIN, Outcome
from nas.study.storage import readable_record

_REJECTED = (Outcome.OVER_BUDGET, Outcome.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a study holds, over all its searches."""

    trained: int  # designs, to the end or until stopped early
    running: int  # designs that are being trained
    proposed: int  # trials that ended for good or run; numbers the next proposal
    waiting: bool  # whether designs are queued
    seen: frozenset[str]  # keys of designs that were or are being trained
    rejected: int  # the last trials in a row that were duplicates or over budget
    failures: tuple[str, ...]  # reasons of the last trials in a row that could not be trained


@dataclass(slots=True)
class Tally:
    """Counts trials, in their order; a sum for `nas.study.summaries`."""

    trained: int = 0
    running: int = 0
    proposed: int = 0
    waiting: bool = False
    seen: set[str] = field(default_factory=set)
    rejected: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, trial: FrozenTrial) -> None:
        """Counts the next trial."""
        attributes = trial.user_attrs
        if trial.state is TrialState.WAITING:
            self.waiting = True
            return
        if reason_of(trial) in QUEUED_AGAIN:
            return
        outcome = readable_record(trial).outcome
        if outcome not in _REJECTED and "key" in attributes:
            self.seen.add(str(attributes["key"]))
        if outcome is None:
            self.running += trial.state is TrialState.RUNNING
            self.proposed += trial.state is TrialState.RUNNING
            return
        self.proposed += 1
        self.trained += outcome.counts
        if outcome in _REJECTED:
            self.rejected += 1
            return
        self.rejected = 0
        if outcome.counts:
            self.failures.clear()
        else:
            self.failures.append(f"trial {trial.number}: {outcome}: {reason_of(trial)}")

    def copy(self) -> "Tally":
        """One of its own, to count on."""
        return replace(self, seen=self.seen.copy(), failures=self.failures.copy())

    def standing(self) -> Standing:
        """What has been counted."""
        return Standing(
            self.trained,
            self.running,
            self.proposed,
            self.waiting,
            frozenset(self.seen),
            self.rejected,
            tuple(self.failures),
        )
