"""The Triton kernels of `nas.training.fused_norms`.

A map is a matrix of rows (a pixel of an image each) and columns (channels), of which a program
takes tiles. Sums over rows are made in parts, which are added up in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

import triton
import triton.language as tl


@triton.jit
def _tile(row, column, rows, columns):
    """Where a tile is in a matrix, and what of it is inside."""
    at = row.to(tl.int64)[:, None] * columns + column[None, :]
    return at, (row < rows)[:, None] & (column < columns)[None, :]


@triton.jit(do_not_specialize=["rows"])
def sum_values(x, sums, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
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
def finish_statistics(
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


@triton.jit
def _of_columns(mean, scale, weight, bias, column, inside):
    """Mean, scale, weight * scale and bias of some columns."""
    mean_C = tl.load(mean + column, mask=inside, other=0)
    scale_C = tl.load(scale + column, mask=inside, other=0)
    slope_C = scale_C * tl.load(weight + column, mask=inside, other=0)
    bias_C = tl.load(bias + column, mask=inside, other=0)
    return mean_C, scale_C, slope_C, bias_C


@triton.jit(do_not_specialize=["rows"])
def normalize(
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
    mean_C, _, slope_C, bias_C = _of_columns(mean, scale, weight, bias, column, inside)
    value = tl.load(x + at, mask=there, other=0).to(tl.float32)
    value = (value - mean_C[None, :]) * slope_C[None, :] + bias_C[None, :]
    if ADD:
        value += tl.load(added + at, mask=there, other=0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays, as in torch
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["rows"])
def sum_gradients(
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
    mean_C, scale_C, slope_C, bias_C = _of_columns(mean, scale, weight, bias, column, inside)
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
def finish_gradients(
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
def input_gradient(
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
    mean_C, scale_C, slope_C, bias_C = _of_columns(mean, scale, weight, bias, column, inside)
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
