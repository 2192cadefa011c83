"""Intervals and comparisons, on textbook values and on simulated designs whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from nas.statistics import (
    Correct,
    cannot_be_told_apart,
    difference,
    difference_interval,
    dunnett_bound,
    mean_accuracy,
    standard_deviation,
    visible_difference,
    wilson_interval,
)

SEEDS, IMAGES = 3, 2_000
matrices = arrays.arrays(
    np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.booleans()
)


def test_difference_of_shares_of_a_textbook_example() -> None:
    # By hand: 9/10 and 5/10 become 10/12 and 6/12, with a variance of 0.0324 in all.
    interval = difference_interval(0.9, 10, 0.5, 10)
    assert interval.low == pytest.approx(1 / 3 - 1.959964 * 0.18, abs=1e-3)
    assert interval.high == pytest.approx(1 / 3 + 1.959964 * 0.18, abs=1e-3)
    assert difference_interval(1.0, 5, 1.0, 5).low < 0 < difference_interval(1.0, 5, 1.0, 5).high
    with pytest.raises(ValueError, match="share"):
        difference_interval(1.1, 5, 0.5, 5)


@pytest.mark.parametrize("images", [30, 287, 5_000])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_visible_difference_is_the_smallest_that_an_interval_shows(
    share: float, images: int
) -> None:
    share = round(share * images) / images
    seen = visible_difference(share, images)
    assert difference_interval(share, images, share - seen, images).low > 0
    assert difference_interval(share, images, share - seen + 1 / images, images).low <= 0


def test_too_few_images_show_no_difference() -> None:
    assert visible_difference(1.0, 2) == 1.0
    assert visible_difference(0.1, 10) == 1.0


def test_difference_of_shares_covers() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.binomial(200, 0.95, 2_000) / 200, rng.binomial(200, 0.9, 2_000) / 200
    found = [difference_interval(a, 200, b, 200) for a, b in zip(first, second, strict=True)]
    assert 0.94 <= np.mean([i.low <= 0.05 <= i.high for i in found]) <= 0.97


def runs(
    skill: float, rng: np.random.Generator, difficulty_I: np.ndarray, *, seed_spread: float = 0.03
) -> Correct:
    """A design's runs: images are difficult for all or for this design, and seeds have luck."""
    own_I = rng.normal(0, 0.5, len(difficulty_I))
    luck_S = rng.normal(0, seed_spread, SEEDS)
    logits_SI = skill + luck_S[:, None] + difficulty_I + own_I
    correct_SI: Correct = rng.random(logits_SI.shape) < 1 / (1 + np.exp(-logits_SI))
    return correct_SI


def designs(skills: list[float], rng: np.random.Generator) -> list[Correct]:
    difficulty_I = rng.normal(0, 1.2, IMAGES)
    return [runs(skill, rng, difficulty_I) for skill in skills]


class TestWilsonInterval:
    @given(st.floats(0, 1), st.integers(1, 10**7))
    def test_is_a_range_of_shares_around_the_estimate(self, share: float, images: int) -> None:
        interval = wilson_interval(share, images)
        assert 0 <= interval.low <= share <= interval.high <= 1
        assert interval.low < interval.high

    def test_textbook(self) -> None:
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        for hits, images, low, high in (
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ):
            interval = wilson_interval(hits / images, images)
            assert interval.low == pytest.approx(low, abs=5e-5)
            assert interval.high == pytest.approx(high, abs=5e-5)

    @given(st.integers(1, 10**5), st.data())
    def test_is_that_of_scipy(self, images: int, data: st.DataObject) -> None:
        hits = data.draw(st.integers(0, images))
        interval = wilson_interval(hits / images, images)
        expected = stats.binomtest(hits, images).proportion_ci(method="wilson")
        assert interval.low == pytest.approx(expected.low, abs=1e-12)
        assert interval.high == pytest.approx(expected.high, abs=1e-12)

    @pytest.mark.parametrize(("share", "images"), [(1.1, 5), (-0.1, 5), (0.5, 0)])
    def test_refuses_nonsense(self, share: float, images: int) -> None:
        with pytest.raises(ValueError, match="got"):
            wilson_interval(share, images)


