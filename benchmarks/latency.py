"""Latencies: how near estimates come to measurements, and whether a limit is kept elsewhere.

As a search does, it measures a few designs and their layers for a limit of latency; then it draws
designs that were not measured, estimates each from its layers, and measures it here and again in
another process, one after the other. Run on a machine that does nothing else::

    python benchmarks/latency.py --check

Exit status 1 with `--check` when the median error of the estimates is above 5%, or a design that
was within the limit here is more than 5% above it in the other process.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from machine import load, software
from nas.architecture import Architecture, ImageInput
from nas.commands import arguments
from nas.export.timing import Stopwatch
from nas.latency import FLOAT, NETWORKS, LatencyLimit
from nas.search.candidates import Candidates
from nas.search.latency import LatencyTable
from nas.search.measuring import Latencies, begin_latencies
from nas.space import Limits, default_space
from nas.study.latencies import machine_in_words, read_latencies
from nas.study.location import StudyLocation
from nas.study.store import open_store
from nas.text import milliseconds

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
MOST_ERROR = MOST_EXCESS = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds of one design."""

    estimate: float
    here: float
    elsewhere: float

    @property
    def error(self) -> float:
        """Of the estimate, as a share."""
        return abs(self.estimate / self.here - 1)


def measured(limit: LatencyLimit, design: Architecture) -> float:
    return Stopwatch(limit).design(design, CIFAR10)


def results(limit: LatencyLimit, limits: Limits, designs: int) -> list[Result]:
    space, clock, rng = default_space(CIFAR10), Stopwatch(limit), random.Random(1)
    found: list[Result] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(StudyLocation.at("latency", studies_dir=Path(folder))) as store,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other,
    ):
        begin_latencies(store, clock, space, limits, anew=False)
        table = LatencyTable(limit.max_ms, CIFAR10, read_latencies(store))
        latencies, candidates = Latencies(store, table, clock), Candidates(space, limits, (), table)
        print(f"{len(table.measured)} layers and designs measured before")
        seen = set(table.measured)
        while len(found) < designs:
            design = candidates.candidate(candidates.draw(limits, rng)).architecture
            if design.key in seen:
                continue
            seen.add(design.key)
            with store.allocation_lock():
                latency = latencies.settle(design, measure=True)
            if latency.measured is None:
                continue  # refused by its estimate
            again = other.submit(measured, limit, design).result()
            found.append(Result(latency.estimate, latency.measured, again))
            values = map(milliseconds, (latency.estimate, latency.measured, again))
            print(*(f"{value:>9}" for value in values), design, sep="  ", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where it is not kept")
    parser.add_argument("--designs", type=arguments.whole_number, default=40)
    parser.add_argument("--budget", type=arguments.large_number, default=5_000_000)
    parser.add_argument("--max-latency", type=arguments.latency, default=5.0)
    parser.add_argument("--latency-of", choices=NETWORKS, default=FLOAT)
    parser.add_argument("--latency-threads", type=arguments.whole_number, default=1)
    options = parser.parse_args()
    limit = LatencyLimit(
        max_ms=options.max_latency, of=options.latency_of, threads=options.latency_threads
    )
    print(f"{machine_in_words(Stopwatch(limit).machine)}; {limit}; {load()}")
    print(software("torch", "onnxruntime"))
    print(" estimate       here  elsewhere  design")
    found = results(limit, Limits(max_parameters=options.budget), options.designs)
    errors = [result.error for result in found]
    kept = [result for result in found if result.here <= limit.max_ms]
    excess = max((result.elsewhere / limit.max_ms - 1 for result in kept), default=0.0)
    repeats = [abs(result.elsewhere / result.here - 1) for result in found]
    print(
        f"{len(found)} designs: estimates off by {median(errors):.1%} (median), "
        f"{quantiles(errors, n=10)[-1]:.1%} (90th percentile); measured again elsewhere "
        f"{median(repeats):.1%} (median) apart\n{len(kept)} within the limit, of which the slowest "
        f"is {excess:+.1%} from it elsewhere; {load()}"
    )
    return int(options.check and (median(errors) > MOST_ERROR or excess > MOST_EXCESS))


if __name__ == "__main__":
    sys.exit(main())
