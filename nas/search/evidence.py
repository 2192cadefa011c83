"""Stops a run by evidence: by how the finished runs of the same study went on from its epoch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from scipy.special import stdtr, stdtrit

from nas.search.summaries import Summary

RISK = 0.15  # that the best design of a search is stopped; measured in docs/pruning.md
FEWEST_FINISHED = 5  # runs without which nothing is predicted
_PRIOR = 3  # runs that the prior, one point more at the end for one point more now, is worth
_DEGREES = 5  # of freedom at most: what learning curves do has longer tails than a normal
_LEAST_DEVIATION = 1e-9  # where all finished runs lie on a line


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a run at a check."""

    step: int
    score: float  # the best that the run has reported
    final: float  # expected after its last step
    deviation: float  # of final scores from what was expected
    best: float  # final score of the best finished run
    chance: float  # that the run ends above it
    needed: float  # chance below which the run stops

    @property
    def stops(self) -> bool:
        """Whether the run is to stop."""
        return self.chance < self.needed

    def __str__(self) -> str:
        return (
            f"{self.score:.1%} by epoch {self.step}: {self.final:.1%} ± "
            f"{self.deviation:.1%} expected, {self.best:.1%} is the best, "
            f"chance {self.chance:.2%}, {self.needed:.2%} needed"
        )


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a run must have reported by a step so as not to be stopped there.

    In a search a step is an epoch, and the score the validation accuracy.
    """

    step: int
    score: float


class EvidencePruner(BasePruner):
    """Stops a run whose chance to end above the best finished one is small.

    At a check the final scores of finished runs are regressed on the best scores that they had
    reported by then (Bayesian linear regression with a prior for the slope; chance from Student's
    distribution). The n-th run stops where its chance is below ``risk / n``. A run that is the best
    of the first n is the best of all N with chance n / N, where designs come in random order. So if
    the chances are right, ``risk / n * n / N``, summed over N runs, is at least the probability
    that the best is stopped, whatever N. Runs that stopped count in n, but have no final score;
    those that finished passed the same checks as the run that is judged, so they are its like.

    A run goes on while fewer than five that can be compared have finished, and where no finished
    one had a better score at that check, as the best so far has. Failed trials do not count, since
    they may be repeated. Nothing but the scores that trials reported decides: a search that was
    continued decides the same. (Of several workers each knows what the others reported until its
    own trial began.)

    Args:
        checks: steps at which a run may stop, as reported.
        risk: chance to stop the best design of a search, above 0 and below 1.
        size: a user attribute of trials; a run is then compared only with those no larger in it.

    Raises:
        ValueError: `risk` is out of its range.
    """

    def __init__(
        self, checks: Iterable[int], *, risk: float = RISK, size: str | None = None
    ) -> None:
        if not 0 < risk < 1:
            raise ValueError(f"risk must be above 0 and below 1, got {risk}")
        self._checks = tuple(sorted(set(checks)))
        self._risk = risk
        self._size = size
        self._ended = Summary(lambda: _EndedRuns(self._checks, size))

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the run stops, which has just reported."""
        forecast = self.forecast(study, trial)
        return forecast is not None and forecast.stops

    def forecast(self, study: optuna.Study, trial: FrozenTrial) -> Forecast | None:
        """What the run's scores say of its end.

        None off a check, while too little has finished, and where no finished run had a better
        score there.
        """
        step = trial.last_step
        if step not in self._checks:
            return None
        assert step is not None
        past = self._regression(study, trial, step)
        score = _best_until(step, trial)
        if past is None or score >= past.top:
            return None
        final, deviation, best = past.final(score), past.deviation, past.best
        chance = float(stdtr(past.degrees, (final - best) / deviation))
        return Forecast(step, score, final, deviation, best, chance, past.needed)

    def threshold(self, study: optuna.Study, trial: FrozenTrial) -> Threshold | None:
        """What the run must have reported by its next check; None where nothing can stop it."""
        step = next((check for check in self._checks if check > (trial.last_step or 0)), None)
        past = None if step is None else self._regression(study, trial, step)
        if step is None or past is None:
            return None
        final = past.best + past.deviation * float(stdtrit(past.degrees, past.needed))
        return Threshold(step, min(past.score(final), past.top))

    def _regression(
        self, study: optuna.Study, trial: FrozenTrial, step: int
    ) -> "_Regression | None":
        """How the runs went on from a check that this one is compared with; None of too few."""
        ended = self._ended.of(study.get_trials(deepcopy=False), trial.number)
        most = math.inf if self._size is None else trial.user_attrs[self._size]
        finished = [run for run in ended.finished if run.size <= most]
        if len(finished) < FEWEST_FINISHED:
            return None
        at = self._checks.index(step)
        return _Regression.of(
            np.array([run.scores[at] for run in finished]),
            np.array([run.final for run in finished]),
            needed=self._risk / (1 + sum(size <= most for size in ended.sizes)),
        )


