"""What a search may propose: the designs of a space within limits, each with training choices."""

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nas.architecture import Architecture
from nas.counting import Count, count
from nas.search.domain import LEARNED_COSTS, Domain, Params
from nas.search.latency import LatencyTable
from nas.space import Choices, Limits, SearchSpace
from nas.study.optuna_private import CONSTRAINTS, trial_id_of
from nas.training.tuning import Choice, Value, trial_key

_costs = attrgetter(*LEARNED_COSTS)
_DRAWS = 100  # before the designs are walked through one by one
_SMALLER = 0.9  # times the mult-adds of a design that is too slow
_REMEMBERED = 50_000  # candidates, of about 1 kB


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to train, and what is known of it before."""

    architecture: Architecture
    training: Mapping[str, Value]  # of each training choice
    cost: Count
    key: str  # equal for candidates that train the same network in the same way


class Candidates:
    """Everything a search may propose, as an Optuna search space and as designs.

    The parameters of an Optuna trial are `stages`, the variables of the space for that N, and the
    training choices.

    Args:
        space: the designs.
        limits: what they may cost.
        choices: `nas.training.tuning.training_choices`.
        latency: what is known of designs, where their latency has a limit. As it learns, fewer or
            more candidates are within the limits.
    """

    def __init__(
        self,
        space: SearchSpace,
        limits: Limits,
        choices: Sequence[Choice] = (),
        latency: LatencyTable | None = None,
    ) -> None:
        self.space = space
        self.limits = limits
        self.choices = tuple(choices)
        self._latency = latency
        training = [choice.name for choice in choices]
        self._names = {
            n: ("stages", *(variable.name for variable in space.variables(n)), *training)
            for n in space.stages
        }
        self._candidates: dict[tuple[Any, ...], Candidate] = {}
        self._unseen: Params | None = None  # a candidate that was unseen when last asked
        self._rng = random.Random(0)  # decides how fast one is found, not which is proposed

    @cached_property
    def search_space(self) -> dict[str, BaseDistribution]:
        """Every parameter that a trial may have."""
        variables = [v for n in self.space.stages for v in self.space.variables(n)]
        return {
            "stages": _distribution(self.space.stages),
            **{v.name: _distribution(v.choices) for v in variables},
            **{choice.name: CategoricalDistribution(choice.values) for choice in self.choices},
        }

    @cached_property
    def domain(self) -> Domain:
        """What a sampler must know."""
        return Domain(
            search_space=self.search_space,
            active=lambda params: self._names[params["stages"]],
            is_feasible=lambda params: self._allows(params, self.limits),
            key=lambda params: self.candidate(params).key,
            cost=lambda params: _costs(self.candidate(params).cost),
            draw=lambda rng: self.draw(self.limits, rng),
        )

    def domain_within(self, limits: Limits) -> Domain:
        """The same within tighter limits, for one proposal."""
        return self.domain.narrowed(
            lambda params: self._allows(params, limits),
            lambda rng: self.draw(limits, rng),
        )

    def candidate(self, params: Params) -> Candidate:
        """What the parameters of a trial describe."""
        names = self._names[params["stages"]]
        values = tuple(params[name] for name in names)
        known = self._candidates.get(values)
        if known is None:
            if len(self._candidates) >= _REMEMBERED:
                self._candidates.clear()
            architecture = self.space.architecture(params["stages"], params)
            training = {choice.name: params[choice.name] for choice in self.choices}
            known = candidate_of(architecture, training, self.space)
            self._candidates[values] = known
        return known

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """What the study's sampler proposes."""
        params = {"stages": _suggest(trial, "stages", self.search_space["stages"])}
        for name in self._names[params["stages"]][1:]:
            params[name] = _suggest(trial, name, self.search_space[name])
        return self.candidate(params)

    def draw(self, limits: Limits, rng: random.Random) -> Params:
        """A random candidate within the limits: the design of `SearchSpace.draw`, any training.

        One that is too slow is followed by a smaller one; the smallest may be too slow, too.

        Raises:
            ValueError: no design of the space is within the limits.
        """
        limits = self._fast(limits)
        while True:
            stages, values = self.space.draw(limits, rng)
            training = {choice.name: rng.choice(choice.values) for choice in self.choices}
            params = {"stages": stages, **values, **training}
            if self._allows(params, limits):
                return params
            least = self.candidate(params).cost.mult_adds
            smallest = self.space.smallest(limits, by="mult_adds")
            if count(smallest, self.space.input).mult_adds == least:
                return params
            limits = self._up_to(int(_SMALLER * least), limits)

    def any_unseen(self, seen: Set[str]) -> bool:
        """Whether there is a candidate whose key is not in `seen`."""
        unseen = self._unseen
        if unseen is None or self._key(unseen) in seen or not self._allows(unseen, self.limits):
            self._unseen = self.draw_unseen(seen, self._rng, self.limits)
        return self._unseen is not None

    def draw_unseen(self, seen: Set[str], rng: random.Random, limits: Limits) -> Params | None:
        """A candidate within the limits whose key is not in `seen`, if there is one.

        Raises:
            ValueError: no design of the space is within the limits.
        """
        drawn = (self.draw(limits, rng) for _ in range(_DRAWS))
        walked = self._walk(self._fast(limits))
        found = (p for p in itertools.chain(drawn, walked) if self._key(p) not in seen)
        return next((p for p in found if self._allows(p, limits)), None)

    def _walk(self, limits: Limits) -> Iterator[Params]:
        names = [choice.name for choice in self.choices]
        for stages, values in self.space.designs(limits):
            for training in itertools.product(*(choice.values for choice in self.choices)):
                yield {"stages": stages, **values, **dict(zip(names, training, strict=True))}

    def _allows(self, params: Params, limits: Limits) -> bool:
        """Whether a candidate is within limits, and fast enough as far as is known."""
        candidate = self.candidate(params)
        fits = limits.allow(candidate.cost)
        return fits and (self._latency is None or self._latency.allows(candidate.architecture))

    def _fast(self, limits: Limits) -> Limits:
        """Limits without what is known to be too slow, that allow the same candidates."""
        return (
            limits if self._latency is None else self._up_to(self._latency.most_mult_adds, limits)
        )

    def _up_to(self, mult_adds: int, limits: Limits) -> Limits:
        """With a limit of mult-adds, under which there still is a design."""
        smallest = self.space.smallest(limits, by="mult_adds")
        least = count(smallest, self.space.input).mult_adds
        return limits.lowered("mult_adds", max(mult_adds, least))

    def _key(self, params: Params) -> str:
        return self.candidate(params).key


