"""What to train next: Optuna samplers that propose only what fits and was not proposed before."""

import random
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from nas.search.domain import Domain, Params
from nas.search.gp import Encoder, Floats, GaussianProcess, Kernel
from nas.search.scores import ScoredTrials, Scores, carried_deviations, normal_scores
from nas.search.summaries import Summary
from nas.study.optuna_private import FIXED_PARAMS

_STARTUP = 10  # scores before a model is asked; until then designs are drawn
_OBSERVED = 150  # scores that the Gaussian process is fitted to at most
_PARENTS = 5  # best designs whose neighbours it is asked about
_CLIMBS = 3  # times it moves on to the neighbours of the most promising ones
_CLIMBERS = 2  # of them
_REPEATS = 20  # times TPE is asked again for something feasible and new
_TRIES = 200  # random designs until one is new

_IDENTITY = ("search_space", "active", "key", "cost")  # of a domain: which proposal a trial is


def make_sampler(
    name: str = "gp",
    *,
    seed: int,
    domain: Domain | None = None,
    is_feasible: Callable[[Params], bool] | None = None,
    key: Callable[[Params], Hashable] | None = None,
    cost: Callable[[Params], float | Sequence[float]] | None = None,
) -> "DomainSampler":
    """A sampler for `optuna.create_study(sampler=...)`, for studies of one objective.

    Args:
        name: `gp`, `tpe` or `random`.
        seed: of its random choices.
        domain: what may be proposed. Without it, the search space is what all trials of the study
            share, as with Optuna's own samplers: the first trial is then drawn blindly.
        is_feasible: as in `Domain`, when there is no domain.
        key: as in `Domain`, when there is no domain.
        cost: as in `Domain`, when there is no domain.

    Raises:
        ValueError: the name is unknown.
    """
    rules = {"is_feasible": is_feasible, "key": key, "cost": cost}
    given = {rule: function for rule, function in rules.items() if function is not None}
    assert domain is None or not given, "a domain has its own rules"
    if name not in _KINDS:
        raise ValueError(f"expected a sampler {', '.join(_KINDS)}, got {name!r}")
    return _KINDS[name](seed, domain, given)


class DomainSampler(BaseSampler):
    """Proposes a random design that is feasible and that no other trial has.

    "Random" means as `Domain.sample` draws it. Subclasses choose better.
    """

    _learns_costs = False

    def __init__(self, seed: int, domain: Domain | None, rules: Mapping[str, Any]) -> None:
        self.domain = domain
        self._rules = rules
        self._lock = threading.RLock()  # Optuna's n_jobs shares a sampler among threads
        self._proposed: dict[int, Params] = {}  # by trial number; the trial may not have it yet
        self._scored: Summary[ScoredTrials]
        self._read_in: Domain | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """From now on proposes what a new sampler of this seed would."""
        with self._lock:
            self._rng = random.Random(seed)
            self._independent = RandomSampler(seed=seed)

    def begin(self, domain: Domain, seed: int) -> None:
        """What is proposed next is of this domain, and what a new sampler of this seed would."""
        self.domain = domain
        self.reseed(seed)

    def reseed_rng(self) -> None:
        """Chance decides; Optuna calls it in each of several parallel threads or processes."""
        self.reseed(random.SystemRandom().getrandbits(32))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every variable of the domain."""
        if self.domain is not None:
            return dict(self.domain.search_space)
        return intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A feasible new design; where none was found in many tries, any one.

        Raises:
            ValueError: the study has several objectives.
        """
        if not search_space or FIXED_PARAMS in trial.system_attrs:  # queued: no choice
            return {}
        if len(study.directions) > 1:
            raise ValueError(
                f"expected a study of one objective, got {len(study.directions)}; use one of "
                "Optuna's samplers"
            )
        domain = self.domain or Domain(search_space=search_space, **self._rules)
        with self._lock:
            history = self._read(domain, study, trial)
            self._proposed[trial.number] = self._propose(study, trial, domain, history)
            return dict(self._proposed[trial.number])

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value, for a variable that is not in the domain."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _propose(
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "Scores"
    ) -> Params:
        params = None
        for _ in range(_TRIES):
            params = domain.sample(self._rng)
            if params is None or domain.key(params) not in history.seen:
                break
        return domain.completed({}, self._rng) if params is None else params

    def _read(self, domain: Domain, study: optuna.Study, trial: FrozenTrial) -> "Scores":
        """What the other trials of the study say, if it is one of this domain."""
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        before = self._read_in  # whose limits may be others
        if before is None or any(getattr(domain, a) != getattr(before, a) for a in _IDENTITY):
            self._read_in = domain
            cost = domain.cost if self._learns_costs else None
            self._scored = Summary(lambda: ScoredTrials(domain, self._proposed, cost))
        return self._scored.of(study.get_trials(deepcopy=False), but=trial.number).scores(sign)


class TPE(DomainSampler):
    """Optuna's TPE, asked again until what it proposes is feasible and new."""

    def reseed(self, seed: int) -> None:
        """From now on proposes what a new sampler of this seed would."""
        super().reseed(seed)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of `group`
            # With groups it models choices jointly that only some designs have.
            self._tpe = TPESampler(seed=seed, multivariate=True, group=True)

    def _propose(
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "Scores"
    ) -> Params:
        if len(history.scores) >= _STARTUP:
            space = self._tpe.infer_relative_search_space(study, trial)
            for _ in range(_REPEATS):
                values = self._tpe.sample_relative(study, trial, space)
                params = domain.completed(values, self._rng)
                if domain.is_feasible(params) and domain.key(params) not in history.seen:
                    return params
        return super()._propose(study, trial, domain, history)


