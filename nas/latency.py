"""The layers that the latency of a design adds up from: how long one image takes, on a processor.

No tensor and no clock: what a layer takes is measured by `nas.export.timing`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from nas.architecture import STEM_KERNEL, Architecture, ImageInput, stage_sizes
from nas.text import milliseconds, plural
from nas.values import keep_plain, one_of, real, whole

FLOAT, INT8 = "float", "int8"
NETWORKS = (FLOAT, INT8)
"""What can be timed: `model.onnx`, and the same in int8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """How long a design may take for one image in ONNX Runtime.

    Raises:
        ValueError: a value is out of its range.
    """

    max_ms: float
    of: str = FLOAT  # one of `NETWORKS`
    threads: int = 1  # of the CPU

    def __post_init__(self) -> None:
        checks = {
            "max_ms": lambda name, value: real(name, value, above=0),
            "of": lambda name, value: one_of(name, value, NETWORKS),
            "threads": whole,
        }
        keep_plain(self, checks)

    def __str__(self) -> str:
        """As in 5 ms (float, 1 thread)."""
        return f"{milliseconds(self.max_ms)} ({self.of}, {plural(self.threads, 'thread')})"


class TimedLayer(NamedTuple):
    """What is measured once and counts in every design that has it.

    A `conv` is a convolution with its norm and ReLU; a `sum` the second one of a block, to which
    the shortcut is added; a `head` the average pool (its kernel and stride) and the classifier.
    """

    kind: str
    inputs: int  # channels
    outputs: int  # channels, or classes
    height: int  # of its input, in pixels
    width: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        """As in conv 16 32 32 32 3 2, its fields."""
        return " ".join(map(str, self))

    @classmethod
    def read(cls, text: str) -> "TimedLayer":
        """The layer of a text."""
        kind, *numbers = text.split()
        return cls(kind, *map(int, numbers))

    @property
    def activations(self) -> int:
        """Numbers that it puts out."""
        if self.kind == "head":
            return self.outputs
        return self.outputs * -(-self.height // self.stride) * -(-self.width // self.stride)

    @property
    def mult_adds(self) -> int:
        """Multiply-accumulates, without those of norms and biases."""
        if self.kind == "head":
            pooled = (self.height // self.kernel) * (self.width // self.kernel)
            return self.inputs * pooled * self.outputs
        return self.kernel**2 * self.inputs * self.activations

    @property
    def logs(self) -> tuple[float, ...]:
        """Where it is among the layers of its kind: near layers take similar times."""
        values = (self.inputs, self.outputs, self.height * self.width, self.kernel, self.stride)
        return tuple(map(math.log, values))


def layers_of(architecture: Architecture, input: ImageInput) -> tuple[TimedLayer, ...]:
    """The layers of a design, in any order; one that it has twice is there twice."""
    a = architecture
    size = (input.height, input.width)
    found = [TimedLayer("conv", input.channels, a.stem_channels, *size, STEM_KERNEL, 1)]
    inputs = a.stem_channels
    for b, c, f, k, stride, projection, (height, width) in zip(
        a.blocks,
        a.channels,
        a.kernels,
        a.shortcut_kernels,
        a.strides,
        a.projections,
        stage_sizes(a, input),
        strict=True,
    ):
        found.append(TimedLayer("conv", inputs, c, *size, f, stride))
        found += [TimedLayer("conv", c, c, height, width, f, 1)] * (b - 1)
        found += [TimedLayer("sum", c, c, height, width, f, 1)] * b
        if projection:
            found.append(TimedLayer("conv", inputs, c, *size, k, stride))
        inputs, size = c, (height, width)
    found.append(TimedLayer("head", inputs, input.classes, *size, a.pool, a.pool))
    return tuple(found)
