"""Axes of figures: accuracies on what matters, sizes, and whole numbers.

Ticks are chosen here and not by plotly, so that none lies where no value can, such as above 100%.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

from nas.statistics import wilson_interval
from nas.text import short_count

_ERRORS_ABOVE = 0.95  # median accuracy, above which the scale is one of errors
_FAR_OUT = 3.0  # interquartile ranges below the lower quartile (Tukey 1977)
_ROOM, _RUG = 0.06, 0.05  # shares of the axis: around what is in view, and below that for ticks
_LEAST_SPAN, _LEAST_DECADES = 0.02, 0.1  # of an axis of accuracies, and of one of errors
_SCALE = "log scale of errors"
_MANTISSAS = (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True, slots=True)
class AccuracyAxis:
    """Accuracies, or errors on a logarithmic scale that is labelled with accuracies.

    Heights are accuracies, or decades of errors below 100%.
    """

    low: float  # heights of the lowest and of the highest accuracy in view
    high: float
    least_error: float | None = None  # drawn, since 0 has no logarithm; None: not of errors
    has_rug: bool = False  # room below for ticks of what is not compared

    def y(self, accuracies: Iterable[float]) -> list[float]:
        """Where accuracies are drawn, to six decimals: all that can be seen."""
        if self.least_error is None:
            return [round(accuracy, 6) for accuracy in accuracies]
        return [round(max(1 - accuracy, self.least_error), 6) for accuracy in accuracies]

    def holds(self, accuracy: float) -> bool:
        """Whether an accuracy is in view."""
        return self.low <= _height(accuracy, self.least_error) <= self.high

    @property
    def rug(self) -> float:
        """Where the ticks of what is not compared are drawn, below all that is."""
        height = self.low - (_ROOM + _RUG) * (self.high - self.low)
        return round(height if self.least_error is None else 10**-height, 6)

    def with_rug(self, accuracies: Iterable[float]) -> "AccuracyAxis":
        """The same with room for ticks, if one of these is not in view."""
        return replace(self, has_rug=not all(map(self.holds, accuracies)))

    def layout(self, title: str = "", ticks: int = 6) -> dict[str, Any]:
        """Of a plotly axis, whose title says so where it is one of errors.

        Args:
            title: what the accuracies are.
            ticks: of which there are about so many at most.
        """
        room = _ROOM * (self.high - self.low)
        bottom = self.low - room - 2 * self.has_rug * _RUG * (self.high - self.low)
        ends = self.low - room, self.high + room
        if self.least_error is None:
            values = _steps(max(ends[0], 0.0), min(ends[1], 1.0), ticks)
            layout: dict[str, Any] = {"range": [bottom, ends[1]], "title": {"text": title}}
            accuracies = values
        else:
            values = _log_steps(10 ** -ends[1], min(10 ** -ends[0], 1.0), ticks)
            accuracies = [1 - error for error in values]
            if self.holds(1.0):  # as half an error, which no label may be near to
                values = [error for error in values if error > 1.9 * self.least_error]
                accuracies = [1.0, *(1 - error for error in values)]
                values = [round(self.least_error, 6), *values]
            text = f"{title} ({_SCALE})" if title else _SCALE
            layout = {"type": "log", "range": [-bottom, -ends[1]], "title": {"text": text}}
        labels = [f"{100 * accuracy:.6g}%" for accuracy in accuracies]
        return {**layout, "tickvals": values, "ticktext": labels}


def accuracy_axis(
    compared: Iterable[float],
    others: Iterable[float] = (),
    *,
    images: int = 0,
    finals: Iterable[float] | None = None,
) -> AccuracyAxis:
    """The axis that accuracies which compare fill.

    Those that are far below the rest are not in view. Where the median is above 95% it is one of
    errors.

    Args:
        compared: accuracies, such as those of designs that were trained to the end.
        others: accuracies that are in view, too, unless they would make the axis more than three
            times as long.
        images: that were classified; the 95% intervals of `compared` are in view. 0: none.
        finals: whose median it is, if not that of `compared`.
    """
    known = sorted(compared)
    if not known:
        return AccuracyAxis(0.0, 1.0)
    errors = [1 - accuracy for accuracy in known if accuracy < 1]
    least = None
    if errors and median(known if finals is None else finals) > _ERRORS_ABOVE:
        least = min(errors) / (2 if known[-1] == 1 else 1_000)  # no error at all: half of one
    least_span = _LEAST_SPAN if least is None else _LEAST_DECADES
    heights = [_height(accuracy, least) for accuracy in known]
    lowest = known[_far_out(heights, least_span)]
    low, high = _height(lowest, least), heights[-1]
    if images:
        low = _height(wilson_interval(lowest, images).low, least)
        if least is None:  # errors have no upper end that could be drawn
            high = wilson_interval(known[-1], images).high
    if high - low < least_span:
        middle = (low + high) / 2
        low, high = middle - least_span / 2, middle + least_span / 2
    near = [_height(accuracy, least) for accuracy in others]
    near = [height for height in near if abs(height - (low + high) / 2) <= 1.5 * (high - low)]
    return AccuracyAxis(min([low, *near]), max([high, *near]), least)


def size_axis(sizes: Sequence[int]) -> dict[str, Any]:
    """An axis of sizes, such as parameters, on a logarithmic scale."""
    low, high = max(1, min(sizes, default=1)), max(1, max(sizes, default=1))
    room = max(0.05, 0.06 * math.log10(high / low))
    steps = _log_steps(low * 10**-room, high * 10**room, 6)
    ticks = sorted({max(1, round(step)) for step in steps})
    return {
        "type": "log",
        "range": [math.log10(low) - room, math.log10(high) + room],
        "tickvals": ticks,
        "ticktext": [short_count(tick) for tick in ticks],
    }


def whole_axis(values: Sequence[int]) -> dict[str, Any]:
    """An axis of whole numbers: no tick between two of them."""
    low, high = min(values, default=0), max(values, default=0)
    room = max(0.5, 0.03 * (high - low))
    axis: dict[str, Any] = {"range": [low - room, high + room], "nticks": 10}
    if high - low < 10:
        axis |= {"dtick": 1, "tick0": 0}
    return axis


def _height(accuracy: float, least_error: float | None) -> float:
    return accuracy if least_error is None else -math.log10(max(1 - accuracy, least_error))


def _far_out(heights: Sequence[float], least_span: float) -> int:
    """How many of the lowest heights are far below the others."""
    if len(heights) < 4:
        return 0
    lower, _, upper = quantiles(heights, n=4, method="inclusive")
    fence = lower - max(_FAR_OUT * (upper - lower), least_span)
    return sum(height < fence for height in heights)


def _steps(low: float, high: float, most: int) -> list[float]:
    """About so many multiples of 1, 2 or 5 times a power of ten between two numbers."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _log_steps(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers between two, for a logarithmic scale."""
    if high < 4 * low:
        return _steps(low, high, most)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        numbers = [float(f"{m}e{power}") for power in powers for m in mantissas]
        inside = [number for number in numbers if low <= number <= high]
        if len(inside) <= most:
            break
    return inside
