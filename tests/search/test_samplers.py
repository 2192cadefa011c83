import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from scipy.stats import chisquare
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from nas.architecture import ImageInput
from nas.counting import count
from nas.search.candidates import Candidates, mark_excess
from nas.search.domain import Domain
from nas.search.gp import Encoder, GaussianProcess, Kernel
from nas.search.request import SAMPLERS
from nas.search.samplers import make_sampler
from nas.search.scores import ScoredTrials, predicted_ends
from nas.space import Limits, SearchSpace
from nas.training.tuning import Choice

INPUT = ImageInput(channels=1, height=8, width=8, classes=10)
SMALL = SearchSpace(
    input=INPUT,
    stages=(1, 2),
    blocks=((1, 2), (1, 2)),
    channels=((4, 6, 8), (4, 8)),
    kernels=((3,), (3, 5)),
    shortcut_kernels=((1,), (1, 3)),
    pool=(2, 4),
)
TIGHT = Limits(max_parameters=2_500)

# Numbers in order, names without order, a width on a logarithmic scale, and a rate.
MIXED: dict[str, BaseDistribution] = {
    "depth": IntDistribution(1, 6),
    "width": IntDistribution(16, 512, step=16),
    "kind": CategoricalDistribution(("plain", "wide", "deep")),
    "kernel": CategoricalDistribution((3, 5, 7, 11)),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
}


def mixed_is_feasible(params: Mapping[str, Any]) -> bool:
    return bool(params["depth"] * params["width"] <= 700)


def mixed_score(params: Mapping[str, Any]) -> float:
    """Best where the limit binds, with a kind and a rate of its own."""
    kind = {"plain": 0.0, "wide": 1.0, "deep": 0.4}[params["kind"]]
    size = params["depth"] ** 0.5 * params["width"] ** 0.25
    return float(size + kind - abs(np.log10(params["rate"]) + 2) - 0.1 * params["kernel"])


def ask(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> optuna.Trial:
    return study.ask(dict(space))


def searched(
    sampler: str, trials: int, *, seed: int, domain: Domain, noise: float = 0.0
) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(sampler, seed=seed, domain=domain)
    )
    rng = random.Random(seed)
    for _ in range(trials):
        trial = ask(study, domain.search_space)
        study.tell(trial, mixed_score(trial.params) + rng.gauss(0, noise))
    return study.trials


def exact_measure(space: SearchSpace, limits: Limits) -> dict[str, float]:
    """The probability of each key as `SearchSpace.draw` says: N, then one choice after another,
    each uniform among the values that leave a design within the limits."""
    fitting = [(n, v) for n, v in space.designs(limits)]
    probability: defaultdict[str, float] = defaultdict(float)
    for n in sorted({n for n, _ in fitting}):
        share = 1.0 / len({n for n, _ in fitting})
        of_n = [v for m, v in fitting if m == n]
        for values in of_n:
            p = share
            left = of_n
            for variable in space.variables(n):
                p /= len({v[variable.name] for v in left})
                left = [v for v in left if v[variable.name] == values[variable.name]]
            probability[space.architecture(n, values).key] += p
    return probability


