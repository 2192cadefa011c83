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
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from nas.architecture import Architecture
from nas.counting import Count
from nas.space import Choices, Limits, SearchSpace

# The dashboard (0.21) reads only this older attribute; Optuna itself reads both.
_DASHBOARD_CONSTRAINTS = "constraints"


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


def has_unseen(space: SearchSpace, limits: Limits, seen: Set[str]) -> bool:
    """Whether the space has a design within the limits whose key is not in `seen`."""
    return _first_unseen(space, limits, seen) is not None


def enqueue_unseen(
    study: optuna.Study,
    space: SearchSpace,
    limits: Limits,
    seen: Set[str],
    rng: random.Random,
    *,
    draws: int = 100,
) -> None:
    """Queues a design within the limits whose key is not in `seen`, as the study's next trial.

    For when a sampler keeps proposing what cannot be trained. There must be such a design.
    """
    for _ in range(draws):
        stages, values = space.draw(limits, rng)
        if space.architecture(stages, values).key not in seen:
            break
    else:
        found = _first_unseen(space, limits, seen)
        assert found is not None, "see has_unseen"
        stages, values = found
    study.enqueue_trial({"stages": stages, **values})


def _first_unseen(
    space: SearchSpace, limits: Limits, seen: Set[str]
) -> tuple[int, dict[str, int]] | None:
    for stages, values in space.designs(limits):
        if space.architecture(stages, values).key not in seen:
            return stages, values
    return None


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
