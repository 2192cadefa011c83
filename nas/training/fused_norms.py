"""Batch norm, addition and ReLU in one pass each way, on CUDA.

torch runs them as kernels of their own, which read and write whole maps: with bfloat16 they take
more than half of a step of flexres22-2 on an H200 (docs/training.md). Here each direction has one
pass for the sums over a map and one for the result.

All sums are made in a fixed order, so that a step gives the same weights each time.

Shapes: a map (N, C, H, W) in channels_last memory is a matrix of N * H * W rows and C columns.
"""

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nas.training.norm_kernels import (
    finish_gradients,
    finish_statistics,
    input_gradient,
    normalize,
    sum_gradients,
    sum_values,
)

_TILE = 4096  # values that a program holds at once
_COLUMNS = (16, 32, 64)  # of a tile: few widths, since each is compiled once
_PROGRAMS_PER_PROCESSOR = 4  # enough for loads to be on their way all the time
_PARTS_AT_ONCE = 128  # partial sums that are added up together


class _Grid:
    """How a map is cut into tiles."""

    def __init__(self, x_NCHW: Tensor) -> None:
        self.columns = x_NCHW.shape[1]
        self.rows = x_NCHW.numel() // self.columns
        width = next((width for width in _COLUMNS if width >= self.columns), _COLUMNS[-1])
        self.tile: dict[str, Any] = {"ROWS": _TILE // width, "COLUMNS": width, "num_warps": 8}
        self.tiles = (triton.cdiv(self.rows, _TILE // width), triton.cdiv(self.columns, width))
        programs = _PROGRAMS_PER_PROCESSOR * _processors(x_NCHW.device)
        self.parts = min(self.tiles[0], max(1, programs // self.tiles[1]))
        self.columns_of_sums = (triton.cdiv(self.columns, _COLUMNS[0]),)
        self.sums: dict[str, Any] = {"PARTS": _PARTS_AT_ONCE, "COLUMNS": _COLUMNS[0]}


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":  # Triton's interpreter
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


class _FusedNorm(torch.autograd.Function):
    """See `fused_norm`."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NCHW: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        running_mean_C: Tensor,
        running_var_C: Tensor,
        added_NCHW: Tensor | None,
        relu: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        x = x_NCHW.contiguous(memory_format=torch.channels_last)
        grid = _Grid(x)
        add = added_NCHW is not None
        added = x if added_NCHW is None else added_NCHW
        added = added.contiguous(memory_format=torch.channels_last)
        mean_C, scale_C = torch.empty_like(bias_C), torch.empty_like(bias_C)
        sums = torch.empty(grid.parts, 2, grid.columns, device=x.device)
        sum_values[grid.parts, grid.tiles[1]](x, sums, grid.rows, grid.columns, **grid.tile)
        finish_statistics[grid.columns_of_sums](
            x,
            sums,
            mean_C,
            scale_C,
            running_mean_C,
            running_var_C,
            grid.rows,
            grid.columns,
            grid.parts,
            momentum,
            eps,
            **grid.sums,
        )
        y = torch.empty_like(x)
        of_columns = (mean_C, scale_C, weight_C, bias_C)
        normalize[grid.tiles](
            x, added, y, *of_columns, grid.rows, grid.columns, RELU=relu, ADD=add, **grid.tile
        )
        ctx.save_for_backward(x, y if add else x, *of_columns)
        ctx.relu, ctx.add = relu, add
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NCHW: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *of_columns = ctx.saved_tensors
        grid = _Grid(x)
        grad_y = grad_NCHW.contiguous(memory_format=torch.channels_last)
        grad_added = torch.empty_like(x) if ctx.add else None
        sums = torch.empty(grid.parts, 2, grid.columns, device=x.device)
        grad_bias_C, grad_weight_C = (torch.empty_like(of_columns[0]) for _ in range(2))
        sum_gradients[grid.parts, grid.tiles[1]](
            x,
            y,
            grad_y,
            grad_added if ctx.add else grad_y,
            sums,
            *of_columns,
            grid.rows,
            grid.columns,
            RELU=ctx.relu,
            ADD=ctx.add,
            **grid.tile,
        )
        finish_gradients[grid.columns_of_sums](
            sums, grad_bias_C, grad_weight_C, grid.columns, grid.parts, **grid.sums
        )
        grad_x = torch.empty_like(x)
        input_gradient[grid.tiles](
            x,
            grad_added if ctx.add else grad_y,
            grad_x,
            *of_columns,
            grad_bias_C,
            grad_weight_C,
            grid.rows,
            grid.columns,
            RELU=ctx.relu and not ctx.add,  # else the ReLU is behind what was added, done above
            **grid.tile,
        )
        return grad_x, grad_weight_C, grad_bias_C, None, None, grad_added, None, None, None


def fused_norm(
    x_NCHW: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
    running_mean_C: Tensor,
    running_var_C: Tensor,
    *,
    added_NCHW: Tensor | None,
    relu: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """`F.batch_norm` in training, then `+ added_NCHW` if there is one, then ReLU if wanted.

    Moves the running statistics as `F.batch_norm` does. Values and gradients differ from torch's
    by rounding only: sums are float32, and what torch rounds between its kernels is not rounded.

    Args:
        x_NCHW: float32 or bfloat16.
        weight_C: float32, as the next three.
        bias_C: shift.
        running_mean_C: changed in place.
        running_var_C: changed in place.
        added_NCHW: of the shape and type of x, if anything is added.
        relu: whether negative values become 0.
        momentum: share of this batch in the running statistics.
        eps: added to the variance.

    Returns:
        The maps, of the shape and type of x, in channels_last memory.

    Raises:
        ValueError: there is one value per channel, which has no deviation.
    """
    if x_NCHW.numel() == x_NCHW.shape[1]:
        raise ValueError(  # in the words of torch
            "Expected more than 1 value per channel when training, got input size "
            f"{list(x_NCHW.shape)}"
        )
    result: Tensor = _FusedNorm.apply(
        x_NCHW,
        weight_C,
        bias_C,
        running_mean_C,
        running_var_C,
        added_NCHW,
        relu,
        momentum,
        eps,
    )
    return result


def check_on(device: torch.device) -> None:
    """Compares a small map of bfloat16 with what torch makes of it, in both directions.

    Raises:
        AssertionError: they differ by more than rounding.
        Exception: of many kinds, where the kernels do not compile or run.
    """
    generator = torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    x, grad, added = (drawn(16, 8, 8, 24).bfloat16().permute(0, 3, 1, 2) for _ in range(3))
    weight, bias = drawn(24), drawn(24)
    for relu, add in ((False, False), (True, False), (True, True)):
        ours, theirs = ([t.clone().requires_grad_() for t in (x, weight, bias)] for _ in range(2))
        moved, expected = ([torch.zeros_like(bias), torch.ones_like(bias)] for _ in range(2))
        y = fused_norm(
            *ours, *moved, added_NCHW=added if add else None, relu=relu, momentum=0.1, eps=1e-5
        )
        own_x, own_weight, own_bias = theirs
        mean, var = expected
        out = F.batch_norm(own_x.float(), mean, var, own_weight, own_bias, True, 0.1, 1e-5)
        out = out + added.float() if add else out
        out = out * (y.detach() > 0) if relu else out  # what is 0 but for rounding may be either
        torch.autograd.backward([y, out], [grad, grad.float()])
        found_grads, wanted_grads = ([t.grad for t in side] for side in (ours, theirs))
        found_all, wanted_all = [y, *moved, *found_grads], [out, *expected, *wanted_grads]
        for found, wanted in zip(found_all, wanted_all, strict=True):
            assert found is not None
            assert wanted is not None
            distance = (found.float() - wanted.float()).norm() / wanted.float().norm()
            assert distance < 0.02, f"{float(distance):.1%} away from torch's own"
