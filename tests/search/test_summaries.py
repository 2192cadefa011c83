"""What the trials of a study say together."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.search.counts import Counts
from nas.search.summaries import Summary


def test_the_counts_of_a_study() -> None:
    study = optuna.create_study(direction="maximize")
    ended: list[tuple[TrialState, dict[str, object]]] = [
        (TrialState.FAIL, {"key": "a", "outcome": "failed", "reason": "interrupted"}),
        (TrialState.COMPLETE, {"key": "a", "outcome": "trained"}),
        (TrialState.PRUNED, {"key": "b", "outcome": "stopped_early"}),
        (TrialState.FAIL, {"key": "c", "outcome": "failed", "reason": "broken"}),
        (TrialState.PRUNED, {"key": "d", "outcome": "over_budget"}),
        (TrialState.PRUNED, {"key": "a", "outcome": "duplicate"}),
        (TrialState.RUNNING, {"key": "e"}),
        (TrialState.WAITING, {}),
    ]
    for state, attributes in ended:
        value = 0.5 if state is TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
    counts = Summary(Counts).of(study.trials)
    assert (counts.trained, counts.running, counts.proposed) == (2, 1, 6)
    assert counts.waiting
    assert counts.seen == {"a", "b", "c", "e"}
    assert counts.rejected == 0  # since then one was proposed that is trained
    assert Summary(Counts).of(study.trials[:6]).rejected == 2
    assert counts.failures == ["trial 3: failed: broken"]


class Numbers:
    """The numbers of the trials it was given, and whether they had ended."""

    reads = 0

    def __init__(self) -> None:
        self.numbers: list[tuple[int, bool]] = []

    def add(self, trial: FrozenTrial) -> None:
        Numbers.reads += 1
        self.numbers.append((trial.number, trial.state.is_finished()))

    def copy(self) -> "Numbers":
        own = Numbers()
        own.numbers = self.numbers.copy()
        return own


def test_a_summary_reads_trials_that_have_ended_once() -> None:
    study, summary = optuna.create_study(), Summary(Numbers)

    def numbers(but: int | None = None) -> list[tuple[int, bool]]:
        return summary.of(study.get_trials(deepcopy=False), but).numbers

    assert numbers() == []
    trials = [study.ask() for _ in range(4)]
    study.tell(trials[0], 1.0)
    study.tell(trials[2], 1.0)
    assert numbers() == [(0, True), (1, False), (2, True), (3, False)]
    assert numbers(but=3) == [(0, True), (1, False), (2, True)]
    study.tell(trials[1], state=TrialState.FAIL)
    assert numbers() == [(0, True), (1, True), (2, True), (3, False)]
    Numbers.reads = 0
    assert numbers() == [(0, True), (1, True), (2, True), (3, False)]
    assert Numbers.reads == 1
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    assert numbers() == [(0, True)]
