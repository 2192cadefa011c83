"""The latencies of a study as a search measures them: each once, by one process at a time.

That is under the allocation lock, which the workers of a study share and which ends with its
process.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nas.architecture import Architecture
from nas.counting import count
from nas.errors import RequestError
from nas.latency import LatencyLimit
from nas.packages import importing
from nas.search.fronts import proposal_budget
from nas.search.latency import Latency, LatencyTable
from nas.space import Limits, SearchSpace
from nas.study.creation import kept_settings
from nas.study.latencies import (
    begin_measuring,
    machine_in_words,
    machines_of,
    read_latencies,
    write_latencies,
)
from nas.study.location import StudyError, StudyLocation
from nas.study.store import Store
from nas.text import milliseconds

if TYPE_CHECKING:  # of an extra
    from nas.export.timing import Stopwatch

_FIRST = 12  # designs that are measured before any is proposed: an estimate has four weights
_WIDEST = 2  # times the limit, that the largest of them take at the speed of the smallest


class Latencies:
    """The table of a study, and what adds to it.

    Args:
        store: of the study, open.
        table: what is known of it.
        clock: measures what is not.
    """

    def __init__(self, store: Store, table: LatencyTable, clock: "Stopwatch") -> None:
        self._store = store
        self.table = table
        self._clock = clock

    @property
    def most(self) -> float:
        """The limit, in ms."""
        return self.table.most

    def begin(self, space: SearchSpace, limits: Limits) -> None:
        """Measures the first designs of a study, by which others are estimated."""
        self.refresh()
        if self.table.designs >= _FIRST:
            return
        smallest, rng = space.smallest(limits, by="mult_adds"), random.Random(0)
        least = count(smallest, space.input).mult_adds
        ms = self._first(smallest).ms
        widest = max(least, int(_WIDEST * self.table.most / ms * least))
        for _ in range(_FIRST - 1):  # the same ones again where that was cut off
            most = proposal_budget(least, widest, rng)
            stages, values = space.draw(limits.lowered("mult_adds", most), rng)
            self._first(space.architecture(stages, values))

    def _first(self, architecture: Architecture) -> Latency:
        with self._store.allocation_lock():
            self.refresh()
            return self._measured(architecture, whole=True)

    def refresh(self) -> None:
        """Learns what others have measured.

        Raises:
            StudyError: another machine measures this study by now.
        """
        _check_last(machines_of(self._store.study), self._clock, self._store.study.study_name)
        self.table.learn(read_latencies(self._store))

    def settle(self, architecture: Architecture, *, measure: bool) -> Latency:
        """What counts for a design, measured where that is missing and wanted.

        To be called under the allocation lock, after `refresh`.
        """
        return self._measured(architecture) if measure else self.table.latency(architecture)

    def _measured(self, architecture: Architecture, *, whole: bool = False) -> Latency:
        before = self.table.measured.keys()
        latency = self.table.measure(architecture, self._clock, whole=whole)
        new = self.table.measured
        write_latencies(self._store, {name: new[name] for name in new.keys() - before})
        return latency


def make_clock(limit: LatencyLimit) -> "Stopwatch":
    """What measures on this machine.

    Raises:
        RequestError: a package for it is missing.
        PackageError: it is broken.
    """
    if find_spec("onnxruntime") is None:
        raise RequestError(
            "--max-latency: expected the package onnxruntime, got none; pip install 'nas[int8]'"
        )
    with importing():
        from nas.export.timing import Stopwatch
    return Stopwatch(limit)


def likely_limits(clock: "Stopwatch", space: SearchSpace, limits: Limits) -> Limits:
    """Limits with the mult-adds that may be fast enough, by the smallest designs.

    Raises:
        RequestError: not even these are: the smallest one of every number of stages.
    """
    spaces = [replace(space, stages=(n,)) for n in space.stages]
    designs = [each.smallest(limits, by="mult_adds") for each in spaces]
    ms, design = min((clock.design(d, space.input), str(d)) for d in designs)
    least = max(count(d, space.input).mult_adds for d in designs)
    if ms > clock.limit.max_ms:
        raise RequestError(
            f"--max-latency: expected at least {milliseconds(ms)}, which the smallest design of "
            f"the space takes here ({design}, for {space.input}, with "
            f"{machine_in_words(clock.machine)}), got {milliseconds(clock.limit.max_ms)}"
        )
    return limits.lowered("mult_adds", max(least, int(_WIDEST * clock.limit.max_ms / ms * least)))


def check_machine(store: Store, location: StudyLocation, clock: "Stopwatch", *, anew: bool) -> None:
    """Checks that what a study has measured is of this machine, unless it is measured anew.

    Of one with another limit of latency `begin_search` says so.

    Raises:
        StudyError: it is of another one.
    """
    machines, kept = machines_of(store.study), kept_settings(store.study, location)
    if not anew and kept is not None and kept.latency == clock.limit:
        _check_last(machines, clock, location)


def _check_last(
    machines: Sequence[Mapping[str, object]], clock: "Stopwatch", study: object
) -> None:
    if machines and machines[-1] != clock.machine:
        raise StudyError(
            f"{study}: expected the machine that has measured its latencies, "
            f"{machine_in_words(machines[-1])}, got {machine_in_words(clock.machine)}; continue it "
            "there, or measure anew on this one with --latency-anew"
        )


def begin_latencies(
    store: Store, clock: "Stopwatch", space: SearchSpace, limits: Limits, *, anew: bool
) -> None:
    """Measures what a search needs before it proposes anything, unless the study has it.

    Raises:
        StudyError: another machine has begun to measure it meanwhile.
    """
    with store.allocation_lock():
        if anew or not machines_of(store.study):
            begin_measuring(store, clock.machine)
    table = LatencyTable(clock.limit.max_ms, space.input)
    Latencies(store, table, clock).begin(space, limits)
