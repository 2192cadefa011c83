"""Precision on a device: which one it takes, and how a forward pass is computed in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nas.errors import RequestError
from nas.runtime.precision import AUTO, Precision

# On x86, by torch's own names for them. All processors with AMX have its bfloat16 instructions.
_CPU_INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@dataclass(frozen=True, slots=True)
class ChosenPrecision:
    """The precision that is trained in, and why."""

    precision: Precision
    reason: str | None = None  # None: it was asked for

    def __str__(self) -> str:
        return self.precision + (f" ({self.reason})" if self.reason else "")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is slow, or missing."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(getattr(torch.cpu, name, lambda: False)() for name in _CPU_INSTRUCTIONS)


def supports(device: torch.device, precision: Precision) -> bool:
    """Whether to train in this precision on this device at all."""
    return precision is Precision.FLOAT32 or has_bfloat16(device)


def choose(
    asked: str,
    device: torch.device,
    seconds: Callable[[Precision], float | None] | None = None,
) -> ChosenPrecision:
    """The precision to train in on this device.

    `auto` is bfloat16 on a GPU that has it. On a CPU that has it, it is bfloat16 where that is
    shown to be faster, and float32 where speed is not asked about.

    Args:
        asked: one of `nas.runtime.precision.PRECISIONS`.
        device: where.
        seconds: of the same training in either precision; None where memory was too small for it.

    Raises:
        RequestError: bfloat16 is asked for, and the device has no instructions for it.
    """
    here = "GPU" if device.type == "cuda" else "processor"
    if asked != AUTO:
        precision = Precision(asked)
        if not supports(device, precision):
            raise RequestError(
                f"--precision: expected auto or float32 on this {here}, which has no bfloat16 "
                f"instructions, got {asked}"
            )
        return ChosenPrecision(precision)
    if not has_bfloat16(device):
        return ChosenPrecision(Precision.FLOAT32, f"this {here} has no bfloat16 instructions")
    if device.type == "cuda":
        return ChosenPrecision(Precision.BFLOAT16, f"this {here} has instructions for it")
    if seconds is None:
        return ChosenPrecision(
            Precision.FLOAT32, "more accurate; on a CPU only searches use bfloat16"
        )
    slow, fast = seconds(Precision.FLOAT32), seconds(Precision.BFLOAT16)
    if slow is None or fast is None:
        return ChosenPrecision(Precision.FLOAT32, "too little memory to time bfloat16")
    ratio = slow / fast
    if ratio > 1:
        return ChosenPrecision(Precision.BFLOAT16, f"{ratio:.2f} times as fast as float32 here")
    return ChosenPrecision(Precision.FLOAT32, f"bfloat16 is {ratio:.2f} times as fast here")


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """A block whose forward passes are computed in this precision on this device.

    bfloat16 is torch's autocast: norms, their statistics and all weights stay float32. float32 is
    exactly that: on CUDA convolutions else round their inputs to TF32.
    """
    if precision is Precision.BFLOAT16:
        # Each weight is used once a step, and a CUDA graph must not keep a cast of it.
        with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            yield
    elif device.type == "cuda":
        cudnn = torch.backends.cudnn
        with cudnn.flags(enabled=True, benchmark=cudnn.benchmark, allow_tf32=False):
            yield
    else:
        yield
