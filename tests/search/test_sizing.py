"""What `--time` chooses: laws of the arithmetic, whatever it trades for what."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from nas.search.sizing import Size, Speed, Work, size

PARTS = ("epochs", "subset", "max_mult_adds")

works = st.builds(
    Work,
    train_images=st.integers(100, 1_000_000),
    validation_images=st.integers(20, 50_000),
    smallest=st.integers(50_000, 30_000_000),
    typical=st.integers(30_000_000, 2_000_000_000),
    named=st.sampled_from([0, 0, 5_000_000_000]),
    stops_early=st.booleans(),
)
speeds = st.builds(Speed, st.floats(1e-7, 1e-2), st.floats(1e-14, 1e-8))
times = st.floats(1.0, 1e6)
trials = st.integers(1, 200)
starts = st.builds(
    Size, st.integers(1, 20), st.just(1.0), st.none() | st.integers(30_000_000, 10**9)
)
fixed = st.frozensets(st.sampled_from(PARTS))


def parts(chosen: Size) -> tuple[float, float, float]:
    most = chosen.max_mult_adds
    return chosen.epochs, chosen.subset, float("inf") if most is None else most


@given(speeds, times, trials, st.integers(1, 8), works, starts, fixed)
def test_what_is_given_stays_and_all_that_fits_fits(
    speed: Speed, time: float, n: int, workers: int, work: Work, start: Size, kept: frozenset[str]
) -> None:
    sized = size(speed, time, n, workers, work, start, kept)
    assert all(getattr(sized.size, part) == getattr(start, part) for part in kept)
    assert all(new <= old for new, old in zip(parts(sized.size), parts(start), strict=True))
    assert sized.size.epochs >= 1
    assert sized.size.subset > 0
    if "max_mult_adds" not in kept and sized.size.max_mult_adds != start.max_mult_adds:
        assert (sized.size.max_mult_adds or 0) >= max(work.smallest, work.named)
    assert 1 <= sized.trials <= n
    if sized.trials == n > 1:
        assert n * work.trial_seconds(speed, sized.size) <= time * workers


@given(speeds, times, st.floats(1, 100), trials, works, starts, fixed)
def test_more_time_more_workers_and_a_faster_machine_never_give_less(
    speed: Speed, time: float, factor: float, n: int, work: Work, start: Size, kept: frozenset[str]
) -> None:
    faster = Speed(speed.fixed / factor, speed.per_mult_add / factor)
    less = size(speed, time, n, 1, work, start, kept)
    for more in (
        size(speed, factor * time, n, 1, work, start, kept),
        size(speed, time, n, 4, work, start, kept),
        size(faster, time, n, 1, work, start, kept),
    ):
        assert all(b >= a for a, b in zip(parts(less.size), parts(more.size), strict=True))
        assert more.trials >= less.trials


@given(speeds, works, starts)
def test_with_time_enough_nothing_is_given_up(speed: Speed, work: Work, start: Size) -> None:
    assert size(speed, 1e15, 50, 1, work, start, frozenset()).size == start


def test_fewer_trials_than_asked_for_fit_only_at_the_least() -> None:
    work = Work(
        train_images=45_000, validation_images=5_000, smallest=6_000_000, typical=900_000_000
    )
    speed, start = Speed(1e-4, 2e-11), Size(10, 1.0)
    least = size(speed, 1.0, 50, 1, work, start, frozenset())
    assert least.trials < 50
    assert least.size.epochs == 1
    assert least.size.subset == 0.1
    assert (least.size.max_mult_adds or 0) < 3 * work.smallest
    small = dataclasses.replace(work, train_images=1_500)  # is not cut further
    assert size(speed, 1.0, 50, 1, small, start, frozenset()).size.subset == 1


@given(st.floats(0, 1e-2), st.floats(1e-14, 1e-8), st.lists(st.integers(10**5, 10**9), min_size=2))
def test_a_speed_is_found_again(fixed: float, per_mult_add: float, costs: list[int]) -> None:
    true = Speed(fixed, per_mult_add)
    found = Speed.of((cost, true.seconds(cost)) for cost in costs)
    assert found is not None
    for cost in costs:
        assert abs(found.seconds(cost) - true.seconds(cost)) <= 1e-4 * true.seconds(cost)
        assert abs(found.mult_adds(found.seconds(cost)) - cost) <= 1e-3 * cost


def test_one_design_is_taken_in_proportion_and_no_part_is_negative() -> None:
    assert Speed.of([]) is None
    assert Speed.of([(10, 1.0)]) == Speed(0.0, 0.1)
    for measured in ([(10, 1.0), (20, 0.5)], [(10, 1.0), (20, 9.0)], [(10, 1.0), (10, 3.0)]):
        found = Speed.of(measured)
        assert found is not None
        assert found.fixed >= 0
        assert found.per_mult_add >= 0
    assert Speed(1.0, 0.0).mult_adds(0.5) == 0
    assert Speed(1.0, 0.0).mult_adds(2.0) == float("inf")
