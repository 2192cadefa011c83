"""A trained network in int8: scales from calibration images, and its logits as a device has them.

Post-training quantization as TensorFlow Lite specifies it (`lite/performance/quantization_spec`):
norms folded into their convolutions, weights per output channel and symmetric, biases int32,
activations int8 with a zero point. The classifier has one scale for all its weights, since older
kernels read only the first one. An activation's range is from its least to its largest value on the
calibration images: percentiles and the range of least squared error gave no better accuracy on
CIFAR-10 (3,000 images, B1,1,1 C8,16,32: float 63.8%, 63.9% so, 63.5% with 99.99%, 63.3% with least
error, 63.2% with 99.9%, of 256 calibration images).

Shapes: N images, C channels, H x W pixels, K classes, O outputs, I inputs.
"""

import copy
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nas.counting import needs_pad
from nas.export.operators import (
    HIGHEST,
    LOWEST,
    Activation,
    Add,
    Conv,
    Linear,
    Operator,
    Pad,
    Pool,
    Weights,
)
from nas.export.spec import ModelError, ModelSpec
from nas.model import BasicBlock, ConvNorm, ResNet
from nas.runtime import signals
from nas.training.batches import Normalize

_BATCH = 128  # calibration images at a time
_VALUES = 1 << 20  # of the largest maps of a batch, so that they stay in a processor's cache
_LARGEST_SUM = (1 << 31) - 1  # int32
_LARGEST_BIAS = 1 << 30  # half of it, since products are added
_FINEST = 2.0**-8  # what ADD puts out has at least this part of its inputs' scale


