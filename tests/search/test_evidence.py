"""Runs are stopped by how the finished ones of their study went on."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.evidence import EvidencePruner
from nas.search.pruners import make_pruner
from nas.search.replay import replay as imitated
from tests.kits.pruning import (
    make_study,
    make_trial,
    replay,
    replay_in_parts,
    running,
    stops,
    threshold,
)

CHECK = 3
quick = settings(max_examples=50)
SCORES = st.integers(0, 16).map(lambda n: n / 16)
CURVES = st.lists(st.tuples(SCORES, SCORES), min_size=5, max_size=20)


def finished(score: float, final: float, parameters: int = 1) -> FrozenTrial:
    """A run with this score up to the check, and then its final one."""
    scores = [score] * CHECK + [final]
    return make_trial(*scores, state=TrialState.COMPLETE, parameters=parameters)


def made(curves: Sequence[tuple[float, float]], plus: float = 0) -> list[FrozenTrial]:
    return [finished(score + plus, final + plus) for score, final in curves]


def pruner(risk: float = 0.15, size: str | None = None) -> EvidencePruner:
    return EvidencePruner([CHECK], risk=risk, size=size)


RISING = [finished(score / 20, score / 20 + 0.2) for score in range(1, 11)]  # to 0.7


# The rule


def test_a_run_far_below_what_the_best_had_is_stopped() -> None:
    noisy = made([(0.50, 0.70), (0.45, 0.66), (0.40, 0.60), (0.35, 0.54), (0.30, 0.51)])
    assert stops(pruner(), noisy, running(0.05))
    assert not stops(pruner(), noisy, running(0.48))


def test_what_scores_say_nothing_about_stops_nothing() -> None:
    rng = random.Random(0)
    noise = made([(rng.random(), rng.random()) for _ in range(30)])
    assert not any(stops(pruner(), noise, running(score / 10)) for score in range(10))


def test_nothing_is_stopped_before_five_runs_have_finished() -> None:
    assert not stops(pruner(), RISING[-4:], running(0.0))
    assert stops(pruner(), RISING[-5:], running(0.0))


def test_a_run_is_judged_by_the_best_that_it_has_reported() -> None:
    dipped = make_trial(0.1, 0.5, 0.0, state=TrialState.RUNNING)
    assert stops(pruner(), RISING, running(0.1))
    assert not stops(pruner(), RISING, dipped)


@quick
@given(CURVES, st.floats(0.01, 0.9))
def test_the_best_so_far_never_stops(curves: list[tuple[float, float]], risk: float) -> None:
    best = max(score for score, _ in curves)
    assert not stops(pruner(risk), made(curves), running(best))


@quick
@given(CURVES, SCORES, SCORES)
def test_a_better_score_never_stops_where_a_worse_one_goes_on(
    curves: list[tuple[float, float]], one: float, other: float
) -> None:
    worse, better = (stops(pruner(), made(curves), running(own)) for own in sorted((one, other)))
    assert worse >= better


@quick
@given(CURVES, SCORES)
def test_more_risk_stops_no_less(curves: list[tuple[float, float]], own: float) -> None:
    little, much = (stops(pruner(risk), made(curves), running(own)) for risk in (0.05, 0.5))
    assert much >= little


@quick
@given(CURVES, SCORES, st.randoms())
def test_the_order_of_earlier_runs_does_not_matter(
    curves: list[tuple[float, float]], own: float, rng: random.Random
) -> None:
    shuffled = made(rng.sample(curves, len(curves)))
    assert stops(pruner(), made(curves), running(own)) == stops(pruner(), shuffled, running(own))


@quick
@given(CURVES, SCORES, st.sampled_from([-3.0, 0.5, 8.0]))
def test_scores_shifted_by_a_constant_decide_alike(
    curves: list[tuple[float, float]], own: float, plus: float
) -> None:
    shifted = made(curves, plus=plus)
    assert stops(pruner(), made(curves), running(own)) == stops(
        pruner(), shifted, running(own + plus)
    )


@quick
@given(CURVES, st.floats(0, 1))
def test_a_run_stops_where_it_does_not_reach_the_threshold(
    curves: list[tuple[float, float]], own: float
) -> None:
    earlier = made(curves)
    least = threshold(pruner(), earlier)
    assert least is not None
    assert least.step == CHECK
    assume(abs(own - least.score) > 1e-9)  # there rounding decides
    assert stops(pruner(), earlier, running(own)) == (own < least.score)


def test_there_is_no_threshold_where_nothing_can_stop_a_run() -> None:
    assert threshold(pruner(), RISING[-4:]) is None
    study = make_study([*RISING, running(0.3)])  # past the last check
    assert pruner().threshold(study, study.trials[-1]) is None


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_trials_that_failed_or_go_on_do_not_count(state: TrialState) -> None:
    others = [create_trial(state=state, intermediate_values={CHECK: 0.9}) for _ in range(500)]
    own = running(0.05)
    study = make_study([*RISING, *others, own])
    alone = make_study([*RISING, own])
    assert pruner().forecast(study, study.trials[-1]) == pruner().forecast(alone, alone.trials[-1])


def test_the_more_runs_there_were_the_less_chance_is_needed() -> None:
    few = make_study([*RISING, running(0.3)])
    many = make_study([*RISING, *[make_trial(0.1)] * 30, running(0.3)])
    before, after = (pruner().forecast(study, study.trials[-1]) for study in (few, many))
    assert before is not None
    assert after is not None
    assert before.needed == pytest.approx(0.15 / 11)
    assert after.needed == pytest.approx(0.15 / 41)
    assert before.chance == after.chance


@quick
@given(st.lists(st.tuples(SCORES, SCORES, st.integers(1, 3)), max_size=20), SCORES)
def test_only_designs_that_are_no_larger_count(
    runs: list[tuple[float, float, int]], own: float
) -> None:
    every = [finished(score, final, size) for score, final, size in runs]
    smaller = [finished(score, final) for score, final, size in runs if size <= 2]
    trial = running(own, parameters=2)
    assert stops(pruner(size="parameters"), every, trial) == stops(pruner(), smaller, trial)


@pytest.mark.parametrize("risk", [0.0, 1.0, -1.0, float("nan")])
def test_a_risk_out_of_range_is_refused(risk: float) -> None:
    with pytest.raises(ValueError, match="risk must be above 0"):
        EvidencePruner([CHECK], risk=risk)


def test_why_a_run_stops_is_said() -> None:
    noisy = made([(0.50, 0.70), (0.45, 0.66), (0.40, 0.60), (0.35, 0.54), (0.30, 0.51)])
    study = make_study([*noisy, running(0.05)])
    said = str(pruner().forecast(study, study.trials[-1]))
    assert said.startswith("5.0% by epoch 3: ")
    assert "70.0% is the best" in said
    assert said.endswith("2.50% needed")


# Whole searches


def noisy_curves(runs: int, seed: int = 0) -> list[list[float]]:
    """Curves that rise to their end, and differ more in it than by noise."""
    rng = random.Random(seed)
    ends = [rng.random() for _ in range(runs)]
    return [[end * e / 10 + rng.gauss(0, 0.01) for e in range(1, 11)] for end in ends]


def test_a_continued_search_decides_as_one_that_ran_through(tmp_path: Path) -> None:
    curves = noisy_curves(20)
    through = replay(make_pruner("evidence", epochs=10), curves, make_study([]))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    continued = replay_in_parts("evidence", (curves[:9], curves[9:]), url)
    assert continued == through
    assert min(through) < 10


def test_a_replay_says_what_is_saved_and_lost() -> None:
    curves = np.array(noisy_curves(30))
    found = imitated(curves, make_pruner("evidence", epochs=10))
    done = replay(make_pruner("evidence", epochs=10), curves.tolist(), make_study([]))
    assert found.saved == pytest.approx(1 - sum(done) / 300)
    assert found.saved > 0.2
    assert (found.kept, found.lost) == (True, 0.0)
    nothing = imitated(curves, make_pruner("none", epochs=10))
    assert (nothing.saved, nothing.kept, nothing.lost) == (0.0, True, 0.0)


def test_a_replay_shows_what_a_pruner_lost() -> None:
    late = np.array([[0.5] * 10] * 9 + [[0.1] * 9 + [0.9]])
    found = imitated(late, make_pruner("rungs", epochs=10))
    assert not found.kept
    assert found.lost == pytest.approx(0.4)


def test_a_run_that_diverged_ends_in_a_replay() -> None:
    curves = np.array([[0.5, 0.6, 0.7], [0.5, np.nan, np.nan]])
    found = imitated(curves, make_pruner("none", epochs=3))
    assert found.saved == pytest.approx(1 / 6)
    assert found.kept
