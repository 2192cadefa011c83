"""Exact size of a design, in closed form: no tensor, no torch, microseconds.

`parameters` are trainable weights. `mult_adds` follow torchinfo's definition for one image
(torchinfo 1.8, ``LayerInfo.calculate_macs``): a convolution's weights and biases times the pixels
of its output; every other layer's parameters once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nas.architecture import STEM_KERNEL, Architecture, ImageInput, head_size, stage_sizes
from nas.text import millions, plural, whole


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the layer table."""

    name: str  # as in the built network's `named_modules`
    kind: str  # conv, norm, pool, linear
    output: tuple[int, ...]  # (channels, height, width), or (classes,) for the classifier
    kernel: int  # 0 where there is none
    stride: int
    parameters: int
    mult_adds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Something that a design costs and that is known before it is trained; it may have a limit."""

    name: str  # in `Count`, in a trial's attributes and among the objectives
    unit: str  # in the singular
    limit: str  # what its limit is called
    option: str  # sets the limit
    rounded: Callable[[int | None], str] = whole  # a value as tables show it
    per: str = ""  # what a value is of, where that is not the design

    @property
    def units(self) -> str:
        """The unit in the plural, which names the cost in tables."""
        return f"{self.unit}s"

    @property
    def maximum(self) -> str:
        """The field that holds its limit, in `nas.space.Limits` and `SearchRequest`."""
        return f"max_{self.name}"

    def exactly(self, value: int) -> str:
        """A value with its unit: 520,562,442 mult-adds."""
        return plural(value, self.unit)

    def about(self, value: int) -> str:
        """A value with its unit as tables show it: 520.6 M mult-adds."""
        return f"{self.rounded(value)} {self.unit if value == 1 else self.units}"


COSTS: Mapping[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost(name="parameters", unit="parameter", limit="budget", option="--budget"),
        Cost(
            name="mult_adds",
            unit="mult-add",
            limit="limit of mult-adds",
            option="--max-mult-adds",
            rounded=millions,
            per="per image",
        ),
    )
}
"""Every cost by its name."""


@dataclass(frozen=True, slots=True)
class Count:
    """What a design costs for one image: a field for each of `COSTS`."""

    parameters: int
    mult_adds: int

    def __str__(self) -> str:
        """As in 4,903,242 parameters, 253.0 M mult-adds."""
        return ", ".join(cost.about(getattr(self, name)) for name, cost in COSTS.items())


def count(architecture: Architecture, input: ImageInput) -> Count:
    """Trainable weights and multiply-accumulates of a design.

    A stage of B blocks with C channels, fed by c channels, has 2B - 1 convolutions C -> C, one
    convolution c -> C, 2B norms and, when the shape changes, a projection c -> C.

    Raises:
        ValueError: the pool is larger than the last map.
    """
    head_height, head_width = head_size(architecture, input)
    a = architecture
    stem = STEM_KERNEL**2 * input.channels * a.stem_channels + a.stem_bias * a.stem_channels
    parameters = stem + 2 * a.stem_channels
    mult_adds = stem * input.height * input.width + 2 * a.stem_channels
    inputs = a.stem_channels
    for b, c, f, k, projection, (height, width) in zip(
        a.blocks,
        a.channels,
        a.kernels,
        a.shortcut_kernels,
        a.projections,
        stage_sizes(a, input),
        strict=True,
    ):
        convs = f * f * c * (inputs + (2 * b - 1) * c) + projection * k * k * inputs * c
        norms = 2 * c * (2 * b + (projection and a.shortcut_norm))
        parameters += convs + norms
        mult_adds += convs * height * width + norms
        inputs = c
    head = (inputs * head_height * head_width + 1) * input.classes
    return Count(parameters + head, mult_adds + head)


def count_parameters(architecture: Architecture, input: ImageInput) -> int:
    """Trainable weights of a design. Raises as `count`."""
    return count(architecture, input).parameters


def count_mult_adds(architecture: Architecture, input: ImageInput) -> int:
    """Multiply-accumulates of a design for one image. Raises as `count`."""
    return count(architecture, input).mult_adds


def layer_table(architecture: Architecture, input: ImageInput) -> list[Layer]:
    """Every layer with weights, and the pool, in the order of the forward pass.

    Of a block the shortcut comes last. Its sums equal `count`. Raises as `count`.
    """
    return list(_layers(architecture, input))


def _layers(a: Architecture, input: ImageInput) -> Iterator[Layer]:
    head_height, head_width = head_size(a, input)

    def conv(
        name: str, inputs: int, output: tuple[int, int, int], kernel: int, stride: int, bias: bool
    ) -> Layer:
        channels, height, width = output
        weights = (kernel**2 * inputs + bias) * channels
        return Layer(name, "conv", output, kernel, stride, weights, weights * height * width)

    def norm(name: str, output: tuple[int, int, int]) -> Layer:
        return Layer(name, "norm", output, 0, 1, 2 * output[0], 2 * output[0])

    maps = (a.stem_channels, input.height, input.width)
    yield conv("stem.conv", input.channels, maps, STEM_KERNEL, 1, a.stem_bias)
    yield norm("stem.norm", maps)
    inputs = a.stem_channels
    for i, (height, width) in enumerate(stage_sizes(a, input)):
        maps = (a.channels[i], height, width)
        for block in range(a.blocks[i]):
            name = f"stages.{i}.{block}"
            stride = a.strides[i] if block == 0 else 1
            yield conv(f"{name}.conv1", inputs, maps, a.kernels[i], stride, False)
            yield norm(f"{name}.norm1", maps)
            yield conv(f"{name}.conv2", maps[0], maps, a.kernels[i], 1, False)
            yield norm(f"{name}.norm2", maps)
            if block == 0 and a.projections[i]:
                kernel = a.shortcut_kernels[i]
                yield conv(f"{name}.shortcut.conv", inputs, maps, kernel, stride, False)
                if a.shortcut_norm:
                    yield norm(f"{name}.shortcut.norm", maps)
            inputs = maps[0]
    pooled = (inputs, head_height, head_width)
    yield Layer("pool", "pool", pooled, a.pool, a.pool, 0, 0)
    head = (inputs * head_height * head_width + 1) * input.classes
    yield Layer("head", "linear", (input.classes,), 0, 1, head, head)
