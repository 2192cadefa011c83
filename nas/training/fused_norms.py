"""Batch norm, addition and ReLU in one pass each way, on CUDA.

torch runs them as kernels of their own, which read and write whole maps: with bfloat16 they take
more than half of a step of flexres22-2 on an H200 (docs/training.md). Here each direction has one
pass for the sums over a map and one for the result.

All sums are made in a fixed order, so that a step gives the same weights each time.

Shapes: a map (N, C, H, W) in channels_last memory is a matrix of N * H * W rows and C columns.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_TILE = 4096  # values that a program holds at once
_COLUMNS = (16, 32, 64)  # of a tile: few widths, since each is compiled once
_PROGRAMS_PER_PROCESSOR = 4  # enough for loads to be on their way all the time
_PARTS_AT_ONCE = 128  # partial sums that are added up together


@triton.jit
def _tile(row, column, rows, columns):
    """Where a tile lies in a matrix, and what of it is inside."""
    at = row.to(tl.int64)[:, None] * columns + column[None, :]
    return at, (row < rows)[:, None] & (column < columns)[None, :]


@triton.jit(do_not_specialize=["rows"])
def _sum_values(x, sums, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Adds up values and their squares, a part of the rows in each program.

    Both are of the distances to the first row, since a square loses the digits of a small
    deviation around a large mean.
    """
    part, parts = tl.program_id(0), tl.num_programs(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    origin = tl.load(x + column, mask=inside, other=0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(part * ROWS, rows, parts * ROWS):
        at, there = _tile(first + tl.arange(0, ROWS), column, rows, columns)
        value = tl.load(x + at, mask=there, other=0).to(tl.float32)
        value = tl.where(there, value - origin[None, :], 0.0)
        total += value
        squares += value * value
    at = sums + part * 2 * columns + column
    tl.store(at, tl.sum(total, 0), mask=inside)
    tl.store(at + columns, tl.sum(squares, 0), mask=inside)


@triton.jit
def _total(sums, column, columns, parts, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    """The sums of all parts."""
    first_sum = tl.zeros((PARTS, COLUMNS), tl.float32)
    second_sum = tl.zeros((PARTS, COLUMNS), tl.float32)
    for first in range(0, parts, PARTS):
        part = first + tl.arange(0, PARTS)
        there = (part < parts)[:, None] & (column < columns)[None, :]
        at = sums + part[:, None] * 2 * columns + column[None, :]
        first_sum += tl.load(at, mask=there, other=0)
        second_sum += tl.load(at + columns, mask=there, other=0)
    return tl.sum(first_sum, 0), tl.sum(second_sum, 0)


@triton.jit(do_not_specialize=["rows", "parts", "momentum", "eps"])
def _finish_statistics(
    x,
    sums,
    mean,
    scale,
    running_mean,
    running_var,
    rows,
    columns,
    parts,
    momentum,
    eps,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Mean and 1 / standard deviation of each column; moves the running ones."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    total, squares = _total(sums, column, columns, parts, PARTS, COLUMNS)
    origin = tl.load(x + column, mask=inside, other=0).to(tl.float32)
    distance = total / rows
    variance = squares / rows - distance * distance
    variance = tl.where(variance < 0, 0.0, variance)  # unlike a maximum this keeps NaN
    average = origin + distance
    tl.store(mean + column, average, mask=inside)
    tl.store(scale + column, 1.0 / tl.sqrt(variance + eps), mask=inside)
    unbiased = variance * (rows / tl.maximum(rows - 1.0, 1.0))
    old_mean = tl.load(running_mean + column, mask=inside)
    old_var = tl.load(running_var + column, mask=inside)
    tl.store(running_mean + column, old_mean + momentum * (average - old_mean), mask=inside)
    tl.store(running_var + column, old_var + momentum * (unbiased - old_var), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _normalize(
    x,
    added,
    y,
    mean,
    scale,
    weight,
    bias,
    rows,
    columns,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Writes y = ReLU(weight * (x - mean) * scale + bias + added)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    at, there = _tile(row, column, rows, columns)
    mean_C = tl.load(mean + column, mask=inside, other=0)
    slope_C = tl.load(scale + column, mask=inside, other=0) * tl.load(
        weight + column, mask=inside, other=0
    )
    bias_C = tl.load(bias + column, mask=inside, other=0)
    value = tl.load(x + at, mask=there, other=0).to(tl.float32)
    value = (value - mean_C[None, :]) * slope_C[None, :] + bias_C[None, :]
    if ADD:
        value += tl.load(added + at, mask=there, other=0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays, as in torch
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["rows"])
def _sum_gradients(
    x,
    y,
    grad_y,
    grad_added,
    sums,
    mean,
    scale,
    weight,
    bias,
    rows,
    columns,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Adds up the gradient behind the ReLU, alone and times the normalized values, in parts.

    With ADD that gradient is written down, too: it is that of what was added.
    """
    part, parts = tl.program_id(0), tl.num_programs(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    mean_C = tl.load(mean + column, mask=inside, other=0)
    scale_C = tl.load(scale + column, mask=inside, other=0)
    slope_C = scale_C * tl.load(weight + column, mask=inside, other=0)
    bias_C = tl.load(bias + column, mask=inside, other=0)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(part * ROWS, rows, parts * ROWS):
        at, there = _tile(first + tl.arange(0, ROWS), column, rows, columns)
        gradient = tl.load(grad_y + at, mask=there, other=0).to(tl.float32)
        value = tl.load(x + at, mask=there, other=0).to(tl.float32)
        distance = value - mean_C[None, :]
        if RELU:
            if ADD:
                result = tl.load(y + at, mask=there, other=0).to(tl.float32)
            else:
                result = distance * slope_C[None, :] + bias_C[None, :]
            gradient = tl.where(result <= 0, 0.0, gradient)
        if ADD:
            tl.store(grad_added + at, gradient.to(grad_added.dtype.element_ty), mask=there)
        total += gradient
        products += gradient * tl.where(there, distance * scale_C[None, :], 0.0)
    at = sums + part * 2 * columns + column
    tl.store(at, tl.sum(total, 0), mask=inside)
    tl.store(at + columns, tl.sum(products, 0), mask=inside)


@triton.jit(do_not_specialize=["parts"])
def _finish_gradients(
    sums,
    grad_bias,
    grad_weight,
    columns,
    parts,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradients of bias and weight."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    total, products = _total(sums, column, columns, parts, PARTS, COLUMNS)
    tl.store(grad_bias + column, total, mask=inside)
    tl.store(grad_weight + column, products, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _input_gradient(
    x,
    grad_y,
    grad_x,
    mean,
    scale,
    weight,
    bias,
    grad_bias,
    grad_weight,
    rows,
    columns,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Writes weight * scale * (g - mean of g - normalized x * mean of (g * normalized x))."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    at, there = _tile(row, column, rows, columns)
    mean_C = tl.load(mean + column, mask=inside, other=0)
    scale_C = tl.load(scale + column, mask=inside, other=0)
    slope_C = scale_C * tl.load(weight + column, mask=inside, other=0)
    bias_C = tl.load(bias + column, mask=inside, other=0)
    average_C = tl.load(grad_bias + column, mask=inside, other=0) / rows
    product_C = tl.load(grad_weight + column, mask=inside, other=0) / rows
    gradient = tl.load(grad_y + at, mask=there, other=0).to(tl.float32)
    value = tl.load(x + at, mask=there, other=0).to(tl.float32)
    distance = value - mean_C[None, :]
    if RELU:
        result = distance * slope_C[None, :] + bias_C[None, :]
        gradient = tl.where(result <= 0, 0.0, gradient)
    normalized = distance * scale_C[None, :]
    gradient = (gradient - average_C[None, :] - normalized * product_C[None, :]) * slope_C[None, :]
    tl.store(grad_x + at, gradient.to(grad_x.dtype.element_ty), mask=there)


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
        _sum_values[grid.parts, grid.tiles[1]](x, sums, grid.rows, grid.columns, **grid.tile)
        _finish_statistics[grid.columns_of_sums](
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
        _normalize[grid.tiles](
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
        _sum_gradients[grid.parts, grid.tiles[1]](
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
        _finish_gradients[grid.columns_of_sums](
            sums, grad_bias_C, grad_weight_C, grid.columns, grid.parts, **grid.sums
        )
        grad_x = torch.empty_like(x)
        _input_gradient[grid.tiles](
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