@dataclass(frozen=True, slots=True)
class _Regression:
    """What final scores are expected of scores at a check."""

    slope: float
    mean_score: float
    mean_final: float
    deviation: float  # of a new final score from the expected one
    degrees: int  # of freedom
    top: float  # score at the check, which none exceeds
    best: float  # final score
    needed: float  # chance to exceed it, below which a run stops

    @classmethod
    def of(
        cls, scores_F: NDArray[np.float64], finals_F: NDArray[np.float64], needed: float
    ) -> "_Regression":
        """Least squares for the slope, with `_PRIOR` points of average leverage on a slope of 1.

        The deviation is the same at every score: a run worse than all is not less surely worse.
        """
        runs = len(scores_F)
        dx_F, dy_F = scores_F - scores_F.mean(), finals_F - finals_F.mean()
        spread = float(dx_F @ dx_F)
        prior = _PRIOR * spread / runs
        slope = max(0.0, float(dx_F @ dy_F + prior) / (spread + prior)) if spread > 0 else 1.0
        residuals_F = dy_F - slope * dx_F
        variance = float(residuals_F @ residuals_F) / (runs - 1) * (1 + 1 / runs)
        return cls(
            slope,
            float(scores_F.mean()),
            float(finals_F.mean()),
            max(math.sqrt(variance), _LEAST_DEVIATION),
            min(runs - 1, _DEGREES),
            float(scores_F.max()),
            float(finals_F.max()),
            needed,
        )

    def final(self, score: float) -> float:
        """The final score that is expected of this one."""
        return self.mean_final + self.slope * (score - self.mean_score)

    def score(self, final: float) -> float:
        """The score of which this final one is expected; infinite where none decides."""
        if self.slope > 0:
            return self.mean_score + (final - self.mean_final) / self.slope
        return math.inf if final > self.mean_final else -math.inf


def _best_until(step: int, trial: FrozenTrial) -> float:
    """The best score that a trial reported up to a step."""
    return max(score for at, score in trial.intermediate_values.items() if at <= step)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A run that came to its end."""

    size: float
    scores: list[float]  # the best until each check
    final: float


@dataclass(frozen=True, slots=True)
class _EndedRuns:
    """The runs that ended and did not fail; a size is 0 where it does not matter."""

    checks: tuple[int, ...]
    size: str | None
    sizes: list[float] = field(default_factory=list)
    finished: list[_Finished] = field(default_factory=list)

    def add(self, trial: FrozenTrial) -> None:
        reported = trial.intermediate_values
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or not reported:
            return
        size = 0.0 if self.size is None else trial.user_attrs.get(self.size, math.inf)
        self.sizes.append(size)
        if trial.state is TrialState.COMPLETE and self.checks and min(reported) <= self.checks[0]:
            scores = [_best_until(check, trial) for check in self.checks]
            self.finished.append(_Finished(size, scores, trial.values[0]))

    def copy(self) -> "_EndedRuns":
        return replace(self, sizes=self.sizes.copy(), finished=self.finished.copy())
