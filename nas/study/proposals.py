"""What to train next: Optuna proposes every choice of a design, the count decides."""

import hashlib
import itertools
import random
import warnings
from collections.abc import Set
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from nas.architecture import Architecture
from nas.counting import Count
from nas.space import Choices, Limits, SearchSpace

# The dashboard (0.21) reads only this older attribute; Optuna itself reads both.
_DASHBOARD_CONSTRAINTS = "constraints"

_DRAWS = 100  # before the designs are walked through one by one


def make_sampler(name: str, *, seed: int) -> BaseSampler:
    """One of `nas.study.request.SAMPLERS`.

    `tpe` models choices jointly. N decides which choices a design has, and without groups Optuna
    would model jointly only those that all trials share.
    """
    if name == "random":
        return RandomSampler(seed=seed)
    assert name == "tpe", name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of `group`
        return TPESampler(seed=seed, multivariate=True, group=True)


def make_pruner(name: str, *, epochs: int) -> BasePruner:
    """One of `nas.study.request.PRUNERS`, for runs of this many epochs.

    A run is judged from its middle on: at a high learning rate accuracy says little.
    """
    warmup = max(1, epochs // 2)
    if name == "none":
        return NopPruner()
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=2)
    assert name == "median", name
    return MedianPruner(n_startup_trials=5, n_warmup_steps=warmup)


def derived_seed(*parts: object) -> int:
    """A seed of 32 bits that depends on every part, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def suggest(trial: optuna.Trial, space: SearchSpace) -> Architecture:
    """The design that the study's sampler proposes.

    All choices are asked for, over the budget or not: a sampler that models choices jointly learns
    only from trials that have them all.
    """
    stages = _suggest(trial, "stages", space.stages)
    values = {v.name: _suggest(trial, v.name, v.choices) for v in space.variables(stages)}
    return space.architecture(stages, values)


def describe(trial: optuna.Trial, architecture: Architecture, cost: Count) -> None:
    """Records what a design is and what it costs."""
    attributes = {
        "key": architecture.key,
        "parameters": cost.parameters,
        "mult_adds": cost.mult_adds,
        "blocks": list(architecture.blocks),
        "channels": list(architecture.channels),
        "kernels": list(architecture.kernels),
        "shortcut_kernels": list(architecture.shortcut_kernels),
        "pool": architecture.pool,
    }
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def mark_excess(trial: optuna.Trial, cost: Count, limits: Limits) -> bool:
    """Records how far a design is above each limit; returns whether it is within all.

    Samplers learn from it, and Optuna Dashboard shows it.
    """
    excess = limits.excess(cost)
    for name, value in excess.items():
        trial.set_constraint(name, value)
    trial.storage.set_trial_system_attr(
        trial._trial_id, _DASHBOARD_CONSTRAINTS, list(excess.values())
    )
    return all(value <= 0 for value in excess.values())


class Unseen:
    """The designs of a space within the limits that were not tried yet."""

    def __init__(self, space: SearchSpace, limits: Limits) -> None:
        self._space = space
        self._limits = limits
        self._rng = random.Random(0)  # decides how fast an answer is found, not which
        self._known: str | None = None  # the key of a design that was unseen when last asked

    def any(self, seen: Set[str]) -> bool:
        """Whether there is a design whose key is not in `seen`."""
        if self._known is None or self._known in seen:
            found = self._find(seen, self._rng)
            self._known = found and self._key(*found)
        return self._known is not None

    def draw(self, seen: Set[str], rng: random.Random) -> dict[str, int]:
        """The parameters of a trial with such a design; there must be one."""
        found = self._find(seen, rng)
        assert found is not None, "see any()"
        stages, values = found
        return {"stages": stages, **values}

    def _find(self, seen: Set[str], rng: random.Random) -> tuple[int, dict[str, int]] | None:
        for _ in range(_DRAWS):
            drawn = self._space.draw(self._limits, rng)
            if self._key(*drawn) not in seen:
                return drawn
        for design in self._space.designs(self._limits):
            if self._key(*design) not in seen:
                return design
        return None

    def _key(self, stages: int, values: dict[str, int]) -> str:
        return self._space.architecture(stages, values).key


def _suggest(trial: optuna.Trial, name: str, choices: Choices) -> int:
    distribution = _distribution(choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    value: Any = trial.suggest_categorical(name, choices)
    return int(value)


def _distribution(choices: Choices) -> BaseDistribution:
    """Even steps are a range, whose order a sampler can use; other lists are categories."""
    steps = {after - before for before, after in itertools.pairwise(choices)}
    if len(steps) <= 1:
        return IntDistribution(choices[0], choices[-1], step=steps.pop() if steps else 1)
    return CategoricalDistribution(choices)
