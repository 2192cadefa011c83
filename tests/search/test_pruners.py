import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from nas.search.pruners import RungPruner, make_pruner, warning_of_warmup
from nas.search.request import PRUNERS
from nas.training.config import Schedule, TrainingConfig
from tests.kits.pruning import (
    make_study,
    make_trial,
    replay,
    replay_in_parts,
    running,
    stops,
    threshold,
)

RUNG = 3
SCORES = st.floats(0, 1)
MANY = st.lists(SCORES, max_size=20)
quick = settings(max_examples=50)
KEEPS = st.sampled_from([0.25, 0.5, 0.8, 1.0])


# The rule


@quick
@given(MANY, KEEPS)
def test_the_best_so_far_never_stops(earlier: list[float], keep: float) -> None:
    own = running(max(earlier, default=0.5))
    assert not stops(RungPruner([RUNG], keep=keep), map(make_trial, earlier), own)


@quick
@given(MANY, st.integers(1, 9).filter(lambda step: step != RUNG))
def test_nothing_stops_off_a_rung(earlier: list[float], steps: int) -> None:
    trials = [make_trial(score, steps=9) for score in earlier]
    assert not stops(RungPruner([RUNG]), trials, running(0.0, steps=steps))


@quick
@given(MANY, SCORES, KEEPS, st.randoms())
def test_the_order_of_earlier_runs_does_not_matter(
    earlier: list[float], own: float, keep: float, rng: random.Random
) -> None:
    pruner = RungPruner([RUNG], keep=keep)
    shuffled = rng.sample(earlier, len(earlier))
    assert stops(pruner, map(make_trial, earlier), running(own)) == stops(
        pruner, map(make_trial, shuffled), running(own)
    )


@quick
@given(MANY, SCORES, KEEPS)
def test_a_run_stops_where_it_does_not_reach_the_threshold(
    earlier: list[float], own: float, keep: float
) -> None:
    pruner = RungPruner([RUNG], keep=keep)
    for score in (own, *earlier[:2]):  # equals go on
        least = threshold(pruner, map(make_trial, earlier))
        below = least is not None and score < least.score
        assert stops(pruner, map(make_trial, earlier), running(score)) == below


@quick
@given(MANY, SCORES, SCORES, KEEPS)
def test_a_better_score_never_stops_where_a_worse_one_goes_on(
    earlier: list[float], one: float, other: float, keep: float
) -> None:
    pruner = RungPruner([RUNG], keep=keep)
    worse, better = (
        stops(pruner, map(make_trial, earlier), running(own)) for own in sorted((one, other))
    )
    assert worse >= better


@quick
@given(st.integers(1, 30), st.sampled_from([0.25, 0.5, 0.75]))
def test_of_different_runs_the_asked_share_goes_on(runs: int, keep: float) -> None:
    study = make_study(make_trial(i / runs) for i in range(runs))
    going = sum(not RungPruner([RUNG], keep=keep).prune(study, trial) for trial in study.trials)
    assert keep * runs <= going < keep * runs + 1


def test_equals_go_on_together() -> None:
    assert not stops(RungPruner([RUNG]), map(make_trial, [0.5] * 9), running(0.5))


def test_only_the_score_at_the_rung_counts() -> None:
    pruner = RungPruner([RUNG])
    assert not stops(pruner, [make_trial(0.9, 0.9, 0.1)], make_trial(0.0, 0.0, 0.2))
    assert stops(pruner, [make_trial(0.0, 0.0, 0.2)], make_trial(0.9, 0.9, 0.1))


@pytest.mark.parametrize(
    "state", [TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL]
)
def test_runs_count_unless_they_failed(state: TrialState) -> None:
    earlier = [make_trial(0.9, state=state)]
    assert stops(RungPruner([RUNG]), earlier, running(0.1)) == (state is not TrialState.FAIL)


def test_runs_that_stopped_before_the_rung_do_not_count() -> None:
    assert not stops(RungPruner([RUNG]), [make_trial(0.9, steps=RUNG - 1)], running(0.1))


def test_a_run_without_scores_goes_on() -> None:
    assert not stops(RungPruner([RUNG]), [make_trial(0.9)], create_trial(state=TrialState.RUNNING))


@quick
@given(st.lists(st.tuples(SCORES, st.integers(1, 5)), max_size=20), SCORES, st.integers(1, 5))
def test_only_comparable_runs_count(
    earlier: list[tuple[float, int]], own: float, size: int
) -> None:
    every = [make_trial(score, parameters=n) for score, n in earlier]
    smaller = [make_trial(score, parameters=n) for score, n in earlier if n <= size]
    trial = running(own, parameters=size)
    assert stops(RungPruner([RUNG], size="parameters"), every, trial) == stops(
        RungPruner([RUNG]), smaller, trial
    )


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match="keep must be above 0"):
        RungPruner([RUNG], keep=keep)


def test_a_continued_search_decides_as_one_that_ran_through(tmp_path: Path) -> None:
    rng = random.Random(0)
    curves = [sorted(rng.random() for _ in range(10)) for _ in range(20)]
    through = replay(make_pruner("rungs", epochs=10), curves, make_study([]))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    continued = replay_in_parts("rungs", (curves[:7], curves[7:]), url)
    assert continued == through
    assert len(set(through)) > 2  # something stopped at each rung


# The named pruners


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10, 200])
def test_every_pruner_lets_the_best_run_to_its_end(name: str, epochs: int) -> None:
    curves = [[score] * epochs for score in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1)]
    done = replay(make_pruner(name, epochs=epochs), curves, make_study([]))
    best = [i for i, curve in enumerate(curves) if curve[0] == max(c[0] for c in curves[: i + 1])]
    assert all(done[i] == epochs for i in best)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("none", False), ("evidence", True), ("rungs", True), ("median", True), ("halving", True)],
)
def test_the_names_stand_for_pruners(name: str, expected: bool) -> None:
    curves = [[score] * 10 for score in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)]
    assert (min(replay(make_pruner(name, epochs=10), curves, make_study([]))) < 10) == expected


def test_a_short_run_has_rungs_before_its_end() -> None:
    for epochs in range(2, 30):
        curves = [[0.9] * epochs, [0.1] * epochs]
        done = replay(make_pruner("rungs", epochs=epochs), curves, make_study([]))
        assert done[0] == epochs
        assert done[1] < epochs


@pytest.mark.parametrize(
    ("name", "epochs", "warned"),
    [
        ("evidence", 5, True),
        ("evidence", 9, True),
        ("evidence", 10, False),  # long enough
        ("evidence", 4, False),  # looks after the warm-up
        ("evidence", 1, False),  # never looks
        ("rungs", 5, False),
        ("none", 5, False),
    ],
)
def test_short_runs_that_may_be_stopped_in_their_warm_up_are_warned_of(
    name: str, epochs: int, warned: bool
) -> None:
    config = TrainingConfig(epochs=epochs, batch_size=64, lr=0.1)
    warning = warning_of_warmup(name, config)
    assert (warning is not None) is warned
    if warning:
        assert "after epoch 1," in warning
        assert "--pruner none" in warning
    steady = TrainingConfig(epochs=epochs, batch_size=64, lr=0.1, schedule=Schedule.CONSTANT)
    assert warning_of_warmup(name, steady) is None
