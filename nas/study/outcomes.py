"""How a trial of Optuna ended, see `nas.study.records.ended_as`."""

from optuna.trial import FrozenTrial, TrialState

from nas.study.records import CHANGED, Outcome, ended_as

STATES = {outcome: TrialState[outcome.state] for outcome in Outcome}
"""The state of a trial that ended this way."""


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended; None while it has not, or where it does not say."""
    value = trial.value if trial.state is TrialState.COMPLETE else None
    return ended_as(trial.state.name, trial.user_attrs.get("outcome"), value)


def reason_of(trial: FrozenTrial) -> str | None:
    """Why a trial ended so, if there is something to say."""
    recorded = trial.user_attrs.get("outcome")
    outcome = outcome_of(trial)
    if outcome is not None and outcome != recorded:
        return f"{CHANGED}: it ended as {recorded}, and its state there is {trial.state.name}"
    return trial.user_attrs.get("reason") if trial.state.is_finished() else None
