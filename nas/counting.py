"""What a design costs, in closed form: no tensor, no torch, microseconds.

`parameters` are trainable weights. `mult_adds` follow torchinfo's definition for one image
(torchinfo 1.8, ``LayerInfo.calculate_macs``): a convolution's weights and biases times the pixels
of its output; every other layer's parameters once. `activations` are the numbers that convolutions
and the classifier put out for one image (Radosavovic et al. 2020, arXiv:2003.13678, section 3.1).

The others are bytes on a microcontroller, of the int8 network with its norms folded into the
convolutions, as TensorFlow Lite Micro runs it; docs/devices.md derives them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from nas.architecture import STEM_KERNEL, Architecture, ImageInput, head_size, stage_sizes
from nas.text import kibibytes, millions, plural, short_bytes, short_count, whole


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

    @property
    def activations(self) -> int:
        """Numbers it puts out, where it is a convolution or the classifier; else 0."""
        return prod(self.output) if self.kind in ("conv", "linear") else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Something that a design costs and that is known before it is trained; it may have a limit."""

    name: str  # in `Count`, in a trial's attributes and among the objectives
    unit: str  # in the singular
    limit: str = ""  # what its limit is called; it has none without
    option: str = ""  # sets the limit
    rounded: Callable[[int | None], str] = whole  # a value as tables show it
    short: Callable[[int], str] = short_count  # a limit as it is typed
    per: str = ""  # what a value is of, where that is not the design
    memory: str = ""  # of bytes: what they are of
    always: bool = False  # whether tables show it also where nobody asked for it

    @property
    def units(self) -> str:
        """The unit in the plural."""
        return f"bytes of {self.memory}" if self.memory else f"{self.unit}s"

    @property
    def title(self) -> str:
        """What the cost is called in tables."""
        return self.memory or self.units

    @property
    def maximum(self) -> str:
        """The field that holds its limit, in `nas.space.Limits` and `SearchRequest`."""
        return f"max_{self.name}"

    @property
    def heading(self) -> str:
        """The title with a capital letter."""
        return self.title[0].upper() + self.title[1:]

    def exactly(self, value: int) -> str:
        """A value with its unit: 520,562,442 mult-adds."""
        return plural(value, self.unit, self.units)

    def about(self, value: int) -> str:
        """A value with its unit as tables show it: 520.6 M mult-adds, 54.7 KiB of arena."""
        if self.memory:
            return f"{self.rounded(value)} of {self.memory}"
        return f"{self.rounded(value)} {self.unit if value == 1 else self.units}"


def _memory(name: str, memory: str, limit: str, option: str) -> Cost:
    return Cost(
        name=name,
        unit=f"byte of {memory}",
        limit=limit,
        option=option,
        rounded=kibibytes,
        short=short_bytes,
        memory=memory,
    )


_ALIGNMENT = 16  # bytes; tflite-micro, `MicroArenaBufferAlignment`

COSTS: Mapping[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost(name="parameters", unit="parameter", limit="budget", option="--budget", always=True),
        Cost(
            name="mult_adds",
            unit="mult-add",
            limit="limit of mult-adds",
            option="--max-mult-adds",
            rounded=millions,
            per="per image",
            always=True,
        ),
        Cost(name="activations", unit="activation", rounded=millions, per="per image"),
        _memory("peak_ram", "peak RAM", "limit of peak RAM", "--max-peak-ram"),
        _memory("arena", "arena", "RAM limit", "--max-ram"),
        _memory("flash", "flash", "flash limit", "--max-flash"),
    )
}
"""Every cost by its name."""

LIMITED: Mapping[str, Cost] = {name: cost for name, cost in COSTS.items() if cost.option}
"""Those that may have a limit."""


def shown_costs(asked: Iterable[str]) -> tuple[Cost, ...]:
    """The costs that tables show: those that they always do, and those that were asked for."""
    names = set(asked)
    return tuple(cost for cost in COSTS.values() if cost.always or cost.name in names)


@dataclass(frozen=True, slots=True)
class Count:
    """What a design costs for one image."""

    parameters: int
    mult_adds: int
    activations: int
    peak_ram: int  # bytes of the tensors that are live at the worst operator
    arena: int  # bytes that TensorFlow Lite Micro needs in all
    flash: int  # bytes of the int8 file

    def __str__(self) -> str:
        """As in 4,903,242 parameters, 253.0 M mult-adds."""
        return ", ".join(cost.about(getattr(self, cost.name)) for cost in shown_costs(()))