class GP(DomainSampler):
    """Proposes the design of the largest expected improvement under a Gaussian process.

    The process is asked about random designs, about neighbours of the best ones, and then about
    neighbours of the most promising ones; all feasible and new. Every second time it is asked about
    the neighbours of the best mean alone, since what it says of designs far away may be little.
    Expected improvement after Jones et al. 1998, over the best mean instead of the best score:
    scores are noisy. Only the order of scores counts, so that a few very low ones do not hide the
    differences that matter. A run that was stopped counts by the score to expect of it, the less
    the more doubtful that is. Trials that are still running count as if they ended as expected.
    """

    _learns_costs = True

    def _propose(
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "Scores"
    ) -> Params:
        if len(history.scores) < _STARTUP:
            return super()._propose(study, trial, domain, history)
        # Threads cost more than they save on matrices this small, above all beside torch's.
        with threadpool_limits(limits=1, user_api="blas"):
            promising = self._most_promising(domain, history)
        return promising or super()._propose(study, trial, domain, history)

    def _most_promising(self, domain: Domain, history: "Scores") -> Params | None:
        model = _Model(domain, history)
        promise: dict[Hashable, float] = {}
        candidates: dict[Hashable, Params] = {}

        def ask(params: Iterable[Params]) -> None:
            new = {key: p for p in params if (key := domain.key(p)) not in history.seen}
            new = {key: p for key, p in new.items() if key not in promise}
            if new:
                candidates.update(new)
                promise.update(
                    zip(new, model.expected_improvement(list(new.values())), strict=True)
                )

        def ask_around(designs: Iterable[Params]) -> None:
            ask([n for design in designs for n in domain.neighbours(design, self._rng)])

        def best() -> Params:
            return candidates[max(promise, key=lambda key: (promise[key], str(key)))]

        if len(history.scores) % 2 and model.incumbent is not None:
            ask_around([model.incumbent])
        if promise:
            return best()
        ask(domain.pool)
        ask_around(history.best(_PARENTS, domain.is_feasible))
        climbed: set[Hashable] = set()
        for _ in range(_CLIMBS):
            rest = promise.keys() - climbed
            top = sorted(rest, key=lambda key: (promise[key], str(key)))[-_CLIMBERS:]
            climbed.update(top)
            ask_around(candidates[key] for key in top)
        return best() if promise else None


_KINDS: Mapping[str, type[DomainSampler]] = {"gp": GP, "tpe": TPE, "random": DomainSampler}


class _Model:
    """What the history says about designs that are not in it."""

    def __init__(self, domain: Domain, history: "Scores") -> None:
        self._cost = domain.cost
        self._encoder = Encoder(domain.search_space)
        self._cost_range = (np.zeros(0), np.ones(0))
        groups = self._encoder.groups
        if self._cost is not None:
            costs = self._costs([*domain.pool, *history.designs[history.costed :]])
            costs = _logs(np.vstack([costs, *(history.cost_range or ())]))
            self._cost_range = costs.min(0), np.maximum(np.ptp(costs, axis=0), 1e-9)
            groups = np.r_[groups, groups.max() + 1 + np.arange(costs.shape[1])]
        chosen = history.chosen(_OBSERVED)
        designs = [history.designs[i] for i in chosen]
        measured = history.scores[chosen]
        scores = normal_scores(measured)
        doubts = np.square(carried_deviations(history.deviations[chosen], measured, scores))
        columns = self._columns(designs)
        kernel = Kernel.fit(columns, scores, groups, doubts)
        process = GaussianProcess(kernel, columns, scores, doubts)
        means = process.predict(columns)[0]
        feasible = [i for i, design in enumerate(designs) if domain.is_feasible(design)]
        self.incumbent: Params | None = None  # of the best mean, since the best score was luck too
        self._best = float(means.min())
        if feasible:
            at = max(feasible, key=lambda i: means[i])
            self.incumbent, self._best = designs[at], float(means[at])
        if history.running:
            running = self._columns(history.running)
            expected = process.predict(running)[0]
            process = GaussianProcess(
                kernel,
                np.r_[columns, running],
                np.r_[scores, expected],
                np.r_[doubts, np.zeros(len(running))],
            )
        self._process = process

    def expected_improvement(self, designs: Sequence[Params]) -> list[float]:
        """[m] by how much each is expected to be better than the best, in deviations of scores."""
        mean, deviation = self._process.predict(self._columns(designs))
        ahead = (mean - self._best) / deviation
        density = np.exp(-0.5 * ahead * ahead) / np.sqrt(2 * np.pi)
        improvement: list[float] = (deviation * (ahead * ndtr(ahead) + density)).tolist()
        return improvement

    def _columns(self, designs: Sequence[Params]) -> Floats:
        columns = self._encoder.encode(designs)
        if self._cost is None:
            return columns
        low, width = self._cost_range
        return np.hstack([columns, (_logs(self._costs(designs)) - low) / width])

    def _costs(self, designs: Sequence[Params]) -> Floats:
        assert self._cost is not None
        costs = np.array([self._cost(design) for design in designs], dtype=np.float64)
        return costs.reshape(len(designs), -1)


def _logs(costs: Floats) -> Floats:
    if not (costs > 0).all() or not np.isfinite(costs).all():
        raise ValueError(f"expected costs above 0, got {costs[~(costs > 0)].tolist()[:1]}")
    logs: Floats = np.log(costs)
    return logs
