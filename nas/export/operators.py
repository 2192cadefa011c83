"""The operators of an int8 network, with the integer arithmetic of TensorFlow Lite Micro.

A real number is kept as `scale * (q - zero_point)` with an int8 q (Jacob et al. 2018,
arXiv:1712.05877). The formulas are those of tflite-micro's reference kernels
(`tensorflow/lite/kernels/internal`: `common.cc`, `quantization_util.cc`, `reference/integer_ops`);
here they take whole batches. Shapes: N images, C channels, H x W pixels, K classes, O outputs,
I inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = -128, 127  # of int8
_ADD_SHIFT = 20  # bits by which ADD widens its inputs
_EXACT = 1 << 24  # float32 holds every whole number up to here

Kernel = Callable[..., Tensor]
"""What computes an operator: whole numbers in float32, with N first, to the same."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A tensor that depends on the image."""

    name: str
    shape: tuple[int, ...]  # H, W, C of maps; K of the logits
    scale: float  # a float32 number
    zero_point: int

    @property
    def bytes(self) -> int:
        """How large it is for one image."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Weights of a convolution or of the classifier, symmetric around zero."""

    values: NDArray[np.int8]  # (O, H, W, I), or (O, I)
    bias_O: NDArray[np.int32]
    scales_O: NDArray[np.float32]  # of the values; the classifier has one for all outputs
    bias_scales_O: NDArray[np.float32]  # likewise

    @property
    def finest(self) -> float:
        """The largest step of any output's sums."""
        return float(self.bias_scales_O.max())

    @property
    def largest_sum(self) -> int:
        """The most that the sum over products with int8 numbers can be."""
        values = self.values.reshape(len(self.values), -1)
        return int(np.abs(values.astype(np.int64)).sum(1).max()) * -LOWEST