class TestMeanAccuracy:
    def test_covers_the_truth(self) -> None:
        rng = np.random.default_rng(0)
        truth = float(
            np.mean([runs(2.5, rng, rng.normal(0, 1.2, 50_000)).mean() for _ in range(20)])
        )
        found = [mean_accuracy(designs([2.5], rng)[0]) for _ in range(300)]
        assert sum(e.low <= truth <= e.high for e in found) >= 0.93 * 300

    def test_one_seed_is_a_binomial_share(self) -> None:
        correct_SI = np.arange(1_000)[None] < 900
        estimate = mean_accuracy(correct_SI)
        interval = wilson_interval(0.9, 1_000)
        assert estimate.value == 0.9
        assert (estimate.low, estimate.high) == pytest.approx(
            (interval.low, interval.high), abs=2e-4
        )
        assert standard_deviation(correct_SI) is None

    def test_no_mistake_is_not_certainty(self) -> None:
        estimate = mean_accuracy(np.ones((3, 300), dtype=np.bool_))
        assert estimate.high == 1
        assert estimate.low < 0.995

    def test_seeds_that_differ_widen_it(self) -> None:
        same = np.tile(np.arange(1_000) < 900, (3, 1))
        spread = np.stack([np.arange(1_000) < n for n in (850, 900, 950)])
        a, b = mean_accuracy(same), mean_accuracy(spread)
        assert a.value == pytest.approx(b.value)
        assert b.high - b.low > 3 * (a.high - a.low)
        assert standard_deviation(spread) == pytest.approx(0.05)

    @given(matrices)
    def test_holds_its_value_and_is_a_share(self, correct_SI: Correct) -> None:
        estimate = mean_accuracy(correct_SI)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (5,)])
    def test_refuses_nothing(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="got"):
            mean_accuracy(np.ones(shape, dtype=np.bool_))


class TestDifference:
    def test_covers_the_truth(self) -> None:
        rng = np.random.default_rng(1)
        found = [difference(*designs([2.5, 2.5], rng)) for _ in range(300)]
        assert sum(e.low <= 0 <= e.high for e in found) >= 0.93 * 300

    @pytest.mark.parametrize(("one", "other", "images"), [(0.99, 0.97, 36), (0.995, 0.985, 100)])
    def test_covers_the_truth_where_mistakes_are_few(
        self, one: float, other: float, images: int
    ) -> None:
        rng = np.random.default_rng(7)
        found = [
            difference(rng.random((1, images)) < one, rng.random((1, images)) < other)
            for _ in range(1_000)
        ]
        assert sum(e.low <= one - other <= e.high for e in found) >= 0.93 * 1_000

    def test_no_mistake_is_not_certainty(self) -> None:
        right = np.ones((3, 20), dtype=np.bool_)
        estimate = difference(right, right)
        assert estimate.value == 0
        assert estimate.low < -0.05 < 0.05 < estimate.high

    def test_sees_a_clear_difference(self) -> None:
        estimate = difference(*designs([3.0, 2.5], np.random.default_rng(2)))
        assert 0 < estimate.low < estimate.value < estimate.high

    def test_turns_round(self) -> None:
        a, b = designs([3.0, 2.5], np.random.default_rng(3))
        one, other = difference(a, b), difference(b, a)
        assert (one.value, one.low, one.high) == pytest.approx(
            (-other.value, -other.high, -other.low)
        )

    def test_wants_the_same_images(self) -> None:
        with pytest.raises(ValueError, match="the same for both, got 5 and 6"):
            difference(np.ones((2, 5), dtype=np.bool_), np.ones((2, 6), dtype=np.bool_))


class TestCannotBeToldApart:
    def test_the_best_of_equals_is_kept(self) -> None:
        rng = np.random.default_rng(4)
        kept = [cannot_be_told_apart(designs([2.5] * 4, rng)) for _ in range(200)]
        assert sum(k[0] for k in kept) >= 0.95 * 200  # what Hsu's procedure promises
        assert sum(all(k) for k in kept) >= 0.8 * 200  # equal designs come out as a tie

    def test_a_clearly_better_design_is_alone(self) -> None:
        rng = np.random.default_rng(5)
        found = [cannot_be_told_apart(designs([3.0, 2.4, 2.3], rng)) for _ in range(50)]
        assert found.count((True, False, False)) >= 48

    def test_the_order_does_not_matter(self) -> None:
        made = designs([2.9, 2.5, 2.7, 2.3], np.random.default_rng(6))
        found = cannot_be_told_apart(made)
        assert cannot_be_told_apart(made[::-1]) == found[::-1]
        assert any(found)

    def test_one_seed_tells_nothing(self) -> None:
        good, bad = np.ones((1, 500), dtype=np.bool_), np.zeros((1, 500), dtype=np.bool_)
        assert cannot_be_told_apart([good, bad]) == (True, True)

    def test_one_image_more_is_no_difference(self) -> None:
        right = np.ones((3, 287), dtype=np.bool_)
        almost = right.copy()
        almost[:, 0] = False
        assert cannot_be_told_apart([right, almost]) == (True, True)

    def test_refuses_what_cannot_be_compared(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            cannot_be_told_apart([])
        with pytest.raises(ValueError, match="equal numbers"):
            cannot_be_told_apart([np.ones((2, 5), dtype=np.bool_), np.ones((3, 5), dtype=np.bool_)])


@pytest.mark.parametrize(
    ("others", "freedom", "bound"),
    # Dunnett 1955, table 1a; others = 1 is Student's t
    [(1, 4, 2.13), (2, 5, 2.44), (2, 6, 2.34), (3, 10, 2.34), (9, 20, 2.60), (3, 10**6, 2.06)],
)
def test_dunnett_bound_is_the_tabled_one(others: int, freedom: int, bound: float) -> None:
    assert dunnett_bound(others, freedom) == pytest.approx(bound, abs=6e-3)
