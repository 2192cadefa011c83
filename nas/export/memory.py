"""Where the tensors of a network lie in a microcontroller's memory: pure planning.

A tensor holds its memory from the operator that writes it to the last one that reads it. No plan
can need less than what is live at the worst operator. TensorFlow Lite Micro's own planner, which
takes the largest tensor first, often needs more; a plan that is stored in the file is taken as is
(tflite-micro, `docs/offline_memory_plan.md`).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas.counting import aligned
from nas.export.operators import Operator

_STEPS = 50  # from which plans are tried to start
_DRAWN = 1000  # orders at random, where no other reaches the bound


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a tensor holds memory, both ends included; step 0 is before the first operator."""

    name: str
    bytes: int  # aligned
    first: int
    last: int

    @property
    def steps(self) -> range:
        """The steps at which it is live."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The place of every tensor."""

    offsets: Mapping[str, int]  # bytes from the start of the memory
    bytes: int  # where the last one ends


def lifetimes(operators: Sequence[Operator]) -> list[Lifetime]:
    """When each tensor is live; the first operator reads the network's input alone.

    The output of the last operator is live to the end.
    """
    image = operators[0].inputs[0]
    tensors = {image.name: image, **{o.output.name: o.output for o in operators}}
    first = {image.name: 0, **{o.output.name: i for i, o in enumerate(operators, 1)}}
    last = dict(first)
    for i, operator in enumerate(operators, 1):
        last.update(dict.fromkeys((tensor.name for tensor in operator.inputs), i))
    last[operators[-1].output.name] = len(operators) + 1
    return [
        Lifetime(name, aligned(tensor.bytes), first[name], last[name])
        for name, tensor in tensors.items()
    ]


def bound(lived: Sequence[Lifetime]) -> int:
    """The most bytes that are live at any step: what every plan needs at least."""
    return max(_live(lived).values())


def plan(lived: Sequence[Lifetime]) -> Plan:
    """A place for every tensor, none over another that is live with it; the same each time.

    Each tensor gets the lowest place that is free, in one order after another until a plan reaches
    `bound`; the smallest plan, where none does.
    """
    least = bound(lived)
    best: Plan | None = None
    for order in _orders(lived):
        found = _first_fit(order)
        if best is None or found.bytes < best.bytes:
            best = found
        if best.bytes == least:
            break
    assert best is not None
    return best


def _live(lived: Sequence[Lifetime]) -> Counter[int]:
    """How many bytes are live at each step."""
    live: Counter[int] = Counter()
    for tensor in lived:
        live.update(dict.fromkeys(tensor.steps, tensor.bytes))
    return live


def _orders(lived: Sequence[Lifetime]) -> Iterator[list[Lifetime]]:
    """By size; then from each of the fullest steps outward in time; then at random."""
    yield sorted(lived, key=lambda tensor: (-tensor.bytes, tensor.first))
    yield sorted(lived, key=lambda tensor: (-tensor.bytes, -tensor.first))
    for step, _ in _live(lived).most_common(_STEPS):
        away = [(max(t.first - step, step - t.last, 0), i) for i, t in enumerate(lived)]
        yield [lived[i] for _, i in sorted(away)]
    draws = random.Random(0)
    for _ in range(_DRAWN):
        drawn = [(-t.bytes * draws.random(), i) for i, t in enumerate(lived)]
        yield [lived[i] for _, i in sorted(drawn)]


def _first_fit(order: Sequence[Lifetime]) -> Plan:
    offsets: dict[str, int] = {}
    taken: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # by step: start and end
    for tensor in order:
        offset = 0
        for start, end in sorted({place for step in tensor.steps for place in taken[step]}):
            if start - offset >= tensor.bytes:
                break
            offset = max(offset, end)
        offsets[tensor.name] = offset
        for step in tensor.steps:
            taken[step].append((offset, offset + tensor.bytes))
    return Plan(offsets, max(end for places in taken.values() for _, end in places))
