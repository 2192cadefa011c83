import random

import pytest

from nas.architecture import Architecture, ImageInput
from nas.latency import TimedLayer, layers_of
from nas.search.candidates import Candidates
from nas.search.latency import LatencyTable
from nas.space import Limits, SearchSpace

INPUT = ImageInput(channels=1, height=8, width=8, classes=10)
SPACE = SearchSpace(
    input=INPUT,
    stages=(1, 2),
    blocks=((1, 2, 3),) * 2,
    channels=((4, 8, 12, 16),) * 2,
    kernels=((3, 5),) * 2,
    shortcut_kernels=((1, 3),) * 2,
    pool=(2, 4),
)
LIMITS = Limits(max_parameters=1_000_000)


class Machine:
    """One on which a design takes a known time, and each layer a little more when alone."""

    def __init__(self) -> None:
        self.layers: list[TimedLayer] = []
        self.designs: list[str] = []

    def layer(self, layer: TimedLayer) -> float:
        self.layers.append(layer)
        return layer.mult_adds / 1e5 + 0.02

    def design(self, architecture: Architecture, input: ImageInput) -> float:
        self.designs.append(architecture.key)
        return time_of(architecture)


def time_of(architecture: Architecture) -> float:
    layers = layers_of(architecture, INPUT)
    return 0.05 + sum(layer.mult_adds / 1e5 + layer.activations / 1e6 for layer in layers)


def drawn(number: int, seed: int = 0) -> list[Architecture]:
    rng = random.Random(seed)
    return [SPACE.architecture(*SPACE.draw(LIMITS, rng)) for _ in range(number)]


def test_without_a_measured_design_an_estimate_is_the_sum_of_the_layers() -> None:
    design = drawn(1)[0]
    layers = layers_of(design, INPUT)
    table = LatencyTable(1.0, INPUT, {str(layer): 0.25 for layer in layers})
    assert table.estimate(design) == pytest.approx(0.25 * len(layers))


def test_measured_designs_tell_what_layers_cost_less_together() -> None:
    machine, table = Machine(), LatencyTable(1e-3, INPUT)
    first, others = drawn(8), drawn(60, seed=1)
    for design in first:
        assert table.measure(design, machine, whole=True).ms == time_of(design)
    before = len(machine.designs)
    for design in others:
        if design.key not in machine.designs[:before]:
            assert table.measure(design, machine).ms == pytest.approx(time_of(design), rel=1e-6)
    assert len(machine.designs) == before  # all estimated


def test_each_layer_and_design_is_measured_once() -> None:
    machine, table = Machine(), LatencyTable(1e3, INPUT)
    for design in drawn(40) * 2:
        table.measure(design, machine)
    assert len(machine.layers) == len(set(machine.layers))
    assert len(machine.designs) == len(set(machine.designs)) == len({d.key for d in drawn(40)})


def test_a_design_near_the_limit_is_measured_and_one_far_above_it_is_not() -> None:
    machine = Machine()
    table = LatencyTable(1e-3, INPUT)
    for design in drawn(8):
        table.measure(design, machine, whole=True)
    known = table.measured
    for design in drawn(30, seed=1):
        time = table.measure(design, machine).ms
        for factor in (0.5, 0.95, 1.05, 1.5):
            fresh, clock = LatencyTable(time / factor, INPUT, known), Machine()
            latency = fresh.measure(design, clock)
            assert latency.ms == pytest.approx(time)
            assert fresh.allows(design) is (factor < 1)
            if design.key not in known:
                assert (latency.measured is not None) is (factor < 1.1)


def test_a_table_gives_back_all_that_it_was_made_of() -> None:
    table = LatencyTable(0.3, INPUT)
    for design in drawn(10):
        table.measure(design, Machine(), whole=True)
    again = LatencyTable(0.3, INPUT, table.measured)
    for design in drawn(40, seed=1):
        assert again.estimate(design) == pytest.approx(table.estimate(design))
        assert again.allows(design) is table.allows(design)


def test_a_layer_that_was_not_measured_takes_the_time_of_the_nearest_by_mult_adds() -> None:
    design = drawn(1)[0]
    known = {str(layer): layer.mult_adds / 1e6 for layer in layers_of(design, INPUT)}
    table = LatencyTable(1.0, INPUT, known)
    for other in drawn(20, seed=1):
        sum_of_layers = sum(layer.mult_adds for layer in layers_of(other, INPUT)) / 1e6
        assert table.estimate(other) == pytest.approx(sum_of_layers)


@pytest.fixture
def fast() -> LatencyTable:
    """A table of the whole space, on whose machine a tenth of the designs is fast enough."""
    designs = [SPACE.architecture(*found) for found in SPACE.designs(LIMITS)]
    times = sorted({d.key: time_of(d) for d in designs}.values())
    table = LatencyTable(times[len(times) // 10], INPUT)
    for design in drawn(12):
        table.measure(design, Machine(), whole=True)
    for design in designs:
        table.measure(design, Machine())
    return table


def test_what_is_proposed_is_fast_enough(fast: LatencyTable) -> None:
    candidates = Candidates(SPACE, LIMITS, (), fast)
    rng = random.Random(0)
    proposed = [candidates.candidate(candidates.draw(LIMITS, rng)) for _ in range(200)]
    assert all(time_of(candidate.architecture) <= fast.most for candidate in proposed)
    assert len({candidate.key for candidate in proposed}) > 20
    for params in candidates.domain.pool[:20]:
        for neighbour in candidates.domain.neighbours(params, rng):
            assert time_of(candidates.candidate(neighbour).architecture) <= fast.most


def test_all_that_is_fast_enough_is_proposed_and_then_nothing_more(fast: LatencyTable) -> None:
    candidates = Candidates(SPACE, LIMITS, (), fast)
    seen: set[str] = set()
    while candidates.any_unseen(seen):
        params = candidates.draw_unseen(seen, random.Random(len(seen)), LIMITS)
        assert params is not None
        seen.add(candidates.candidate(params).key)
    designs = (SPACE.architecture(*found) for found in SPACE.designs(LIMITS))
    assert seen == {design.key for design in designs if time_of(design) <= fast.most}


def test_a_candidate_that_turns_out_to_be_too_slow_is_not_proposed_again() -> None:
    table = LatencyTable(1e3, INPUT)
    candidates = Candidates(SPACE, LIMITS, (), table)
    assert candidates.any_unseen(set())
    design = candidates.candidate(candidates.draw(LIMITS, random.Random(0))).architecture
    table.learn({design.key: [1e4, 1.0, 1.0, 1.0, 1.0]})
    rng = random.Random(0)
    drawn = [candidates.candidate(candidates.draw(LIMITS, rng)).architecture for _ in range(50)]
    assert design.key not in {one.key for one in drawn}
