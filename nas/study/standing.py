"""Where a study stands between two trials: all that decides what comes next."""

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from nas.study.records import QUEUED_AGAIN, Outcome

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


def standing_of(trials: Iterable[FrozenTrial]) -> Standing:
    """The standing of a study with these trials, in their order."""
    trained = running = proposed = rejected = 0
    waiting = False
    seen = set()
    failures: list[str] = []
    for trial in trials:
        attributes = trial.user_attrs
        if trial.state is TrialState.WAITING:
            waiting = True
            continue
        if attributes.get("reason") in QUEUED_AGAIN:
            continue
        outcome = Outcome(attributes["outcome"]) if "outcome" in attributes else None
        if outcome not in _REJECTED and "key" in attributes:
            seen.add(attributes["key"])
        if outcome is None:
            running += trial.state is TrialState.RUNNING
            proposed += trial.state is TrialState.RUNNING
            continue
        proposed += 1
        trained += outcome.counts
        if outcome in _REJECTED:
            rejected += 1
            continue
        rejected = 0
        if outcome.counts:
            failures.clear()
        else:
            failures.append(f"trial {trial.number}: {outcome}: {attributes.get('reason')}")
    return Standing(
        trained,
        running,
        proposed,
        waiting,
        frozenset(seen),
        rejected,
        tuple(failures),
    )
