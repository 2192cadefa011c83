"""Runs with given scores, and what pruners do with them."""

from collections.abc import Iterable, Sequence

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.evidence import EvidencePruner, Threshold
from nas.search.pruners import RungPruner, make_pruner


def make_trial(
    *scores: float, state: TrialState = TrialState.PRUNED, steps: int = 3, parameters: int = 1
) -> FrozenTrial:
    """A run with this score at every step, or with these scores from the first step on."""
    values = scores if len(scores) > 1 else scores * steps
    return create_trial(
        state=state,
        value=values[-1] if state is TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(values, start=1)),
        user_attrs={"parameters": parameters},
    )


def make_study(trials: Iterable[FrozenTrial]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def stops(pruner: BasePruner, earlier: Iterable[FrozenTrial], own: FrozenTrial) -> bool:
    study = make_study([*earlier, own])
    return pruner.prune(study, study.trials[-1])


def threshold(
    pruner: EvidencePruner | RungPruner, earlier: Iterable[FrozenTrial]
) -> Threshold | None:
    """What a run must reach that has reported nothing yet."""
    begun = create_trial(state=TrialState.RUNNING, user_attrs={"parameters": 1})
    study = make_study([*earlier, begun])
    return pruner.threshold(study, study.trials[-1])


def running(score: float, **settings: int) -> FrozenTrial:
    return make_trial(score, state=TrialState.RUNNING, **settings)


def replay(pruner: BasePruner, curves: Sequence[Sequence[float]], study: optuna.Study) -> list[int]:
    """How many steps of each curve a search does."""
    study.pruner = pruner
    done = []
    for curve in curves:
        trial = study.ask()
        for step, score in enumerate(curve, start=1):
            trial.report(score, step)
            if step < len(curve) and trial.should_prune():
                break
        state = TrialState.COMPLETE if step == len(curve) else TrialState.PRUNED
        study.tell(trial, curve[-1] if step == len(curve) else None, state=state)
        done.append(step)
    return done


def replay_in_parts(name: str, parts: Sequence[Sequence[Sequence[float]]], url: str) -> list[int]:
    """The same by a named pruner for runs of 10 steps, each part by a search of its own."""
    done: list[int] = []
    for part in parts:
        study = optuna.create_study(
            storage=url, study_name="s", direction="maximize", load_if_exists=True
        )
        done += replay(make_pruner(name, epochs=10), part, study)
    return done
