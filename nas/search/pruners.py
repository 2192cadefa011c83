"""Which runs are stopped early; what each rule saves and risks is measured in docs/pruning.md."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from nas.search.evidence import EvidencePruner, Threshold
from nas.search.summaries import Summary
from nas.training.config import Schedule, TrainingConfig

CHECKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # shares of a run, in `evidence`; later saves little
_RUNGS = (0.3, 0.7)  # shares of a run, in `rungs`
_KEEP = 1 / 3  # of the runs there
_USUAL = 10  # epochs of a run, from which on `evidence` was measured


class RungPruner(BasePruner):
    """Stops a run at a rung unless its score is among the better part of all that came so far.

    A run goes on at a rung while fewer than `keep` of all runs with a score there, itself included,
    are better; so the best one never stops. Runs that stopped there or later count like the others;
    those that failed do not, since they may be repeated. Nothing but the scores that trials
    reported decides: a search that was continued would decide the same. (Of several workers each
    knows what the others reported until its own trial began.)

    Args:
        rungs: steps at which a run may stop, as reported.
        keep: share of the runs that go on from a rung, above 0 up to 1.
        size: a user attribute of trials; a run is then compared only with those no larger in it.

    Raises:
        ValueError: `keep` is out of its range.
    """

    def __init__(self, rungs: Sequence[int], *, keep: float = 0.5, size: str | None = None) -> None:
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, got {keep}")
        self._rungs = frozenset(rungs)
        self._keep = keep
        self._size = size
        self._scores = Summary(lambda: _RungScores({rung: [] for rung in self._rungs}, size))

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the run stops, which has just reported."""
        step = trial.last_step
        if step not in self._rungs:
            return False
        assert step is not None
        threshold = self._threshold(study, trial, step)
        return threshold is not None and trial.intermediate_values[step] < threshold

    def threshold(self, study: optuna.Study, trial: FrozenTrial) -> Threshold | None:
        """What the run must report at its next rung; None where nothing can stop it."""
        step = min((rung for rung in self._rungs if rung > (trial.last_step or 0)), default=None)
        score = None if step is None else self._threshold(study, trial, step)
        return None if step is None or score is None else Threshold(step, score)

    def _threshold(self, study: optuna.Study, trial: FrozenTrial, step: int) -> float | None:
        """The worst score of another run at a rung that is among the better part of all.

        None where even the worst of them all would be.
        """
        most = math.inf if self._size is None else trial.user_attrs[self._size]
        scores = self._scores.of(study.get_trials(deepcopy=False))
        others = [
            score
            for number, size, score in scores.by_rung[step]
            if size <= most and number != trial.number
        ]
        kept = max(1, math.ceil(self._keep * (len(others) + 1)))
        return sorted(others, reverse=True)[kept - 1] if len(others) >= kept else None


@dataclass(frozen=True, slots=True)
class _RungScores:
    """The runs with a score at each rung: number, size (0 where it does not matter) and score."""

    by_rung: dict[int, list[tuple[int, float, float]]]
    size: str | None

    def add(self, trial: FrozenTrial) -> None:
        if trial.state is TrialState.FAIL:
            return
        for rung in self.by_rung.keys() & trial.intermediate_values.keys():
            size = 0 if self.size is None else trial.user_attrs.get(self.size, math.inf)
            self.by_rung[rung].append((trial.number, size, trial.intermediate_values[rung]))

    def copy(self) -> "_RungScores":
        return _RungScores({rung: runs.copy() for rung, runs in self.by_rung.items()}, self.size)


def make_pruner(name: str, *, epochs: int, size: str | None = None) -> BasePruner:
    """One of `nas.search.request.PRUNERS`, for runs of this many epochs.

    Args:
        name: `evidence` stops what is unlikely to end as the best, judged by how finished runs went
            on, `rungs` keeps the best third after three tenths and after seven tenths of a run,
            `median` stops what is below the median from the middle on, `halving` is ASHA from the
            middle on.
        epochs: of a full run; epoch n is reported as step n.
        size: as in `RungPruner` and `EvidencePruner`; other pruners compare all runs.
    """
    if name == "none":
        return NopPruner()
    if name == "evidence":
        return EvidencePruner(epochs_at(CHECKS, epochs), size=size)
    if name == "rungs":
        return RungPruner(epochs_at(_RUNGS, epochs), keep=_KEEP, size=size)
    warmup = max(1, epochs // 2)  # at a high learning rate accuracy says little
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=2)
    assert name == "median", name
    return MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)


def warning_of_warmup(name: str, config: TrainingConfig) -> str | None:
    """Why a pruner may stop runs too soon that are shorter than usual; None where it does not.

    The first check of every pruner but `evidence` comes after the warm-up of any recipe here.
    """
    warmup = config.warmup * config.epochs
    checks = epochs_at(CHECKS, config.epochs)
    rises = config.schedule in (Schedule.COSINE, Schedule.TRIANGLE)
    if name != "evidence" or config.epochs >= _USUAL or not rises or not checks:
        return None
    if checks[0] > warmup:
        return None
    return (
        f"runs of {config.epochs} epochs are short: --pruner {name} may stop a design after epoch "
        f"{checks[0]}, while its learning rate still rises; --pruner none trains all in full"
    )


def epochs_at(shares: Iterable[float], epochs: int) -> list[int]:
    """The epochs at these shares of a run, at least the first and before the last."""
    return sorted({max(1, round(share * epochs)) for share in shares} - {epochs})
