"""What the trials of a study add up to: all counts that decide what comes next."""

from dataclasses import dataclass, field, replace

from optuna.trial import FrozenTrial, TrialState

from nas.study.outcomes import reason_of
from nas.study.reader import readable_record
from nas.study.records import QUEUED_AGAIN, Outcome

_REJECTED = (Outcome.OVER_BUDGET, Outcome.DUPLICATE)


@dataclass(slots=True)
class Counts:
    """What a study holds, over all its searches; a sum for `nas.search.summaries`."""

    trained: int = 0  # designs, to the end or until stopped early
    running: int = 0  # designs that are being trained
    proposed: int = 0  # trials that ended for good or run; numbers the next proposal
    waiting: bool = False  # whether designs are queued
    seen: set[str] = field(default_factory=set)  # keys of designs that were or are being trained
    rejected: int = 0  # the last trials in a row that were duplicates or over budget
    failures: list[str] = field(default_factory=list)
    """Reasons of the last trials in a row that could not be trained."""

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
        if trial.state is TrialState.RUNNING:
            self.running += 1
            self.proposed += 1
            self.rejected = 0
        if outcome is None:
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

    def copy(self) -> "Counts":
        """A copy, to which further trials can be added."""
        return replace(self, seen=self.seen.copy(), failures=self.failures.copy())
