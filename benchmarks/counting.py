"""Counting a design against building it: microseconds against milliseconds.

A search counts every proposal and builds only those within its budget, so an over-budget proposal
must cost next to nothing. Run::

    python benchmarks/counting.py

Both are timed in turn in every round, so that whatever else the machine does touches both; shown is
the median over the rounds. Exit status 1 when a count of all costs takes more than 200 us or more
than a hundredth of the build.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from machine import hardware, software
from nas.architecture import PRESETS, ImageInput
from nas.counting import count
from nas.model import build

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
ROUNDS = 7
COUNTS = 1_000  # calls timed together
MOST_MICROSECONDS = 200.0
LEAST_RATIO = 100.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call of one preset, one entry per round."""

    count: list[float] = field(default_factory=list)
    build: list[float] = field(default_factory=list)

    @property
    def count_microseconds(self) -> float:
        """Median over the rounds."""
        return median(self.count) * 1e6

    @property
    def build_milliseconds(self) -> float:
        """Median over the rounds."""
        return median(self.build) * 1e3

    @property
    def ratio(self) -> float:
        """Median over the rounds of build time over count time in the same round."""
        return median(b / c for b, c in zip(self.build, self.count, strict=True))


def seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def measure() -> dict[str, Timing]:
    timings = {name: Timing() for name in PRESETS}
    for round in range(ROUNDS + 1):
        for name, architecture in PRESETS.items():
            counting = seconds(partial(count, architecture, CIFAR10), COUNTS)
            building = seconds(partial(build, architecture, CIFAR10), 1)
            if round > 0:  # the first one warms up
                timings[name].count.append(counting)
                timings[name].build.append(building)
    return timings


def main() -> int:
    timings = measure()
    print(hardware())
    print(f"{software('torch')}; median of {ROUNDS} interleaved rounds")
    print()
    print(f"{'preset':<22}{'parameters':>12}{'count, us':>11}{'build, ms':>11}{'build/count':>13}")
    for name, timing in timings.items():
        print(
            f"{name:<22}{count(PRESETS[name], CIFAR10).parameters:>12,}"
            f"{timing.count_microseconds:>11.2f}{timing.build_milliseconds:>11.1f}"
            f"{timing.ratio:>13,.0f}"
        )
    worst = max(timing.count_microseconds for timing in timings.values())
    smallest = min(timing.ratio for timing in timings.values())
    print()
    print(
        f"worst count {worst:.2f} us (at most {MOST_MICROSECONDS:g}), "
        f"smallest ratio {smallest:,.0f} (at least {LEAST_RATIO:,g})"
    )
    return 1 if worst > MOST_MICROSECONDS or smallest < LEAST_RATIO else 0


if __name__ == "__main__":
    sys.exit(main())