def candidate_of(
    architecture: Architecture, training: Mapping[str, Value], space: SearchSpace
) -> Candidate:
    """A design, of the space or not, with these training choices."""
    return Candidate(
        architecture, training, count(architecture, space.input), trial_key(architecture, training)
    )


def derived_seed(*parts: object) -> int:
    """A seed of 32 bits that depends on every part, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def mark_excess(trial: optuna.Trial, excess: Mapping[str, float]) -> bool:
    """Records how far a design is above each limit; returns whether it is within all.

    Samplers learn from it, and Optuna Dashboard shows it.

    Args:
        trial: of the design.
        excess: per limit, as `Limits.excess` has it.
    """
    known = trial.constraints  # of a trial that a person has set back to be trained again
    for name, value in excess.items():
        if name not in known:
            trial.set_constraint(name, value)
    trial.storage.set_trial_system_attr(trial_id_of(trial), CONSTRAINTS, list(excess.values()))
    return all(value <= 0 for value in excess.values())


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def _distribution(choices: Choices) -> BaseDistribution:
    """Even steps are a range, whose order a sampler can use; other lists are categories."""
    steps = {after - before for before, after in itertools.pairwise(choices)}
    if len(steps) <= 1:
        return IntDistribution(choices[0], choices[-1], step=steps.pop() if steps else 1)
    return CategoricalDistribution(choices)