@dataclass(frozen=True, slots=True, eq=False)
class Pad:
    """PAD: as many pixels of value zero on every side."""

    inputs: tuple[Activation]
    output: Activation
    border: int

    def kernel(self) -> Kernel:
        """What computes it."""
        zero = float(self.output.zero_point)
        return lambda x_NCHW: F.pad(x_NCHW, (self.border,) * 4, value=zero)


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """CONV_2D, with a ReLU if `relu`; `border` pixels on every side are taken as zero."""

    inputs: tuple[Activation]
    output: Activation
    weights: Weights
    stride: int
    border: int
    relu: bool

    def kernel(self) -> Kernel:
        """What computes it."""
        (input,), weights, output, relu = self.inputs, self.weights, self.output, self.relu
        rescaled = _Rescaling(
            (input.scale * weights.scales_O.astype(float) / output.scale).reshape(-1, 1, 1),
            bias=_bias(weights, input).reshape(-1, 1, 1),
            zero_point=output.zero_point,
            relu=relu,
        )
        dtype = torch.float32 if weights.largest_sum < _EXACT else torch.float64
        values_OIHW = torch.from_numpy(weights.values).permute(0, 3, 1, 2).to(dtype)
        border, zero = (self.border,) * 4, float(input.zero_point)

        def computed(x_NCHW: Tensor) -> Tensor:
            padded = F.pad(x_NCHW.to(dtype), border, value=zero)
            sums = F.conv2d(padded, values_OIHW, stride=self.stride)
            return _limited(rescaled(sums), output, relu=relu)

        return computed


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """ADD and a ReLU."""

    inputs: tuple[Activation, Activation]
    output: Activation

    def kernel(self) -> Kernel:
        """What computes it."""
        largest = 2 * max(input.scale for input in self.inputs)
        first, second = (
            _Rescaling(input.scale / largest, bias=-input.zero_point << _ADD_SHIFT)
            for input in self.inputs
        )
        output = self.output
        factor = largest / ((1 << _ADD_SHIFT) * output.scale)
        rescaled = _Rescaling(factor, zero_point=output.zero_point, relu=True)

        def computed(x_NCHW: Tensor, added_NCHW: Tensor) -> Tensor:
            widened = first(x_NCHW.long() << _ADD_SHIFT)
            widened += second(added_NCHW.long() << _ADD_SHIFT)
            return _limited(rescaled(widened), output, relu=True)

        return computed


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """AVERAGE_POOL_2D without padding; the output has the scale of the input."""

    inputs: tuple[Activation]
    output: Activation
    size: int

    def kernel(self) -> Kernel:
        """What computes it: averages, rounded half away from zero."""
        pixels = self.size**2

        def computed(x_NCHW: Tensor) -> Tensor:
            sums = F.avg_pool2d(x_NCHW, self.size, divisor_override=1).long()
            away = (sums.abs() + pixels // 2).div(pixels, rounding_mode="floor")
            return away.mul_(sums.sign()).float()

        return computed


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """FULLY_CONNECTED: the classifier on all pixels of the pooled maps."""

    inputs: tuple[Activation]
    output: Activation
    weights: Weights

    def kernel(self) -> Kernel:
        """What computes it."""
        (input,), weights = self.inputs, self.weights
        product = float(np.float32(input.scale) * weights.scales_O[0])  # float32, as the kernel's
        rescaled = _Rescaling(
            product / self.output.scale,
            bias=_bias(weights, input),
            zero_point=self.output.zero_point,
        )
        values_IO = torch.from_numpy(weights.values.T.astype(float))

        def computed(x_NCHW: Tensor) -> Tensor:
            x_NI = x_NCHW.permute(0, 2, 3, 1).flatten(1).double()
            return _limited(rescaled(x_NI @ values_IO), self.output, relu=False)

        return computed


Operator = Pad | Conv | Add | Pool | Linear


def _bias(weights: Weights, input: Activation) -> NDArray[np.int64]:
    """What is added to the sums over q instead of those over q - zero point."""
    sums_O = weights.values.reshape(len(weights.values), -1).sum(1, dtype=np.int64)
    bias_O: NDArray[np.int64] = weights.bias_O - input.zero_point * sums_O
    return bias_O


class _Rescaling:
    """Multiplies whole numbers as TFLite does, to int8 numbers with this zero point, not limited.

    A factor is a whole number of 31 bits and a power of two (`QuantizeMultiplier`). A product is
    rounded twice: half up by 31 bits, then half away from zero by the rest
    (`MultiplyByQuantizedMultiplier` without `TFLITE_SINGLE_ROUNDING`).
    """

    def __init__(
        self,
        factors: NDArray[np.float64] | float,
        *,
        bias: NDArray[np.int64] | int = 0,  # is added first
        zero_point: int = 0,
        relu: bool = False,  # all results below the zero point count as it
    ) -> None:
        fractions, exponents = np.frexp(np.atleast_1d(factors))
        whole = np.floor(fractions * 2.0**31 + 0.5).astype(np.int64)
        exponents = np.where(whole == 1 << 31, exponents + 1, exponents).astype(np.int64)
        whole = np.where(exponents < -31, 0, np.where(whole == 1 << 31, 1 << 30, whole))
        whole <<= np.maximum(exponents, 0)
        shifts = np.clip(-exponents, 0, 31)
        self._factors = torch.from_numpy(whole)
        self._constants = torch.from_numpy(bias * whole + (1 << 30))
        self._shifts = torch.from_numpy(shifts)
        self._halves = torch.from_numpy(((1 << shifts) >> 1) + (zero_point << shifts))
        self._away = None if relu else torch.from_numpy((shifts > 0).astype(np.int64))

    def __call__(self, x: Tensor) -> Tensor:
        """The products of whole numbers of any type, int64."""
        x = torch.addcmul(self._constants, x.long(), self._factors).bitwise_right_shift_(31)
        if self._away is not None:
            x.sub_((x >> 63).bitwise_and_(self._away))  # 1 of negative ones
        return x.add_(self._halves).bitwise_right_shift_(self._shifts)


def _limited(x: Tensor, output: Activation, *, relu: bool) -> Tensor:
    return x.clamp_(output.zero_point if relu else LOWEST, HIGHEST).float()
