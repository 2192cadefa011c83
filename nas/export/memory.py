"""Where the tensors of a network lie in a microcontroller's memory: pure planning, no torch.

A tensor holds its memory from the operator that writes it to the last one that reads it. No plan
can need less than what is live at the worst operator. TensorFlow Lite Micro's own planner, which
takes the largest tensor first, often needs more; a plan that is stored in the file is taken as is
(tflite-micro, `docs/offline_memory_plan.md`).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

ALIGNMENT = 16  # bytes; tflite-micro, `MicroArenaBufferAlignment`
_TRIES = 1000  # orders drawn at random, where none of the plain ones reaches the bound


class Tensor(Protocol):
    """What is kept in memory."""

    @property
    def name(self) -> str:
        """Tells tensors apart."""
        ...

    @property
    def bytes(self) -> int:
        """How large it is."""
        ...


class Operator(Protocol):
    """What reads tensors and writes one."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it reads."""
        ...

    @property
    def output(self) -> Tensor:
        """The tensor that it writes; none of its inputs."""
        ...


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a tensor holds memory, both ends included; step 0 is before the first operator."""

    name: str
    bytes: int  # a multiple of `ALIGNMENT`
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are live at the same step."""
        return self.first <= other.last and other.first <= self.last


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
        Lifetime(name, -(-tensor.bytes // ALIGNMENT) * ALIGNMENT, first[name], last[name])
        for name, tensor in tensors.items()
    ]


def bound(lived: Sequence[Lifetime]) -> int:
    """The most bytes that are live at any step: what every plan needs at least."""
    steps = range(max(tensor.last for tensor in lived) + 1)
    return max(sum(t.bytes for t in lived if t.first <= step <= t.last) for step in steps)


def plan(lived: Sequence[Lifetime]) -> Plan:
    """A place for every tensor, none over another that is live with it; the same each time.

    Each tensor gets the lowest place that is free, in an order by time, else by size, else one of
    `_TRIES` between them; the first plan that reaches `bound` is taken, else the smallest.
    """
    draws = random.Random(0)
    least = bound(lived)
    orders = [
        sorted(lived, key=lambda tensor: tensor.first),
        sorted(lived, key=lambda tensor: -tensor.first),
        sorted(lived, key=lambda tensor: (-tensor.bytes, tensor.first)),
        sorted(lived, key=lambda tensor: (-tensor.bytes, -tensor.first)),
    ]
    best = min((_first_fit(order) for order in orders), key=lambda found: found.bytes)
    for _ in range(_TRIES):
        if best.bytes == least:
            break
        weights = {tensor.name: tensor.bytes * draws.random() for tensor in lived}
        found = _first_fit(sorted(lived, key=lambda tensor: -weights[tensor.name]))
        best = min(best, found, key=lambda plan: plan.bytes)
    return best


def _first_fit(order: Sequence[Lifetime]) -> Plan:
    placed: list[tuple[int, Lifetime]] = []  # by offset
    for tensor in order:
        offset = 0
        for start, other in placed:
            if tensor.meets(other):
                if start - offset >= tensor.bytes:
                    break
                offset = max(offset, start + other.bytes)
        placed = sorted([*placed, (offset, tensor)], key=lambda place: place[0])
    end = max(offset + tensor.bytes for offset, tensor in placed)
    return Plan({tensor.name: offset for offset, tensor in placed}, end)
