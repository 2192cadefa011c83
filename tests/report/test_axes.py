"""Axes: what is in view, and where the ticks lie."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.report.axes import accuracy_axis, size_axis
from nas.statistics import wilson_interval

shares = st.integers(0, 10_000).map(lambda correct: correct / 10_000)


def labels(accuracies: list[float]) -> list[str]:
    return list(accuracy_axis(accuracies).layout()["ticktext"])


class TestAccuracies:
    @pytest.mark.parametrize(
        ("accuracies", "shown"),
        [
            ([0.81, 0.85, 0.91], ["82%", "84%", "86%", "88%", "90%"]),
            ([0.9123], ["90.5%", "91%", "91.5%", "92%"]),
            ([0.999, 1.0], ["100%", "99.9%"]),
            ([1.0], ["99%", "99.2%", "99.4%", "99.6%", "99.8%", "100%"]),
            ([0.0], ["0%", "0.2%", "0.4%", "0.6%", "0.8%", "1%"]),
        ],
    )
    def test_ticks(self, accuracies: list[float], shown: list[str]) -> None:
        assert labels(accuracies) == shown

    def test_designs_fill_it(self) -> None:
        axis = accuracy_axis([0.81, 0.85, 0.91])
        low, high = axis.layout()["range"]
        assert (axis.low, axis.high) == (0.81, 0.91)
        assert (high - low) == pytest.approx(1.12 * 0.1)
        assert axis.y([0.85]) == [0.85]

    def test_above_95_percent_it_is_of_errors(self) -> None:
        assert accuracy_axis([0.94, 0.95, 0.96]).least_error is None
        axis = accuracy_axis([0.90, 0.96, 0.99])
        layout = axis.layout()
        assert layout["type"] == "log"
        assert axis.y([0.9, 0.99]) == [0.1, 0.01]
        assert layout["range"][0] > layout["range"][1]  # good is up
        places = dict(zip(layout["ticktext"], layout["tickvals"], strict=True))
        assert places["95%"] == 0.05
        assert axis.layout("accuracy")["title"]["text"] == "accuracy (log scale of errors)"
        plain = accuracy_axis([0.5, 0.6])
        assert plain.layout("accuracy")["title"]["text"] == "accuracy"
        assert "100%" not in places

    def test_no_error_at_all_is_half_of_the_least(self) -> None:
        axis = accuracy_axis([0.98, 0.99, 1.0, 1.0])
        assert axis.y([1.0]) == [0.005]
        layout = axis.layout()
        assert (layout["tickvals"][0], layout["ticktext"][0]) == (0.005, "100%")
        assert accuracy_axis([1.0, 1.0]).least_error is None

    def test_far_below_the_others_is_not_in_view(self) -> None:
        axis = accuracy_axis([0.1, 0.9, 0.91, 0.92, 0.93])
        assert not axis.holds(0.1)
        assert axis.holds(0.9)
        assert not axis.with_rug([0.9, 0.93]).has_rug  # where nothing would be drawn in it
        low, high = axis.with_rug([0.1, 0.9]).layout()["range"]
        assert low < axis.rug < 0.9 < 0.93 < high
        assert all(float(label.rstrip("%")) >= 89 for label in axis.layout()["ticktext"])
        assert accuracy_axis([0.1, 0.9, 0.93]).holds(0.1)  # of three, none is far from the others

    def test_intervals_are_in_view(self) -> None:
        axis = accuracy_axis([0.9, 0.92], images=500)
        assert axis.low == wilson_interval(0.9, 500).low
        assert axis.high == wilson_interval(0.92, 500).high

    def test_others_are_in_view_unless_they_are_far(self) -> None:
        axis = accuracy_axis([0.8, 0.9], [0.75, 0.95, 0.5])
        assert (axis.low, axis.high) == (0.75, 0.95)
        assert not axis.holds(0.5)

    @given(
        st.lists(shares, max_size=30),
        st.lists(shares, max_size=3),
        st.sampled_from([0, 30, 5_000]),
        st.booleans(),
        st.integers(3, 8),
    )
    def test_any_accuracies_have_an_axis(
        self, accuracies: list[float], others: list[float], images: int, rug: bool, ticks: int
    ) -> None:
        axis = replace(accuracy_axis(accuracies, others, images=images), has_rug=rug)
        layout = axis.layout(ticks=ticks)
        shown = [float(label.rstrip("%")) for label in layout["ticktext"]]
        assert shown
        assert all(0 <= accuracy <= 100 for accuracy in shown)
        assert len(set(layout["ticktext"])) == len(shown) <= ticks + 2
        bottom, top = layout["range"]

        def place(y: float) -> float:
            """How far up in the figure, 0..1."""
            y = y if axis.least_error is None else math.log10(y)
            return float((y - bottom) / (top - bottom))

        inside = [accuracy for accuracy in (*accuracies, *others) if axis.holds(accuracy)]
        assert all(0 < place(y) < 1 for y in axis.y(inside))
        assert all(0 <= place(y) <= 1 for y in layout["tickvals"])
        if axis.has_rug:
            assert all(0 < place(axis.rug) < place(y) for y in (*axis.y(inside),))
        assert sum(map(axis.holds, accuracies)) >= 0.75 * len(accuracies)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ([200_000, 5_000_000], ["200k", "500k", "1M", "2M", "5M"]),
        ([4_100_000, 4_990_000], ["4M", "4.5M", "5M", "5.5M"]),
        ([970], ["900", "950", "1k", "1.05k"]),
        ([], ["1"]),
    ],
)
def test_sizes(sizes: list[int], shown: list[str]) -> None:
    axis = size_axis(sizes)
    assert axis["ticktext"] == shown
    low, high = axis["range"]
    assert all(low < math.log10(size) < high for size in sizes)
    assert all(low <= math.log10(tick) <= high for tick in axis["tickvals"])