def count(architecture: Architecture, input: ImageInput, *, scratch: bool = True) -> Count:
    """All costs of a design.

    A stage of B blocks with C channels, fed by c channels, has 2B - 1 convolutions C -> C, one
    convolution c -> C, 2B norms and, when the shape changes, a projection c -> C.

    Of a block that changes the shape the projection is computed first, so that live are in turn its
    input and output; the input, the shortcut and the first convolution's output; the shortcut and
    the second convolution's input and output. Of the other blocks the last three are all that is
    live at once.

    Args:
        architecture: the design.
        input: its images and classes.
        scratch: whether convolutions ask for memory of their own, as the kernels of a Cortex-M do.

    Raises:
        ValueError: the pool is larger than the last map.
    """
    head_height, head_width = head_size(architecture, input)
    a = architecture
    inputs, height, width = a.stem_channels, input.height, input.width
    weights = STEM_KERNEL**2 * input.channels * inputs
    stem = weights + a.stem_bias * inputs
    parameters = stem + 2 * inputs
    mult_adds = stem * height * width + 2 * inputs
    activations = inputs * height * width
    convs, outputs, factors, adds, pads = 1, inputs, _factors(inputs), 0, 0
    before = _map_bytes(inputs, height, width)
    peak = _map_bytes(input.channels, height, width) + before
    working = peak + _scratch(STEM_KERNEL, input.channels)  # the same, with what kernels ask for
    for b, c, f, k, stride, projection, (h, w) in zip(
        a.blocks,
        a.channels,
        a.kernels,
        a.shortcut_kernels,
        a.strides,
        a.projections,
        stage_sizes(a, input),
        strict=True,
    ):
        stage_weights = f * f * c * (inputs + (2 * b - 1) * c) + projection * k * k * inputs * c
        norms = 2 * c * (2 * b + (projection and a.shortcut_norm))
        stage_convs = 2 * b + projection
        weights += stage_weights
        parameters += stage_weights + norms
        mult_adds += stage_weights * h * w + norms
        activations += stage_convs * c * h * w
        convs += stage_convs
        outputs += stage_convs * c
        factors += stage_convs * _factors(c)
        adds += b
        after = _map_bytes(c, h, w)
        peak = max(peak, 3 * after)
        working = max(working, 3 * after + _scratch(f, c))
        if projection:
            padded = _padded_bytes(f, stride, inputs, height, width)
            padded_k = _padded_bytes(k, stride, inputs, height, width)
            pads += (padded > 0) + (padded_k > 0)
            shortcut = before + padded_k + after
            first = (padded or before) + 2 * after
            peak = max(peak, shortcut, before + padded + after, first)
            working = max(
                working, peak, shortcut + _scratch(k, inputs), first + _scratch(f, inputs)
            )
        inputs, height, width, before = c, h, w, after
    pooled = _map_bytes(inputs, head_height, head_width)
    last = pooled + max(before, aligned(input.classes))
    features = inputs * head_height * head_width
    head = (features + 1) * input.classes
    # What the interpreter keeps, and the file's tables: measured, see benchmarks/device_costs.py.
    tensors = 3 * convs + adds + 2 * pads + 5  # 5: the image, pool, and 3 of the classifier
    live = max(working if scratch else peak, last, 49 * tensors + 32)  # while memory is planned
    kept = factors + 241 * convs + 166 * adds + 172 * pads + 1182
    return Count(
        parameters=parameters + head,
        mult_adds=mult_adds + head,
        activations=activations + input.classes,
        peak_ram=max(peak, last),
        arena=aligned(live + kept),
        flash=weights
        + (features + 15) * input.classes
        + 28 * outputs
        + 339 * convs
        + 151 * adds
        + 261 * pads
        + 259 * input.channels
        + input.name_bytes
        + 1308,
    )


def aligned(size: int) -> int:
    """Bytes that a tensor of so many takes in a microcontroller's memory."""
    return (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _map_bytes(channels: int, height: int, width: int) -> int:
    return aligned(channels * height * width)


def needs_pad(kernel: int, stride: int, height: int, width: int) -> bool:
    """Whether a convolution of maps of this size has its padding as an operator of its own.

    It does where TensorFlow's `SAME`, which puts the odd pixel behind the image, is not ours of
    kernel // 2 pixels all around.
    """
    return kernel > 1 and ((height - 1) % stride > 0 or (width - 1) % stride > 0)


def _padded_bytes(kernel: int, stride: int, channels: int, height: int, width: int) -> int:
    """Bytes of a convolution's padded input, 0 where it needs none."""
    if not needs_pad(kernel, stride, height, width):
        return 0
    return _map_bytes(channels, height + kernel - 1, width + kernel - 1)


def _scratch(kernel: int, inputs: int) -> int:
    """Bytes beside the tensors that a convolution asks for: CMSIS-NN's, of two columns in int16.

    `arm_convolve_s8_get_buffer_size`; a 1 x 1 convolution needs none.
    """
    return 0 if kernel == 1 else aligned(4 * kernel * kernel * inputs)


def _factors(channels: int) -> int:
    """Bytes of a convolution's factors from sums to outputs: a number and a shift per channel."""
    return 2 * aligned(4 * channels)


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
