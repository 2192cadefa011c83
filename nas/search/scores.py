"""What trials have shown so far, as a sampler learns from it: designs and their scores."""

import copy
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri
from scipy.stats import rankdata

from nas.search.domain import Domain, Params
from nas.search.gp import Floats

Cost = Callable[[Params], float | Sequence[float]]
"""One or several positive numbers of a design that are known before it is trained."""

_SLOPE = 0.1  # how far the slope from a score on the way to the last one may be from 1
_LEAST = 1e-12  # variance, so that runs that gain exactly the same are no special case

END = -1  # the step of a complete trial; no step of a trial is below 0


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured of designs; larger scores are better."""

    seen: Set[Hashable]  # keys
    designs: list[Params]  # those with a score
    scores: Floats  # [n] at the end of a full run, measured or predicted
    deviations: Floats  # [n] standard deviations of the predictions; 0 of what was measured
    running: list[Params]
    cost_range: tuple[Floats, Floats] | None  # lowest and highest of the first `costed` designs
    costed: int

    def best(self, number: int, is_feasible: Callable[[Params], bool]) -> list[Params]:
        """The feasible designs of the best scores, best first; of equals the earlier first."""
        order = np.argsort(-self.scores, kind="stable")
        feasible = (self.designs[i] for i in order if is_feasible(self.designs[i]))
        return list(itertools.islice(feasible, number))

    def chosen(self, number: int) -> NDArray[np.intp]:
        """Positions of at most this many designs to learn from: the best, and the newest others."""
        order = np.argsort(-self.scores, kind="stable")
        best, others = order[: number // 2], order[number // 2 :]
        newest = np.sort(others)[-(number - len(best)) :]
        return np.concatenate([best, newest])


class ScoredTrials:
    """The scores of trials, one after another; a sum for `nas.search.summaries`.

    A trial that failed or was stopped before its first score counts as the worst. One above a limit
    has no score at all: how good it is was not asked. One that was stopped later has the score that
    the complete ones let expect of it (`predicted_ends`).

    Args:
        domain: trials that are no candidates of it are left out.
        proposed: by trial number, for trials that may not have their proposal yet.
        cost: of candidates, if their range is to be known.
    """

    def __init__(self, domain: Domain, proposed: Mapping[int, Params], cost: Cost | None) -> None:
        self._domain = domain
        self._proposed = proposed
        self._cost = cost
        self._seen: set[Hashable] = set()  # keys
        self._at: dict[Hashable, int] = {}  # the position of a key's score in the next three
        self._designs: list[Params] = []
        self._scores: list[float] = []  # at the step
        self._steps: list[int] = []  # at which it was stopped, or END
        self._worst: dict[Hashable, Params] = {}
        self._running: dict[Hashable, Params] = {}
        self._complete: list[FrozenTrial] = []
        self._cost_range: tuple[Floats, Floats] | None = None  # of the designs with a score

    def add(self, trial: FrozenTrial) -> None:
        """Takes in the next trial."""
        if trial.state is TrialState.WAITING:
            return
        values: Params = trial.params
        if trial.state is TrialState.RUNNING and not values:
            values = self._proposed.get(trial.number, values)
        proposal = self._domain.proposal(values)
        if proposal is None:  # of another space, or incomplete
            return
        key = self._domain.key(proposal)
        self._seen.add(key)
        if trial.state is TrialState.RUNNING:
            self._running[key] = proposal
        elif trial.state is TrialState.COMPLETE and trial.value is not None:
            self._complete.append(trial)
            self._score(key, proposal, trial.value, END)
        elif (
            trial.state is TrialState.PRUNED
            and (step := trial.last_step) is not None
            and math.isfinite(score := trial.intermediate_values[step])
        ):
            self._score(key, proposal, score, step)
        elif all(excess <= 0 for excess in trial.constraints.values()):
            self._worst[key] = proposal

    def copy(self) -> "ScoredTrials":
        """A copy, to which further trials can be added."""
        own = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, set | dict | list):
                setattr(own, name, value.copy())
        return own

    def scores(self, sign: float) -> "Scores":
        """All scores, for a study that is maximized (sign 1) or minimized (-1)."""
        scores, steps = np.array(self._scores, dtype=np.float64), np.array(self._steps)
        deviations = np.zeros(len(scores))
        for step in {*self._steps} - {END}:
            there = steps == step
            scores[there], deviations[there] = predicted_ends(*self._pairs(step), scores[there])
        scores *= sign
        designs = self._designs.copy()
        if designs:
            scored = self._at.keys() | self._running.keys()
            designs += [design for key, design in self._worst.items() if key not in scored]
            worst = np.full(len(designs) - len(scores), scores.min())
            scores = np.concatenate([scores, worst])
            deviations = np.concatenate([deviations, np.zeros(len(worst))])
        return Scores(
            seen=self._seen,
            designs=designs,
            scores=scores,
            deviations=deviations,
            running=list(self._running.values()),
            cost_range=self._cost_range,
            costed=len(self._designs),
        )

    def _score(self, key: Hashable, design: Params, score: float, step: int) -> None:
        at = self._at.setdefault(key, len(self._designs))
        if at == len(self._designs):
            self._designs.append(design)
            self._scores.append(score)
            self._steps.append(step)
        else:
            self._designs[at], self._scores[at], self._steps[at] = design, score, step
        if self._cost is not None:
            costs = np.atleast_1d(np.array(self._cost(design), dtype=np.float64))
            low, high = self._cost_range or (costs, costs)
            self._cost_range = np.minimum(low, costs), np.maximum(high, costs)

    def _pairs(self, step: int) -> tuple[Floats, Floats]:
        """The scores of complete trials at a step, and at their end."""
        pairs = [
            (score, trial.value)
            for trial in self._complete
            if math.isfinite(score := trial.intermediate_values.get(step, math.nan))
        ]
        early, ends = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return early, ends


def predicted_ends(early: Floats, ends: Floats, stopped: Floats) -> tuple[Floats, Floats]:
    """What runs that were stopped would have ended with, by those that were not.

    By a straight line through the complete runs. They are mostly the better ones, too much alike to
    show its slope, so that is expected to be near 1: all gain the same (linear regression with a
    prior; Rasmussen and Williams 2006, section 2.1.1).

    Args:
        early: [n] scores of complete runs at the step.
        ends: [n] their last ones.
        stopped: [m] scores of stopped runs at the step.

    Returns:
        [m] the scores to expect, and [m] their standard deviations; without complete runs the
        scores at the step, and 0.
    """
    if len(early) == 0:
        return stopped, np.zeros(len(stopped))
    away, apart = early - early.mean(), stopped - early.mean()
    noise = max(float(np.var(ends - early, ddof=1)) if len(early) > 1 else 0.0, _LEAST)
    weight = noise / _SLOPE**2  # of the prior
    certainty = float(away @ away) + weight
    slope = (float(away @ ends) + weight) / certainty
    variance = noise * (1 + 1 / len(early) + np.square(apart) / certainty)
    return ends.mean() + slope * apart, np.sqrt(variance)


def normal_scores(scores: Floats) -> Floats:
    """Scores of a standard normal distribution in the same order; ties stay ties."""
    normal = ndtri((rankdata(scores) - 0.5) / len(scores))
    centred: Floats = normal - normal.mean()
    return centred


def carried_deviations(deviations: Floats, scores: Floats, normal: Floats) -> Floats:
    """[n] the deviations of scores as those of their normal scores: half of what they span."""
    order = np.argsort(scores, kind="stable")
    ends = [np.interp(scores + sign * deviations, scores[order], normal[order]) for sign in (1, -1)]
    carried: Floats = (ends[0] - ends[1]) / 2
    return carried
