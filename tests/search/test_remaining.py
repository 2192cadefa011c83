"""The remaining time of a search: laws of the arithmetic, and what it follows from."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.evidence import FEWEST_FINISHED
from nas.search.remaining import Pace, RunTime, TimeLeft, mean_seconds, time_left
from nas.study.records import DIED, Outcome
from tests.kits.records import study, trial
from tests.kits.threads import asked_meanwhile

run_times = st.builds(
    lambda seconds, between: RunTime(seconds, seconds + between),
    st.floats(0.1, 1e4),
    st.floats(0, 10),
)
ended_runs = st.lists(run_times, min_size=1, max_size=40)


def like(seconds: float, number: int = 10, between: float = 0.0) -> list[RunTime]:
    """Runs that took equally long."""
    return [RunTime(seconds, seconds + between)] * number


@given(ended_runs, st.integers(1, 100), st.integers(1, 8))
def test_more_runs_take_no_less_and_more_workers_no_more(
    ended: list[RunTime], runs: int, workers: int
) -> None:
    said = time_left(runs, ended=ended, workers=workers)
    more = time_left(runs + workers, ended=ended, workers=workers)
    alone = time_left(runs, ended=ended)
    assert said
    assert more
    assert alone
    assert 0 < said.low < said.high < math.inf
    assert said.middle < more.middle
    assert said.middle <= alone.middle * 1.000001


@given(ended_runs, st.integers(1, 50), st.floats(0, 1e5))
def test_no_end_is_after_the_limit(ended: list[RunTime], runs: int, limit: float) -> None:
    free, said = time_left(runs, ended=ended), time_left(runs, ended=ended, limit=limit)
    assert free
    assert said
    assert said.low <= said.high <= limit or said == free
    assert (said.source == "--time ends it") == (free.high > limit)


def test_equal_runs_take_so_many_times_as_long() -> None:
    said = time_left(40, ended=like(10.0, between=0.5))
    assert said
    assert said.middle == pytest.approx(420)
    assert said.low < 400 < 440 < said.high
    assert said.source == "from 10 trials"


def test_one_slow_start_is_not_expected_again() -> None:
    ended = [RunTime(10.0, 40.0), *like(10.0, 9)]
    assert time_left(10, ended=ended) == time_left(10, ended=like(10.0))


def test_what_runs_have_done_counts() -> None:
    fresh = time_left(2, ended=like(10.0), running=[0.0, 0.0])
    later = time_left(2, ended=like(10.0), running=[6.0, 4.0])
    assert fresh
    assert later
    assert later.middle == pytest.approx(fresh.middle / 2)


def test_the_first_runs_are_longer_than_what_evidence_leaves_of_later_ones() -> None:
    first = time_left(10, ended=like(10.0, 5), pruner="evidence")
    assert first
    assert 50 < first.middle < 100
    later = time_left(10, ended=[*like(10.0, 5), *like(10.0, 20)], pruner="evidence")
    assert later
    assert later.middle == pytest.approx(100)


def test_an_estimate_counts_until_runs_outweigh_it() -> None:
    before = time_left(10, ended=(), estimate=100.0)
    assert before
    assert before.middle == pytest.approx(1000)
    assert before.source == "estimated"
    after = [time_left(10, ended=like(1.0, n), estimate=100.0) for n in (1, 5, 30)]
    middles = [said.middle for said in after if said]
    assert middles == sorted(middles, reverse=True)
    assert middles[-1] < 60


def test_without_anything_known_only_the_limit_says_something() -> None:
    assert time_left(10, ended=()) is None
    said = time_left(10, ended=(), limit=600.0)
    assert said
    assert said.text() == "9 to 10 min left (--time ends it)"
    assert time_left(0, ended=like(10.0)) is None


def test_a_busy_machine_is_named() -> None:
    said = TimeLeft(840.0, 1320.0, "from 9 trials")
    assert said.text() == "14 to 22 min left (from 9 trials)"
    assert said.text(busy=True) == "14 to 22 min left (from 9 trials; machine is busy)"


def test_a_pace_follows_the_runs_of_its_workers() -> None:
    pace = Pace(workers=2)
    assert pace.left(10, 0.0) is None
    for number, began, ended in ((0, 0.0, 61.0), (1, 0.0, 62.0), (2, 61.0, 122.0)):
        pace.begin(number, began)
        one = replace(trial(number, accuracy=0.5), worker=f"worker {number % 2}")
        assert one.seconds == 60
        pace.end(one, ended)
    said = pace.left(7, 122.0)
    assert said
    assert said.source == "from 3 trials"
    assert said.low < 7 * 61 / 2 < said.high


def test_a_run_that_failed_says_nothing_of_the_time_of_others() -> None:
    pace = Pace(estimate=10.0)
    pace.begin(0, 0.0)
    pace.end(trial(0, Outcome.FAILED, reason=DIED), 500.0)
    said = pace.left(1, 500.0)
    assert said
    assert said.source == "estimated"
    assert said.middle == pytest.approx(10.0)


def test_other_processes_take_their_share() -> None:
    alone, helped = Pace(estimate=60.0), Pace(estimate=60.0)
    helped.end(replace(trial(0, accuracy=0.5), worker="elsewhere"), 10.0)
    one, two = alone.left(20, 10.0), helped.left(20, 10.0)
    assert one
    assert two
    assert two.middle < 0.6 * one.middle


def test_a_worker_elsewhere_that_is_gone_takes_no_share() -> None:
    def middle(*, heard: bool, died: bool = False, now: float = 70.0) -> float:
        pace = Pace()
        pace.begin(0, 0.0)
        pace.end(trial(0, accuracy=0.5), 60.0)
        if heard:
            pace.end(replace(trial(1, accuracy=0.5), worker="elsewhere"), 60.0)
        if died:
            pace.end(replace(trial(2, Outcome.FAILED, reason=DIED), worker="elsewhere"), 65.0)
        said = pace.left(20, now)
        assert said
        return said.middle

    alone = middle(heard=False)
    assert middle(heard=True) < 0.6 * alone
    assert middle(heard=True, died=True) == alone
    assert middle(heard=True, now=60.0 + 3 * 60 + 1) == alone  # it would have ended another one


def test_a_run_that_resumed_took_no_longer_than_it_was_here() -> None:
    pace = Pace()
    pace.begin(0, 0.0)
    pace.end(trial(0, accuracy=0.5), 20.0)  # 60 s of training, 40 of them before
    said = pace.left(3, 20.0)
    assert said
    assert said.middle == pytest.approx(60)


def test_the_runs_of_earlier_searches_on_this_device_are_an_estimate() -> None:
    gpu, one, two = "NVIDIA H200", "cpu (1 thread)", "cpu (2 threads)"
    assert mean_seconds(study(), gpu) is None
    runs = study(trial(0, accuracy=0.5), trial(1, Outcome.STOPPED_EARLY, 0.2, epochs=2))
    assert mean_seconds(runs, gpu) == 40
    assert mean_seconds(runs, two) is None
    slow = replace(trial(2, accuracy=0.5), device=two, seconds=900.0)
    both = replace(runs, trials=(*runs.trials, slow))
    assert [mean_seconds(both, device) for device in (gpu, two, one)] == [40, 900, None]


def test_what_was_stopped_of_later_runs_says_what_the_first_ones_would_have_been() -> None:
    def middle(share: float) -> float:
        said = time_left(
            10,
            ended=[*like(10.0, 5), *[RunTime(10.0 * share, 10.0 * share, share)] * 5],
            pruner="evidence",
        )
        assert said
        return said.middle / (10 * 10 * share)

    assert middle(0.5) > middle(1.0)
    assert 0.8 < middle(1.0) < 1.0


@given(st.integers(0, 20), st.integers(1, 20))
def test_only_runs_that_nothing_could_stop_are_longer_than_later_ones(before: int, n: int) -> None:
    ended = like(10.0, n)
    resumed = time_left(10, ended=ended, pruner="evidence", before=before)
    without = time_left(10, ended=ended)
    assert resumed
    assert without
    assert (resumed.middle < without.middle * 0.999) == (before < FEWEST_FINISHED)


def test_timeout_ends_a_search_with_the_runs_that_have_begun() -> None:
    said = time_left(100, ended=like(10.0), limit=60.0, ended_by="--timeout")
    assert said
    assert said.source == "--timeout ends it"
    assert 60.0 < said.low < said.high == 70.0
    over = time_left(100, ended=like(10.0), rests=[25.0], limit=-5.0, ended_by="--timeout")
    assert over
    assert over.high == 25.0


@given(ended_runs, st.lists(st.floats(0, 1e4), min_size=1, max_size=4), st.floats(-100, 1e4))
def test_what_runs_has_time_left(ended: list[RunTime], running: list[float], limit: float) -> None:
    for rests in ((), (3.0,)):
        runs = len(running) + len(rests)
        said = time_left(runs, ended=ended, running=running, rests=rests, limit=limit)
        assert said
        assert not re.match("0|up to 0", said.text())


def test_the_last_run_takes_what_its_own_epochs_say() -> None:
    pace = Pace(10.0, workers=2)
    pace.begin(0, 0.0)
    pace.epoch(0, 8.0, left=5, now=8.0)
    for now, rest in ((8.0, 40.0), (20.0, 28.0), (47.0, 1.0)):
        said = pace.left(1, now)
        assert said
        assert said.middle == pytest.approx(rest)
    late = pace.left(1, 60.0)
    assert late
    assert late.text() == "1 s left (estimated)"


def test_another_thread_may_ask_at_any_time() -> None:
    pace = Pace(10.0)

    def change(number: int) -> None:
        pace.begin(number, 0.0)
        pace.epoch(number, 1.0, 3, 0.0)
        pace.end(trial(number % 7, accuracy=0.5), 1.0)
        pace.begin(number % 7, 0.0)

    asked_meanwhile(lambda: pace.left(1000, 1.0), change)
