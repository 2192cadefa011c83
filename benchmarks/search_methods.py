"""Search methods that are compared: each proposes a design and is told what came of it."""

import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import process_time
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from nas.search import samplers
from nas.search.candidates import Candidates
from nas.search.domain import Domain, Params
from nas.search.scores import Scores
from search_tables import Task

POPULATION = 20  # of evolution
TOURNAMENT = 5  # a quarter, as 25 of 100 in Real et al. 2019
MUTATIONS = 100  # tries until one is feasible and new
REPEATS = 20  # of the variants of TPE, as in `nas.search.samplers`
STARTUP = 10  # likewise; over-budget proposals count from there on
PATIENCE = 5  # proposals per trained design, then a search has ended


class Method(Protocol):
    """One search."""

    def ask(self) -> Params:
        """A design to train."""

    def tell(self, params: Params, score: float | None) -> None:
        """What came of it; None: it is over the budget and was not trained."""


class Asked:
    """A search by ask and tell with one of Optuna's samplers, or with ours.

    Args:
        task: what is searched.
        sampler: for the study.
        told: whether the study learns how far a design is over the budget.
        suggest: asks a trial for every choice and gives the design.
        worst: whether designs over the budget get the worst score so far, for samplers that learn
            from complete trials only; otherwise they are pruned.
    """

    def __init__(
        self,
        task: Task,
        sampler: BaseSampler,
        *,
        told: bool = True,
        suggest: Callable[[optuna.Trial], Params] | None = None,
        worst: bool = False,
    ) -> None:
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._task = task
        self._told = told
        self._suggest = suggest
        self._worst = worst
        self._lowest = math.inf

    def ask(self) -> Params:
        """What the sampler proposes."""
        self._trial = self._study.ask()
        if self._suggest is not None:
            return self._suggest(self._trial)
        self._task.suggest(self._trial)
        return self._trial.params

    def tell(self, params: Params, score: float | None) -> None:
        """Ends the trial."""
        if self._told:
            self._trial.set_constraint("budget", self._task.excess(params))
        if score is not None:
            self._lowest = min(self._lowest, score)
        elif self._worst and math.isfinite(self._lowest):
            score = self._lowest
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        self._study.tell(self._trial, score, state=state)


class Evolution:
    """Regularized evolution (Real et al. 2019): the best of a few has a child, the oldest dies.

    A child differs in one choice; mutations are tried until one is within the budget and new.
    """

    def __init__(self, domain: Domain, seed: int) -> None:
        self._domain = domain
        self._rng = random.Random(seed)
        self._population: deque[tuple[float, Params]] = deque(maxlen=POPULATION)
        self._seen: set[Hashable] = set()

    def ask(self) -> Params:
        """A random design until the population is full, then a child."""
        full = len(self._population) == POPULATION
        for _ in range(MUTATIONS):
            params = self._child() if full else self._drawn()
            if self._domain.is_feasible(params) and self._domain.key(params) not in self._seen:
                break
        else:
            params = self._drawn()
        self._seen.add(self._domain.key(params))
        return params

    def tell(self, params: Params, score: float | None) -> None:
        """The design joins the population."""
        assert score is not None, "proposes what fits"
        self._population.append((score, params))

    def _drawn(self) -> Params:
        params = self._domain.sample(self._rng)
        assert params is not None, "some design fits"
        return params

    def _child(self) -> Params:
        entrants = self._rng.sample(list(self._population), TOURNAMENT)
        parent = max(entrants, key=lambda entrant: entrant[0])[1]
        name = self._rng.choice(list(parent))
        distribution = self._domain.search_space[name]
        if isinstance(distribution, IntDistribution):
            values = [*range(distribution.low, distribution.high + 1, distribution.step)]
        else:
            assert isinstance(distribution, CategoricalDistribution)
            values = [*distribution.choices]
        others = [value for value in values if value != parent[name]]
        if not others:
            return parent
        return self._domain.completed({**parent, name: self._rng.choice(others)}, self._rng)


class LocalTPE(samplers.TPE):
    """TPE; where it repeats itself, a random step away from one of the best designs."""

    def _propose(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        domain: Domain,
        history: Scores,
    ) -> Params:
        if len(history.scores) < STARTUP:
            return super()._propose(study, trial, domain, history)
        space = self._tpe.infer_relative_search_space(study, trial)
        for _ in range(REPEATS):
            values = self._tpe.sample_relative(study, trial, space)
            params = domain.completed(values, self._rng)
            if not domain.is_feasible(params):
                continue
            if domain.key(params) not in history.seen:
                return params
            parent = self._rng.choice(history.best(5, domain.is_feasible))
            around = [*domain.neighbours(parent, self._rng)]
            new = [near for near in around if domain.key(near) not in history.seen]
            if new:
                return self._rng.choice(new)
        return super()._propose(study, trial, domain, history)


