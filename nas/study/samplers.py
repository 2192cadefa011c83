"""What to train next: Optuna samplers that propose only what fits and was not proposed before."""

import itertools
import math
import random
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from nas.study.domain import Domain, Params
from nas.study.surrogate import Encoder, Floats, GaussianProcess, Kernel

_STARTUP = 10  # scores before a model is asked; until then designs are drawn
_OBSERVED = 150  # scores that the Gaussian process is fitted to at most
_PARENTS = 5  # best designs whose neighbours it is asked about
_CLIMBS = 3  # times it moves on to the neighbours of the most promising ones
_CLIMBERS = 2  # of them
_REPEATS = 20  # times TPE is asked again for something feasible and new
_TRIES = 200  # random designs until one is new


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

    def __init__(self, seed: int, domain: Domain | None, rules: Mapping[str, Any]) -> None:
        self.domain = domain
        self._rules = rules
        self._lock = threading.RLock()  # Optuna's n_jobs shares a sampler among threads
        self._proposed: dict[int, Params] = {}  # by trial number; the trial may not have it yet
        self._ended: dict[int, tuple[Params, Params | None, Hashable]] = {}  # by number
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """From now on proposes what a new sampler of this seed would."""
        with self._lock:
            self._rng = random.Random(seed)
            self._independent = RandomSampler(seed=seed)

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
        if not search_space or "fixed_params" in trial.system_attrs:  # queued: no choice
            return {}
        if len(study.directions) > 1:
            raise ValueError(
                f"expected a study of one objective, got {len(study.directions)}; "
                "take one of Optuna's samplers"
            )
        domain = self.domain or Domain(search_space=search_space, **self._rules)
        with self._lock:
            others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
            history = self._read(domain, others, study.direction)
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
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "_History"
    ) -> Params:
        params = None
        for _ in range(_TRIES):
            params = domain.sample(self._rng)
            if params is None or domain.key(params) not in history.seen:
                break
        return domain.completed({}, self._rng) if params is None else params

    def _read(
        self, domain: Domain, trials: Sequence[FrozenTrial], direction: StudyDirection
    ) -> "_History":
        known = []
        for trial in trials:
            if trial.state is TrialState.WAITING:
                continue
            proposal, key = self._identified(domain, trial)
            if proposal is not None:  # of this space, and complete
                known.append(_Known(trial, proposal, key))
        return _history(known, 1.0 if direction is StudyDirection.MAXIMIZE else -1.0)

    def _identified(self, domain: Domain, trial: FrozenTrial) -> tuple[Params | None, Hashable]:
        """The proposal that a trial is, and its key; remembered for trials that have ended."""
        params, proposal, key = self._ended.get(trial.number, (None, None, None))
        if self.domain is None or params is None or params != trial.params:
            values: Params = trial.params
            if trial.state is TrialState.RUNNING and not values:
                values = self._proposed.get(trial.number, values)
            proposal = domain.proposal(values)
            key = None if proposal is None else domain.key(proposal)
            if trial.state.is_finished():
                self._ended[trial.number] = (trial.params, proposal, key)
        return proposal, key


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
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "_History"
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
    neighbours of the most promising ones; all feasible and new. Expected improvement after Jones et
    al. 1998, over the best mean instead of the best score, since scores are noisy. Only the order
    of scores counts, so that a few very low ones do not hide the differences that matter. Trials
    that are still running count as if they ended as expected.
    """

    def _propose(
        self, study: optuna.Study, trial: FrozenTrial, domain: Domain, history: "_History"
    ) -> Params:
        if len(history.scores) < _STARTUP:
            return super()._propose(study, trial, domain, history)
        # Threads cost more than they save on matrices this small, above all beside torch's.
        with threadpool_limits(limits=1, user_api="blas"):
            promising = self._most_promising(domain, history)
        return promising or super()._propose(study, trial, domain, history)

    def _most_promising(self, domain: Domain, history: "_History") -> Params | None:
        model = _Model(domain, history)
        promise: dict[Hashable, float] = {}
        proposals: dict[Hashable, Params] = {}

        def ask(params: Iterable[Params]) -> None:
            new = {key: p for p in params if (key := domain.key(p)) not in history.seen}
            new = {key: p for key, p in new.items() if key not in promise}
            if new:
                proposals.update(new)
                promise.update(
                    zip(new, model.expected_improvement(list(new.values())), strict=True)
                )

        def ask_around(designs: Iterable[Params]) -> None:
            ask([n for design in designs for n in domain.neighbours(design, self._rng)])

        ask(domain.pool)
        ask_around(history.best(_PARENTS, domain.is_feasible))
        climbed: set[Hashable] = set()
        for _ in range(_CLIMBS):
            rest = promise.keys() - climbed
            top = sorted(rest, key=lambda key: (promise[key], str(key)))[-_CLIMBERS:]
            climbed.update(top)
            ask_around(proposals[key] for key in top)
        if not promise:
            return None
        return proposals[max(promise, key=lambda key: (promise[key], str(key)))]


_KINDS: Mapping[str, type[DomainSampler]] = {"gp": GP, "tpe": TPE, "random": DomainSampler}


class _Model:
    """What the history says about designs that are not in it."""

    def __init__(self, domain: Domain, history: "_History") -> None:
        self._cost = domain.cost
        self._encoder = Encoder(domain.search_space)
        self._cost_range = (np.zeros(0), np.ones(0))
        groups = self._encoder.groups
        if self._cost is not None:
            costs = self._log_costs([*domain.pool, *history.designs])
            self._cost_range = costs.min(0), np.maximum(np.ptp(costs, axis=0), 1e-9)
            groups = np.r_[groups, groups.max() + 1 + np.arange(costs.shape[1])]
        chosen = history.chosen(_OBSERVED)
        designs = [history.designs[i] for i in chosen]
        scores = _normal_scores(history.scores[chosen])
        columns = self._columns(designs)
        kernel = Kernel.fit(columns, scores, groups)
        process = GaussianProcess(kernel, columns, scores)
        means = process.predict(columns)[0]
        feasible = [domain.is_feasible(design) for design in designs]
        self._best = float(means[feasible].max() if any(feasible) else means.min())
        if history.running:
            running = self._columns(history.running)
            expected = process.predict(running)[0]
            process = GaussianProcess(kernel, np.r_[columns, running], np.r_[scores, expected])
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
        return np.hstack([columns, (self._log_costs(designs) - low) / width])

    def _log_costs(self, designs: Sequence[Params]) -> Floats:
        assert self._cost is not None
        costs = np.array([self._cost(design) for design in designs], dtype=np.float64)
        if not (costs > 0).all() or not np.isfinite(costs).all():
            raise ValueError(f"expected costs above 0, got {costs[~(costs > 0)].tolist()[:1]}")
        return np.log(costs.reshape(len(designs), -1))


def _normal_scores(scores: Floats) -> Floats:
    """Scores of a standard normal distribution in the same order; ties stay ties."""
    normal = ndtri((rankdata(scores) - 0.5) / len(scores))
    centred: Floats = normal - normal.mean()
    return centred


@dataclass(frozen=True, slots=True)
class _Known:
    trial: FrozenTrial
    proposal: Params
    key: Hashable


@dataclass(frozen=True, slots=True)
class _History:
    """What other trials say: larger scores are better."""

    seen: frozenset[Hashable]  # keys
    designs: list[Params]  # those with a score
    scores: Floats  # [n]
    running: list[Params]

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


def _history(known: Sequence[_Known], sign: float) -> _History:
    """What the trials say, for a study that is maximized (sign 1) or minimized (-1).

    A trial that failed or was stopped before its first score counts as the worst.
    """
    ends = _Ends([k.trial for k in known if k.trial.state is TrialState.COMPLETE])
    scored: dict[Hashable, tuple[Params, float]] = {}
    worst: dict[Hashable, Params] = {}
    running: dict[Hashable, Params] = {}
    for one in known:
        if one.trial.state is TrialState.RUNNING:
            running[one.key] = one.proposal
        elif (score := ends.score(one.trial)) is not None:
            scored[one.key] = (one.proposal, sign * score)
        else:
            worst[one.key] = one.proposal
    if scored:
        lowest = min(score for _, score in scored.values())
        scored |= {
            key: (p, lowest) for key, p in worst.items() if key not in scored and key not in running
        }
    return _History(
        seen=frozenset(one.key for one in known),
        designs=[proposal for proposal, _ in scored.values()],
        scores=np.array([score for _, score in scored.values()]),
        running=list(running.values()),
    )


class _Ends:
    """The score a trial ended with, or would have if it had not been stopped.

    A trial that was stopped would have ended as far behind the others as it was then. Nearer may be
    truer, but only the order of scores counts.
    """

    def __init__(self, complete: Sequence[FrozenTrial]) -> None:
        self._complete = complete
        self._gains: dict[int, float] = {}  # by step: how much is gained from then on

    def score(self, trial: FrozenTrial) -> float | None:
        if trial.state is TrialState.COMPLETE:
            return trial.value
        if trial.state is not TrialState.PRUNED or trial.last_step is None:
            return None
        step = trial.last_step
        score = trial.intermediate_values[step]
        if not math.isfinite(score):
            return None
        if step not in self._gains:
            self._gains[step] = self._gain(step)
        return score + self._gains[step]

    def _gain(self, step: int) -> float:
        gains = [
            t.value - t.intermediate_values[step]
            for t in self._complete
            if step in t.intermediate_values and t.value is not None
        ]
        return sum(gains) / len(gains) if gains else 0.0