def test_the_random_sampler_draws_with_the_documented_measure() -> None:
    expected = exact_measure(SMALL, TIGHT)
    assert sum(expected.values()) == pytest.approx(1)
    assert len(expected) > 20
    candidates = Candidates(SMALL, TIGHT)
    sampler = make_sampler("random", seed=1, domain=candidates.domain)
    study = optuna.create_study(direction="maximize")
    nobody = create_trial(state=TrialState.RUNNING)
    found: Counter[str] = Counter()
    draws = 20_000
    for _ in range(draws):
        params = sampler.sample_relative(study, nobody, candidates.search_space)
        found[candidates.candidate(params).key] += 1
    assert set(found) <= set(expected)
    keys = sorted(expected)
    p = chisquare([found[k] for k in keys], [draws * expected[k] for k in keys]).pvalue
    assert p > 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_design_is_repeated_while_others_are_left(sampler: str) -> None:
    limits = Limits(max_parameters=1_500)
    candidates = Candidates(SMALL, limits)
    fitting = {SMALL.architecture(n, v).key for n, v in SMALL.designs(limits)}
    study = optuna.create_study(direction="maximize")
    study.sampler = make_sampler(sampler, seed=3, domain=candidates.domain)
    seen = []
    for _ in range(len(fitting) * 3 // 4):
        trial = study.ask()
        candidate = candidates.suggest(trial)
        assert limits.allow(candidate.cost)
        assert candidate.cost == count(candidate.architecture, INPUT)
        seen.append(candidate.key)
        study.tell(trial, candidate.cost.mult_adds)
    assert len(set(seen)) == len(seen) > 20
    assert set(seen) <= fitting


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), running=st.booleans())
def test_on_any_search_space_proposals_are_feasible_and_new(
    sampler: str, seed: int, running: bool
) -> None:
    space = {name: MIXED[name] for name in ("depth", "width", "kind")}
    domain = Domain(search_space=space, is_feasible=mixed_is_feasible)
    study = optuna.create_study(direction="maximize")
    study.sampler = make_sampler(sampler, seed=seed, domain=domain)
    rng = random.Random(seed)
    ends = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    for _ in range(25):
        trial = ask(study, space)
        state = rng.choice(ends)
        if running and rng.random() < 0.3:
            continue
        if state is TrialState.PRUNED and rng.random() < 0.7:
            trial.report(rng.random(), 1)
        study.tell(trial, rng.random() if state is TrialState.COMPLETE else None, state=state)
    proposed = [t.params for t in study.trials]
    assert all(mixed_is_feasible(params) for params in proposed)
    assert len({tuple(sorted(p.items())) for p in proposed}) == len(proposed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_a_domain_only_the_first_trial_is_blind(sampler: str) -> None:
    def width(params: Mapping[str, Any]) -> int:  # designs of one width are the same thing
        return int(params["width"])

    study = optuna.create_study(direction="minimize")
    study.sampler = make_sampler(
        sampler, seed=5, is_feasible=mixed_is_feasible, key=width, cost=width
    )
    for _ in range(14):
        trial = study.ask()
        depth, wide = trial.suggest_int("depth", 1, 6), trial.suggest_int("width", 16, 512, step=16)
        study.tell(trial, depth - wide)
    later = [t.params for t in study.trials[1:]]
    assert all(mixed_is_feasible(params) for params in later)
    assert len({width(params) for params in later}) == len(later)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_proposes_the_same_also_with_a_new_sampler_half_way(sampler: str) -> None:
    domain = Domain(search_space=MIXED, is_feasible=mixed_is_feasible)

    def run(new_sampler_at: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize")
        used = make_sampler(sampler, seed=99, domain=domain)
        for number in range(16):
            if number in new_sampler_at:
                used = make_sampler(sampler, seed=77, domain=domain)
            used.reseed(seed + number)
            study.sampler = used
            trial = ask(study, MIXED)
            study.tell(trial, mixed_score(trial.params))
        return [t.params for t in study.trials]

    assert run((), 0) == run((7, 12), 0)
    assert run((), 0) != run((), 1000)


def test_the_default_finds_what_random_search_does_not() -> None:
    domain = Domain(search_space=MIXED, is_feasible=mixed_is_feasible)
    best: dict[str, list[float]] = {"gp": [], "random": []}
    for sampler, seed in itertools.product(best, range(4)):
        trials = searched(sampler, 30, seed=seed, domain=domain, noise=0.1)
        best[sampler].append(max(mixed_score(t.params) for t in trials))
    assert min(best["gp"]) > max(best["random"])


def test_designs_like_those_that_were_stopped_or_failed_are_avoided() -> None:
    space: dict[str, BaseDistribution] = {n: IntDistribution(0, 30) for n in ("x", "y")}
    domain = Domain(search_space=space)
    for bad in (TrialState.PRUNED, TrialState.FAIL):
        study = optuna.create_study(direction="maximize")
        rng = random.Random(0)
        for number in range(24):
            x, y = rng.randint(0, 30), rng.randint(0, 30)
            good = x >= 15
            early = {1: 0.3 if good else 0.1} if good or bad is TrialState.PRUNED else {}
            study.add_trial(
                create_trial(
                    params={"x": x, "y": y},
                    distributions=space,
                    state=TrialState.COMPLETE if good else bad,
                    value=0.8 + 0.001 * number if good else None,
                    intermediate_values=early,
                )
            )
        proposed = []
        for seed in range(10):
            study.sampler = make_sampler("gp", seed=seed, domain=domain)
            proposed.append(ask(study, space).params["x"])
        assert sum(x >= 15 for x in proposed) >= 8, (bad, proposed)


def test_a_design_that_was_refused_says_nothing_of_accuracy() -> None:
    domain = Domain(search_space={"x": IntDistribution(0, 9)})
    study = optuna.create_study(direction="maximize")
    for x, value in ((0, 0.5), (1, 0.7)):
        trial = study.ask()
        trial.suggest_int("x", x, x)
        study.tell(trial, value)
    scored = ScoredTrials(domain, {}, None)
    for x, excess in ((2, -0.1), (3, 0.1)):  # diverged, and over a limit
        trial = study.ask()
        trial.suggest_int("x", x, x)
        mark_excess(trial, {"latency": excess})
        study.tell(trial, state=TrialState.PRUNED)
    for frozen in study.trials:
        scored.add(frozen)
    scores = scored.scores(1.0)
    assert scores.seen == {domain.key({"x": x}) for x in range(4)}
    assert [design["x"] for design in scores.designs] == [0, 1, 2]
    assert list(scores.scores) == [0.5, 0.7, 0.5]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_sampler_serves_one_study_after_another(sampler: str) -> None:
    domain = Domain(search_space={"x": IntDistribution(1, 20)})
    used = make_sampler(sampler, seed=0, domain=domain)
    for _ in range(2):
        study = optuna.create_study(direction="maximize", sampler=used)
        for _ in range(20):
            trial = ask(study, domain.search_space)
            study.tell(trial, -abs(trial.params["x"] - 7))
        assert sorted(t.params["x"] for t in study.trials) == list(range(1, 21))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_threads_that_share_a_sampler_propose_different_things(sampler: str) -> None:
    domain = Domain(search_space={name: IntDistribution(0, 9) for name in ("x", "y")})
    study = optuna.create_study(sampler=make_sampler(sampler, seed=0, domain=domain))

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("x", 0, 9) + trial.suggest_int("y", 0, 9)

    study.optimize(objective, n_trials=40, n_jobs=4)
    assert len({(t.params["x"], t.params["y"]) for t in study.trials}) == 40


def test_what_cannot_be_used_is_one_line() -> None:
    with pytest.raises(ValueError, match="expected a sampler gp, tpe, random, got 'cmaes'"):
        make_sampler("cmaes", seed=0)
    space = {"x": IntDistribution(0, 99)}
    domain = Domain(search_space=space, cost=lambda params: params["x"])
    study = optuna.create_study(sampler=make_sampler("gp", seed=0, domain=domain))
    for x in range(10):
        study.add_trial(create_trial(params={"x": x}, distributions={**space}, value=x))
    with pytest.raises(ValueError, match="expected costs above 0, got"):
        ask(study, space)


def test_a_study_of_several_objectives_is_refused() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = make_sampler("gp", seed=0, domain=Domain(search_space=MIXED))
    with pytest.raises(ValueError, match="one objective, got 2"):
        ask(study, MIXED)


def test_where_all_is_seen_or_nothing_feasible_a_proposal_still_comes() -> None:
    space = {"x": IntDistribution(1, 3)}
    nothing = Domain(search_space=space, is_feasible=lambda params: False)
    for domain in (Domain(search_space=space), nothing):
        study = optuna.create_study(direction="maximize")
        study.sampler = make_sampler("gp", seed=0, domain=domain)
        for _ in range(14):
            trial = ask(study, space)
            study.tell(trial, trial.params["x"])
        assert {t.params["x"] for t in study.trials} == {1, 2, 3}


def test_neighbours_change_one_choice_or_exchange_two_and_are_feasible() -> None:
    choices = [Choice("lr_factor", (0.5, 1.0, 2.0), 1.0)]
    candidates = Candidates(SMALL, TIGHT, choices)
    rng = random.Random(0)
    start = candidates.draw(TIGHT, rng)
    found = list(candidates.domain.neighbours(start, rng))
    assert all(TIGHT.allow(candidates.candidate(params).cost) for params in found)
    same_stages = [p for p in found if p["stages"] == start["stages"]]
    changed = [{name for name in p if p[name] != start[name]} for p in same_stages]
    assert {1} <= {len(names) for names in changed} <= {1, 2}
    for proposal, names in zip(same_stages, changed, strict=True):
        assert (
            sorted(proposal[n] for n in names) == sorted(start[n] for n in names) or len(names) == 1
        )
    assert {"lr_factor"} in changed
    assert any(p["stages"] != start["stages"] for p in found)


def test_at_the_edge_of_a_limit_choices_change_places() -> None:
    """No single choice leads from one use of the whole limit to another."""
    space = {name: CategoricalDistribution(("none", "some", "large")) for name in "abc"}
    size = {"none": 0, "some": 1, "large": 3}
    domain = Domain(
        search_space=space, is_feasible=lambda p: sum(map(size.__getitem__, p.values())) <= 4
    )
    start = {"a": "large", "b": "some", "c": "none"}
    found = [tuple(p.values()) for p in domain.neighbours(start, random.Random(0))]
    assert {("some", "large", "none"), ("none", "some", "large"), ("large", "none", "some")} <= {
        *found
    }
    assert ("large", "large", "none") not in found


def test_a_narrowed_domain_stays_within_the_tighter_limits() -> None:
    candidates = Candidates(SMALL, TIGHT)
    narrow = Limits(max_parameters=900)
    domain = candidates.domain_within(narrow)
    rng = random.Random(0)
    drawn = [*domain.pool, *(domain.sample(rng) for _ in range(50))]
    assert all(p is not None and narrow.allow(candidates.candidate(p).cost) for p in drawn)
    assert len(domain.pool) > 10


def test_values_of_another_space_are_no_proposal() -> None:
    domain = Domain(search_space=MIXED)
    whole = {"depth": 2, "width": 32, "kind": "wide", "kernel": 3, "rate": 0.1}
    assert domain.proposal({**whole, "other": 1}) == whole
    for wrong in ({"depth": 7}, {"kind": "round"}, {"kernel": 4}, {"rate": "0.1"}):
        assert domain.proposal({**whole, **wrong}) is None
    assert domain.proposal({"depth": 2}) is None


def test_columns_keep_order_and_distance() -> None:
    encoder = Encoder(MIXED)
    base = {"depth": 1, "width": 16, "kind": "plain", "kernel": 3, "rate": 1e-4}

    def columns(**changes: Any) -> Any:
        return encoder.encode([{**base, **changes}])[0]

    def apart(**changes: Any) -> float:
        return float(np.linalg.norm(columns(**changes) - columns()))

    assert apart(depth=6) == apart(width=512) == apart(kernel=11) == apart(rate=1.0) == 1
    assert apart(kind="wide") == pytest.approx(1) == apart(kind="deep")
    assert apart(width=32) == pytest.approx(0.2)  # one of five doublings
    assert apart(kernel=5) == pytest.approx(1 / 3)
    lacking = {k: v for k, v in base.items() if k != "depth"}
    assert np.linalg.norm(encoder.encode([lacking])[0] - columns()) == 0.5


def test_predictions_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    columns, asked = rng.random((30, 3)), rng.random((20, 3))
    scores = np.sin(4 * columns[:, 0]) + columns[:, 1]
    scores -= scores.mean()
    kernel = Kernel(np.array([2.0, 0.5, 0.1]), 0.01)
    mean, deviation = GaussianProcess(kernel, columns, scores).predict(asked)
    correlation = Matern(length_scale=kernel.relevance**-0.5, nu=2.5)
    covariance = correlation(columns) + kernel.noise * np.eye(30)
    scale = scores @ np.linalg.solve(covariance, scores) / 30
    known = GaussianProcessRegressor(
        ConstantKernel(scale) * correlation, alpha=scale * kernel.noise, optimizer=None
    ).fit(columns, scores)
    known_mean, known_deviation = known.predict(asked, return_std=True)
    np.testing.assert_allclose(mean, known_mean, atol=1e-8)
    np.testing.assert_allclose(deviation, known_deviation, rtol=1e-5)


def test_what_does_not_matter_is_found_out() -> None:
    rng = np.random.default_rng(1)
    columns = rng.random((60, 3))
    scores = np.sin(5 * columns[:, 0]) + 0.01 * rng.standard_normal(60)
    kernel = Kernel.fit(columns, scores - scores.mean(), np.arange(3))
    assert kernel.relevance[0] > 10 * max(kernel.relevance[1:])
    assert kernel.noise < 0.05


def test_a_stopped_run_is_expected_to_end_as_far_behind_or_nearer() -> None:
    rng = np.random.default_rng(0)
    early = rng.uniform(0.4, 0.6, 40)
    ends = 0.3 + early + rng.normal(0, 0.02, 40)
    expected, deviation = predicted_ends(early, ends, np.array([0.2, 0.5]))
    np.testing.assert_allclose(expected, [0.5, 0.8], atol=0.03)
    assert 0.015 < deviation[1] < deviation[0] < 0.06  # the farther, the less sure
    converged = predicted_ends(early, np.full(40, 0.9), np.array([0.2]))[0]
    assert 0.6 < converged[0] < 0.9


def test_what_a_stopped_run_would_have_reached_is_known_from_few_runs_too() -> None:
    none, one = np.zeros(0), np.array([0.5])
    assert predicted_ends(none, none, np.array([0.2]))[0] == 0.2
    expected, deviation = predicted_ends(one, np.array([0.8]), np.array([0.2]))
    assert expected == pytest.approx(0.5)
    assert deviation > 0
    alike = predicted_ends(np.array([0.4, 0.5]), np.array([0.7, 0.8]), np.array([0.2, 0.45]))
    np.testing.assert_allclose(alike[0], [0.5, 0.75], atol=1e-6)


def test_a_doubtful_score_moves_the_process_less() -> None:
    columns, scores = np.array([[0.0], [1.0]]), np.array([1.0, -1.0])
    kernel = Kernel(np.array([1.0]), 0.01)
    sure = GaussianProcess(kernel, columns, scores)
    doubtful = GaussianProcess(kernel, columns, scores, np.array([2.0, 0.0]))
    same = GaussianProcess(kernel, columns, scores, np.zeros(2))
    at = columns[:1]
    assert doubtful.predict(at)[0] < sure.predict(at)[0] == same.predict(at)[0]
    fitted = Kernel.fit(columns, scores, np.arange(1), np.array([2.0, 0.0]))
    assert fitted.relevance.shape == (1,)