@dataclass(frozen=True, slots=True, eq=False)
class Int8Network:
    """A network as a device computes it; made by `quantize`."""

    spec: ModelSpec
    table_CV: NDArray[np.int8]  # what the network reads for each of the 256 values of a pixel
    operators: tuple[Operator, ...]  # in the order in which they run

    @property
    def image(self) -> Activation:
        """What the first operator reads."""
        return self.operators[0].inputs[0]

    @property
    def output(self) -> Activation:
        """The logits."""
        return self.operators[-1].output

    def read(self, images_NCHW: Tensor) -> Tensor:
        """What the network reads of uint8 images, (N, C, H, W) int8, by the table.

        Raises:
            ModelError: the images are of another type or shape.
        """
        _check_images(images_NCHW, self.spec)
        return torch.stack(
            [
                torch.from_numpy(values)[x_NHW.long()]
                for values, x_NHW in zip(self.table_CV, images_NCHW.cpu().unbind(1), strict=True)
            ],
            dim=1,
        )

    def logits(self, images_NCHW: Tensor) -> Tensor:
        """Logits of uint8 images, (N, K), float32, as TensorFlow Lite Micro computes them.

        Each of torch's threads computes batches of its own. Operators are so short that threads
        which share them wait for one another most of the time, above all on a busy machine.

        Raises:
            ModelError: the images are of another type or shape.
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after any operator.
        """
        signals.check()
        acted_on = signals.has_come()  # by who cleans up
        kernels = [operator.kernel() for operator in self.operators]
        last_use = {x.name: i for i, operator in enumerate(self.operators) for x in operator.inputs}
        largest = max(operator.output.bytes for operator in self.operators)

        def computed(part_NCHW: Tensor) -> Tensor:
            held = {self.image.name: self.read(part_NCHW).float()}
            for i, (operator, kernel) in enumerate(zip(self.operators, kernels, strict=True)):
                if signals.has_come() and not acted_on:
                    raise KeyboardInterrupt
                held[operator.output.name] = kernel(*(held[x.name] for x in operator.inputs))
                for x in operator.inputs:
                    if last_use[x.name] == i:
                        held.pop(x.name, None)
            return (held[self.output.name] - self.output.zero_point) * self.output.scale

        batches = torch.split(images_NCHW, max(1, _VALUES // largest))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # of each
        try:
            with ThreadPoolExecutor(threads) as pool:
                return torch.cat(list(pool.map(computed, batches)))
        except KeyboardInterrupt:
            signals.check()  # which notes that it is acted on
            raise
        finally:
            torch.set_num_threads(threads)


def quantize(network: ResNet, spec: ModelSpec, images_NCHW: Tensor) -> Int8Network:
    """A trained network in int8; it is not changed.

    Args:
        network: what was trained, on any device.
        spec: what it reads and answers.
        images_NCHW: uint8 images as it was trained on, some hundreds: activations get the range
            that they have on these.

    Raises:
        ModelError: there are no images, they are of another type or shape, or int8 cannot hold
            the network.
        ValueError: the network is not that of the description.
    """
    spec.check_network(network.architecture, network.input)
    _check_images(images_NCHW, spec)
    network = copy.deepcopy(network).cpu().float().eval()
    pixels_CV = np.array(
        [(np.arange(256) / 255 - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    )
    shape = (spec.input.height, spec.input.width, spec.input.channels)
    image = _activation("image", _Range(shape, pixels_CV.min(), pixels_CV.max()))
    steps_CV = np.round(pixels_CV / image.scale) + image.zero_point
    table_CV = np.clip(steps_CV, LOWEST, HIGHEST).astype(np.int8)
    with torch.no_grad():
        builder = _Builder(_ranges(network, spec, images_NCHW))
        builder.network(network, image)
    return Int8Network(spec, table_CV, tuple(builder.operators))


def _check_images(images_NCHW: Tensor, spec: ModelSpec) -> None:
    shape = (spec.input.channels, spec.input.height, spec.input.width)
    came = (images_NCHW.dtype, tuple(images_NCHW.shape[1:]))
    if came != (torch.uint8, shape) or not len(images_NCHW):
        raise ModelError(
            f"expected one or more uint8 images of {'x'.join(map(str, shape))} (channels x height "
            f"x width), got {str(images_NCHW.dtype).removeprefix('torch.')} of "
            f"{'x'.join(map(str, images_NCHW.shape))}; give images as the network was trained on"
        )


@dataclass(slots=True)
class _Range:
    """What values a tensor has on the calibration images."""

    shape: tuple[int, ...]  # H, W, C or K
    low: float = 0.0
    high: float = 0.0


def _ranges(network: ResNet, spec: ModelSpec, images_NCHW: Tensor) -> dict[str, _Range]:
    """The range of every tensor that an operator writes; zero is in each of them."""
    normalize = Normalize(spec.mean, spec.std, torch.device("cpu"))
    ranges: dict[str, _Range] = {}
    for part in torch.split(images_NCHW, _BATCH):
        for name, value in _values(network, normalize(part.cpu().permute(0, 2, 3, 1))):
            signals.check()
            if not value.isfinite().all():
                raise ModelError(
                    f"expected a network whose values are finite, got others in {name}; "
                    "train it again, with a smaller learning rate"
                )
            shape = value.movedim(1, -1).shape[1:]
            found = ranges.setdefault(name, _Range(tuple(shape)))
            found.low = min(found.low, float(value.min()))
            found.high = max(found.high, float(value.max()))
    return ranges


def _values(network: ResNet, x_NCHW: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What each operator writes in the float network, in their order."""
    x_NCHW = network.stem(x_NCHW, relu=True)
    yield "stem", x_NCHW
    for name, block in _blocks(network):
        shortcut = block.shortcut(x_NCHW)
        yield f"{name}.shortcut", shortcut
        out = block.norm1(block.conv1(x_NCHW), relu=True)
        yield f"{name}.conv1", out
        out = block.norm2(block.conv2(out))
        yield f"{name}.conv2", out
        x_NCHW = F.relu(out + shortcut)
        yield name, x_NCHW
    pooled = F.avg_pool2d(x_NCHW, network.architecture.pool)
    yield "pool", pooled
    yield "logits", network.head(pooled.flatten(1))


def _blocks(network: ResNet) -> Iterator[tuple[str, BasicBlock]]:
    for name, module in network.named_modules():
        if isinstance(module, BasicBlock):
            yield name, module


class _Builder:
    """Operators that grow; its methods add some and return what the last one writes."""

    def __init__(self, ranges: Mapping[str, _Range]) -> None:
        self.operators: list[Operator] = []
        self._ranges = ranges

    def network(self, network: ResNet, image: Activation) -> Activation:
        """The operators of `ResNet.forward`, of each block the projection first."""
        x = self._conv_norm("stem", network.stem, image, relu=True)
        for name, block in _blocks(network):
            shortcut = x
            if isinstance(block.shortcut, ConvNorm):
                shortcut = self._conv_norm(f"{name}.shortcut", block.shortcut, x, relu=False)
            out = self._conv(f"{name}.conv1", block.conv1, block.norm1, x, relu=True)
            out = self._conv(f"{name}.conv2", block.conv2, block.norm2, out, relu=False)
            finest = _FINEST * max(out.scale, shortcut.scale)
            x = _activation(name, self._ranges[name], finest)
            self.operators.append(Add((out, shortcut), x))
        pooled = replace(x, name="pool", shape=self._ranges["pool"].shape)
        self.operators.append(Pool((x,), pooled, network.architecture.pool))
        height, width, channels = pooled.shape
        head_OIHW = network.head.weight.double().view(-1, channels, height, width)
        head_OI = head_OIHW.permute(0, 2, 3, 1).flatten(1)
        weights = _weights("logits", head_OI, network.head.bias.double(), pooled, shared=True)
        logits = _activation("logits", self._ranges["logits"], weights.finest)
        self.operators.append(Linear((pooled,), logits, weights))
        return logits

    def _conv_norm(self, name: str, module: ConvNorm, x: Activation, *, relu: bool) -> Activation:
        return self._conv(name, module.conv, module.norm, x, relu=relu)

    def _conv(
        self, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, x: Activation, *, relu: bool
    ) -> Activation:
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        border = kernel // 2
        height, width, channels = x.shape
        if needs_pad(kernel, stride, height, width):
            shape = (height + 2 * border, width + 2 * border, channels)
            padded = replace(x, name=f"{name}.padded", shape=shape)
            self.operators.append(Pad((x,), padded, border))
            x, border = padded, 0
        weights = _weights(name, *_folded(conv, norm), x)
        output = _activation(name, self._ranges[name], weights.finest)
        self.operators.append(Conv((x,), output, weights, stride, border, relu))
        return output


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weights (O, H, W, I) and biases of a convolution with the norm behind it, in float64."""
    weight = conv.weight.double().permute(0, 2, 3, 1)
    bias = torch.zeros(len(weight)).double() if conv.bias is None else conv.bias.double()
    if norm is None:
        return weight, bias
    state = {name: value.double() for name, value in norm.state_dict().items()}
    gain = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    return weight * gain.view(-1, 1, 1, 1), (bias - state["running_mean"]) * gain + state["bias"]


def _weights(
    name: str, weight: Tensor, bias_O: Tensor, x: Activation, *, shared: bool = False
) -> Weights:
    """Weights and biases on `x` in whole numbers, with a scale for each output unless `shared`.

    Where weights are all but zero the scale is as large as the bias needs.
    """
    rows, bias = weight.flatten(1).numpy(), bias_O.numpy()
    scales_O = np.maximum(abs(rows).max(1) / HIGHEST, abs(bias) / (x.scale * _LARGEST_BIAS))
    scales_O = scales_O.max(keepdims=True) if shared else scales_O
    scales_O = np.where(scales_O > 0, scales_O, 1).astype(np.float32)
    scales_O = np.maximum(scales_O, np.finfo(np.float32).tiny)
    bias_scales_O = np.float32(x.scale) * scales_O
    values = np.clip(np.round(rows / scales_O.astype(float)[:, None]), -HIGHEST, HIGHEST)
    whole_bias = np.round(bias / bias_scales_O.astype(float))
    largest = (abs(values).sum(1) * (HIGHEST - LOWEST) + abs(whole_bias)).max()
    if largest > _LARGEST_SUM:
        raise ModelError(
            f"expected sums of int8 products that fit into 32 bits, got up to {largest:.0f} in "
            f"{name}; take a design with fewer channels or smaller kernels"
        )
    return Weights(
        values.astype(np.int8).reshape(weight.shape),
        whole_bias.astype(np.int32),
        scales_O,
        bias_scales_O,
    )


def _activation(name: str, range: _Range, finest: float = 0.0) -> Activation:
    """A tensor whose 256 values cover its range, zero among them, in steps of at least `finest`.

    A finer step would tell apart what its operator cannot, and its factor leave TFLite's range.
    """
    low, high = min(range.low, 0.0), max(range.high, 0.0)
    scale = max((high - low) / (HIGHEST - LOWEST), finest) or 1.0
    scale = float(np.float32(scale))
    zero_point = int(np.clip(np.round(LOWEST - low / scale), LOWEST, HIGHEST))
    return Activation(name, range.shape, scale, zero_point)