class ByWidth:
    """Suggests shapes and a share of the budget; widths are the largest that stay within it.

    Each stage is so many times as wide as the one before. Widths are choices of the space.
    """

    def __init__(self, proposals: Candidates) -> None:
        self._proposals = proposals
        self._space = proposals.space
        limit = proposals.limits["parameters"]
        self._most = min(
            limit, max(self._parameters(n, self._widest(n)) for n in self._space.stages)
        )

    def __call__(self, trial: optuna.Trial) -> Params:
        """The design, as parameters of the space."""
        stages = trial.suggest_categorical("stages", self._space.stages)
        params: dict[str, Any] = {"stages": stages}
        shape = [1.0]
        for variable in self._space.variables(stages):
            name = variable.name
            if not name.startswith("channels_"):
                params[name] = trial.suggest_categorical(name, variable.choices)
            elif name != "channels_1":
                shape.append(shape[-1] * trial.suggest_float(f"ratio_{name}", 0.5, 4.0, log=True))
        share = trial.suggest_float("share", 0.01, 1.0, log=True)
        widest = self._space.channels[0][-1]
        within = [
            wide
            for base in range(8, 2 * widest + 1, 8)
            if self._parameters(stages, wide := {**params, **self._widths(base, shape)})
            <= share * self._most
        ]
        return within[-1] if within else {**params, **self._widths(8, shape)}

    def _widths(self, base: int, shape: list[float]) -> dict[str, int]:
        return {
            f"channels_{i}": min(choices, key=lambda c: abs(c - base * times))
            for i, (times, choices) in enumerate(zip(shape, self._space.channels, strict=False), 1)
        }

    def _widest(self, stages: int) -> Params:
        variables = self._space.variables(stages)
        return {"stages": stages, **{v.name: v.by_cost[-1] for v in variables}}

    def _parameters(self, stages: int, params: Params) -> int:
        return self._proposals.candidate({**params, "stages": stages}).cost.parameters


def _optuna_tpe(seed: int) -> TPESampler:
    return TPESampler(seed=seed)


def _optuna_gp(seed: int) -> GPSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)


def _ours(name: str) -> Callable[[Task, int], Method]:
    return lambda task, seed: Asked(
        task, samplers.make_sampler(name, seed=seed, domain=task.domain)
    )


def _by_width(task: Task, seed: int) -> Method:
    assert task.proposals is not None, "a space of ResNets"
    return Asked(task, _optuna_tpe(seed), suggest=ByWidth(task.proposals))


def _without_costs(task: Task, seed: int) -> Method:
    domain = replace(task.domain, cost=None)
    return Asked(task, samplers.make_sampler("gp", seed=seed, domain=domain))


METHODS: Mapping[str, Callable[[Task, int], Method]] = {
    "random": _ours("random"),
    "evolution": lambda task, seed: Evolution(task.domain, seed),
    "optuna-tpe": lambda task, seed: Asked(task, _optuna_tpe(seed), told=False),
    "optuna-tpe-told": lambda task, seed: Asked(task, _optuna_tpe(seed)),
    "tpe": _ours("tpe"),
    "tpe-local": lambda task, seed: Asked(task, LocalTPE(seed, task.domain, {})),
    "tpe-width": _by_width,
    "gp": _ours("gp"),
    "optuna-gp": lambda task, seed: Asked(task, _optuna_gp(seed), worst=True),
    "gp-startup5": _ours("gp"),
    "gp-startup16": _ours("gp"),
    "gp-raw-scores": _ours("gp"),
    "gp-no-costs": _without_costs,
}
ALWAYS = ("random", "evolution", "optuna-tpe", "optuna-tpe-told", "tpe", "gp")
RESNETS = ("tpe-local", "tpe-width")  # in addition, for a space of ResNets
ABLATIONS = ("gp-startup5", "gp-startup16", "gp-raw-scores", "gp-no-costs")
BY_HAND = ("optuna-tpe", "optuna-tpe-told", "optuna-gp")  # propose what a table may lack

_CHANGED: Mapping[str, Mapping[str, Any]] = {  # of nas.search.samplers, while a method runs
    "gp-startup5": {"_STARTUP": 5},
    "gp-startup16": {"_STARTUP": 16},
    "gp-raw-scores": {
        "normal_scores": lambda scores: (scores - scores.mean()) / (np.std(scores) or 1.0)
    },
}


@dataclass(frozen=True)
class Trace:
    """One search. `truths` are of the incumbent: the design of the best score it saw."""

    truths: list[float]  # after each trained design; 0 while there is none
    over_budget: float  # share of proposals after the first trained designs
    duplicates: int
    milliseconds: float  # of processor time per proposal
    ended: bool  # before all designs were trained


def search(task: Task, name: str, seed: int, trained: int) -> Trace:
    """Runs a method until it has trained this many different designs.

    A design that is proposed again is not trained again: the method is told the score it had.
    """
    scores: dict[Hashable, float] = {}
    best = -math.inf
    truths: list[float] = []
    proposals = late = late_over = duplicates = 0
    with ExitStack() as changes:
        for attribute, value in _CHANGED.get(name, {}).items():
            changes.enter_context(patch.object(samplers, attribute, value))
        start = process_time()
        method = METHODS[name](task, seed)
        seconds = process_time() - start
        while len(truths) < trained and proposals < PATIENCE * trained:
            start = process_time()
            params = method.ask()
            seconds += process_time() - start
            proposals += 1
            fits = task.domain.is_feasible(params)
            late += len(truths) >= STARTUP
            late_over += len(truths) >= STARTUP and not fits
            key = task.domain.key(params)
            if fits and key not in scores:
                scores[key] = task.training(params, seed)
                if scores[key] > best:
                    best, truth = scores[key], task.truth(params)
                truths.append(truth)
            elif fits:
                duplicates += 1
            start = process_time()
            method.tell(params, scores[key] if fits else None)
            seconds += process_time() - start
    missing = trained - len(truths)
    return Trace(
        truths=truths + (truths[-1:] or [0.0]) * missing,
        over_budget=late_over / max(late, 1),
        duplicates=duplicates,
        milliseconds=1000 * seconds / proposals,
        ended=missing > 0,
    )
