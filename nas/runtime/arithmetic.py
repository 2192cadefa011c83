"""Precision on a device: how a forward pass is computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nas.runtime.precision import Precision


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
