"""What trials have shown so far, as a sampler learns from it: designs and their scores."""

import copy
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nas.search.domain import Domain, Params
from nas.search.gp import Floats

Cost = Callable[[Params], float | Sequence[float]]
"""One or several positive numbers of a design that are known before it is trained."""

END = -1  # the step of a complete trial; no step of a trial is below 0


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured of designs; larger scores are better."""

    seen: Set[Hashable]  # keys
    designs: list[Params]  # those with a score
    scores: Floats  # [n]
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

    A trial that failed or was stopped before its first score counts as the worst. One that was
    stopped later would have ended as far behind the others as it was then. Nearer may be truer, but
    only the order of scores counts.

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
        else:
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
        for step in {*self._steps} - {END}:
            scores[steps == step] += self._gain(step)
        scores *= sign
        designs = self._designs.copy()
        if designs:
            scored = self._at.keys() | self._running.keys()
            designs += [design for key, design in self._worst.items() if key not in scored]
            worst = np.full(len(designs) - len(scores), scores.min())
            scores = np.concatenate([scores, worst])
        return Scores(
            seen=self._seen,
            designs=designs,
            scores=scores,
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

    def _gain(self, step: int) -> float:
        """How much is gained from a step to the end, on average."""
        gains = [
            t.value - t.intermediate_values[step]
            for t in self._complete
            if step in t.intermediate_values and t.value is not None
        ]
        return sum(gains) / len(gains) if gains else 0.0
