"""How a trial ended, as the study's database says it in two places: Optuna's state and ours."""

from optuna.trial import FrozenTrial, TrialState

from nas.study.records import CHANGED, Outcome

STATES = {
    Outcome.TRAINED: TrialState.COMPLETE,
    Outcome.STOPPED_EARLY: TrialState.PRUNED,
    Outcome.OVER_BUDGET: TrialState.PRUNED,
    Outcome.DUPLICATE: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}
"""The state of a trial that ended this way."""

_CHANGED_TO = {
    TrialState.COMPLETE: Outcome.TRAINED,
    TrialState.PRUNED: Outcome.STOPPED_EARLY,
    TrialState.FAIL: Outcome.FAILED,
}


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended; None while it has not, or where it does not say.

    Its state has the last word, since that is what people change: to FAIL, to be rid of a trial.
    """
    said = _said(trial)
    if said is None or STATES[said] is trial.state:
        return said
    return _CHANGED_TO[trial.state]


def reason_of(trial: FrozenTrial) -> str | None:
    """Why a trial ended so, if there is something to say."""
    said = _said(trial)
    if said is not None and STATES[said] is not trial.state:
        return f"{CHANGED}: it ended as {said}, and its state there is {trial.state.name}"
    return trial.user_attrs.get("reason") if trial.state.is_finished() else None


def _said(trial: FrozenTrial) -> Outcome | None:
    if not trial.state.is_finished():
        return None
    if trial.state is TrialState.COMPLETE and not 0 <= (trial.value or 0.0) <= 1:
        return None  # not an accuracy
    said = trial.user_attrs.get("outcome")
    return next((outcome for outcome in Outcome if outcome == said), None)  # another version's
