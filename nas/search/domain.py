"""What a sampler may propose, for any Optuna search space: limits, sameness, costs, neighbours."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Params = Mapping[str, Any]

LEARNED_COSTS = ("parameters", "mult_adds")
"""Those of `Count` that proposals learn from; with others a study would go on differently."""

_TRIES = 1_000  # random choices until one is within the limits
_FEW = 8  # choices of which all count as neighbours
_NEAR = 3  # steps of a longer range that count as neighbours
_FAR = 2  # other values of a longer range that do too
_POOL = 500
_POOL_SEED = 0  # fixed: a search that is continued has the same pool


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What may be proposed.

    Args:
        search_space: every variable that a proposal may have.
        active: the variables of a proposal with these values, for spaces where one choice opens
            others; it may raise KeyError when a value that decides this is missing.
        is_feasible: whether a proposal is within the limits.
        key: equal for candidates that are the same thing.
        cost: one or several positive numbers, such as parameters, that are known before a trial and
            may explain its score.
        draw: a random feasible proposal; without it, each variable is drawn uniformly until a
            proposal is feasible.
    """

    search_space: Mapping[str, BaseDistribution]
    active: Callable[[Params], Collection[str]] | None = None
    is_feasible: Callable[[Params], bool] = lambda params: True
    key: Callable[[Params], Hashable] = lambda params: tuple(sorted(params.items()))
    cost: Callable[[Params], float | Sequence[float]] | None = None
    draw: Callable[[random.Random], Params] | None = None

    def proposal(self, values: Params) -> Params | None:
        """The proposal that these values are; None if one is missing or is no choice."""
        try:
            names = self.search_space if self.active is None else self.active(values)
            found = {name: values[name] for name in names}
        except KeyError:
            return None
        possible = all(_holds(self.search_space[name], value) for name, value in found.items())
        return found if possible else None

    def completed(self, values: Params, rng: random.Random) -> Params:
        """A proposal with these values where it has such variables, and random ones elsewhere."""
        full = {
            name: values[name] if name in values else _uniform(distribution, rng)
            for name, distribution in self.search_space.items()
        }
        return full if self.active is None else {name: full[name] for name in self.active(full)}

    def sample(self, rng: random.Random) -> Params | None:
        """A random feasible proposal; None when none was found in many tries."""
        if self.draw is not None:
            return self.draw(rng)
        tries = (self.completed({}, rng) for _ in range(_TRIES))
        return next(filter(self.is_feasible, tries), None)

    def neighbours(self, params: Params, rng: random.Random) -> Iterator[Params]:
        """Feasible candidates in which one choice is another, or two have changed places.

        Variables that depend on a changed choice are drawn at random. Exchanges keep what a design
        costs about as it is: at the edge of a limit no single choice can grow before another one
        shrinks.
        """
        space = self.search_space
        changes: list[Params] = [
            {name: other}
            for name, value in params.items()
            for other in _others(space[name], value, rng)
        ]
        changes += [
            {a: params[b], b: params[a]}
            for a, b in itertools.combinations(params, 2)
            if params[a] != params[b] and space[a] == space[b]
        ]
        for change in changes:
            proposal = self.completed({**params, **change}, rng)
            if self.is_feasible(proposal):
                yield proposal

    @cached_property
    def pool(self) -> tuple[Params, ...]:
        """Random feasible candidates, always the same ones."""
        rng = random.Random(_POOL_SEED)
        pool: list[Params] = []
        while len(pool) < _POOL and (params := self.sample(rng)) is not None:
            pool.append(params)
        return tuple(pool)

    def narrowed(
        self, is_feasible: Callable[[Params], bool], draw: Callable[[random.Random], Params]
    ) -> "Domain":
        """This domain within tighter limits; its pool is what is left, and some drawn anew."""
        domain = dataclasses.replace(self, is_feasible=is_feasible, draw=draw)
        rng = random.Random(_POOL_SEED)
        drawn = [draw(rng) for _ in range(_POOL // 10)]
        domain.__dict__["pool"] = (*filter(is_feasible, self.pool), *drawn)
        return domain


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not isinstance(value, int | float) or not distribution.low <= value <= distribution.high:
        return False
    return isinstance(distribution, FloatDistribution) or (
        (value - distribution.low) % distribution.step == 0
    )


def _uniform(distribution: BaseDistribution, rng: random.Random) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return rng.choice(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return rng.randrange(distribution.low, distribution.high + 1, distribution.step)
    return _at(distribution, rng.random())


def _others(distribution: BaseDistribution, value: Any, rng: random.Random) -> list[Any]:
    """Other values: all of few, else the next ones on both sides and some anywhere."""
    if isinstance(distribution, CategoricalDistribution):
        values: Sequence[Any] = distribution.choices
    elif isinstance(distribution, IntDistribution) and not distribution.log:
        values = range(distribution.low, distribution.high + 1, distribution.step)
    else:
        place = _place(distribution, value)
        moves = [rng.gauss(place, sigma) for sigma in (0.02, 0.05, 0.1)] + [rng.random()]
        return [_at(distribution, min(max(move, 0.0), 1.0)) for move in moves]
    if len(values) <= _FEW:
        return [other for other in values if other != value]
    at = values.index(value)
    near = {*range(max(at - _NEAR, 0), min(at + _NEAR + 1, len(values)))}
    far = {rng.randrange(len(values)) for _ in range(_FAR)}
    return [values[i] for i in sorted((near | far) - {at})]


def _at(distribution: BaseDistribution, place: float) -> Any:
    """The value at a place in 0..1 of a range."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    value = low * (high / low) ** place if distribution.log else low + (high - low) * place
    if isinstance(distribution, IntDistribution):
        return min(max(round(value), low), high)
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    return min(max(value, low), high)


def _place(distribution: BaseDistribution, value: float) -> float:
    """Where a value is in a range, in 0..1."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if low == high:
        return 0.0
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
