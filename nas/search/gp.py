"""A Gaussian process over designs: the score one not yet trained may reach, and how sure that is.

Shapes: n designs observed, m asked about, c columns that describe a design, g groups of columns.
Every group (a variable, or a cost) has a length scale of its own, so that what does not matter is
found out.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

_WIDE = 8  # a positive range whose ends differ by this factor counts as logarithmic
_ABSENT = 0.5  # where a variable is that a design does not have

# Log-normal priors (mean and deviation of the logarithm). They only keep a fit on a dozen designs
# from extremes.
_RELEVANCE = (-0.5, 1.5)  # 1 / length scale squared, of columns in 0..1
_NOISE = (-4.0, 1.5)  # variance of a score's noise, as a share of the variance of scores
_STEPS = 10  # of the optimizer; more change candidates little


class Encoder:
    """Designs as rows of numbers in 0..1, also designs that lack some of the variables.

    Numbers keep their order: wide positive ranges on a logarithmic scale, lists of numbers by
    position. Choices without order get a column each.
    """

    def __init__(self, search_space: Mapping[str, BaseDistribution]) -> None:
        self._variables = [(name, _codes(search_space[name])) for name in sorted(search_space)]
        widths = [len(absent) for _, (absent, _) in self._variables]
        self.groups = np.repeat(np.arange(len(widths)), widths)  # [c]

    def encode(self, designs: Iterable[Mapping[str, Any]]) -> Floats:
        """[n, c], one row per design."""
        rows = [
            [
                number
                for name, (absent, code) in self._variables
                for number in (code(design[name]) if name in design else absent)
            ]
            for design in designs
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.groups))


_Code = tuple[float, ...]


def _codes(distribution: BaseDistribution) -> tuple[_Code, Callable[[Any], _Code]]:
    """The codes of an absent value, and of each value."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        numbers = [c for c in choices if isinstance(c, int | float)]
        if len(numbers) < len(choices) > 2:
            side = 1 / math.sqrt(2)  # any two choices are 1 apart
            one_hot = {c: tuple(side * (c == d) for d in choices) for c in choices}
            return (0.0,) * len(choices), one_hot.__getitem__
        order = sorted(numbers) if len(numbers) == len(choices) else choices
        last = max(len(choices) - 1, 1)
        positions = {choice: (i / last,) for i, choice in enumerate(order)}
        return (_ABSENT,), positions.__getitem__
    low, high = float(distribution.low), float(distribution.high)  # type: ignore[attr-defined]
    if low == high:
        return (_ABSENT,), lambda value: (_ABSENT,)
    if low > 0 and high >= _WIDE * low:
        return (_ABSENT,), lambda value: (math.log(value / low) / math.log(high / low),)
    return (_ABSENT,), lambda value: ((value - low) / (high - low),)


@dataclass(frozen=True, slots=True)
class Kernel:
    """How alike the scores of two designs are, by how far they are apart: Matern 5/2."""

    relevance: Floats  # [c] 1 / length scale squared of each column
    noise: float  # variance of a score's noise, as a share of the variance of scores

    @classmethod
    def fit(
        cls,
        columns: Floats,
        scores: Floats,
        groups: NDArray[np.intp],
        doubts: Floats | None = None,
    ) -> "Kernel":
        """The kernel of the largest posterior density for these scores (mean about 0).

        Rasmussen and Williams 2006, sections 4.2 and 5.4.1; the scale of scores takes its best
        value.

        Args:
            columns: [n, c] the observed designs.
            scores: [n]
            groups: [c] number of the group of each column, from 0.
            doubts: [n] as in `GaussianProcess`.
        """
        members = np.eye(int(groups.max()) + 1)[groups]  # [c, g]
        apart = np.square(columns[:, None, :] - columns[None, :, :]) @ members  # [n, n, g]
        start = np.r_[np.full(members.shape[1], _RELEVANCE[0]), _NOISE[0]]
        found = minimize(
            _negative_log_density,
            start,
            args=(apart, scores, np.zeros(len(scores)) if doubts is None else doubts),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-6.0, 5.0)] * members.shape[1] + [(-9.0, 1.0)],
            options={"maxiter": _STEPS},
        ).x
        return cls(np.exp(found[:-1])[groups], math.exp(found[-1]))

    def between(self, a: Floats, b: Floats) -> Floats:
        """[n, m] correlations of the rows of a with those of b."""
        a, b = a * np.sqrt(self.relevance), b * np.sqrt(self.relevance)
        squared = np.sum(a * a, 1)[:, None] + np.sum(b * b, 1)[None, :] - 2 * a @ b.T
        return _matern(np.sqrt(5 * np.maximum(squared, 0.0)))


class GaussianProcess:
    """What the scores of some designs say about others.

    Args:
        kernel: fitted to these or most of these scores.
        columns: [n, c]
        scores: [n], with a mean of about 0.
        doubts: [n] variance of each score beyond the kernel's noise, in the same unit; none if
            left out.
    """

    def __init__(
        self, kernel: Kernel, columns: Floats, scores: Floats, doubts: Floats | None = None
    ) -> None:
        self._kernel = kernel
        self._columns = columns
        covariance = kernel.between(columns, columns)
        covariance[np.diag_indices(len(scores))] += kernel.noise
        if doubts is not None:
            covariance[np.diag_indices(len(scores))] += doubts
        self._factor = cholesky(covariance, lower=True)
        self._scores = scores
        self._weights = cho_solve((self._factor, True), scores)
        self._scale = max(float(scores @ self._weights) / len(scores), 1e-12)

    def predict(self, columns: Floats) -> tuple[Floats, Floats]:
        """[m] mean and [m] standard deviation of the true score, without the noise of measuring."""
        cross = self._kernel.between(self._columns, columns)
        explained = np.square(solve_triangular(self._factor, cross, lower=True)).sum(0)
        return cross.T @ self._weights, np.sqrt(self._scale * np.maximum(1 - explained, 1e-9))

    def leave_one_out(self) -> Floats:
        """[n] what is expected of each design by the others (Rasmussen and Williams, eq. 5.12)."""
        inverse = cho_solve((self._factor, True), np.eye(len(self._scores)))
        expected: Floats = self._scores - self._weights / np.diag(inverse)
        return expected


def _matern(distance: Floats) -> Floats:
    return (1 + distance + distance * distance / 3) * np.exp(-distance)


def _negative_log_density(
    logs: Floats, apart: Floats, scores: Floats, doubts: Floats
) -> tuple[float, Floats]:
    """And its gradient; `logs` are the logarithms of the relevances and of the noise."""
    relevance, noise, n = np.exp(logs[:-1]), math.exp(logs[-1]), len(scores)
    distance = np.sqrt(5 * (apart @ relevance))
    decay = np.exp(-distance)
    covariance = (1 + distance + distance * distance / 3) * decay
    covariance[np.diag_indices(n)] += noise + doubts
    factor = cholesky(covariance, lower=True)
    inverse = cho_solve((factor, True), np.eye(n))
    weights = inverse @ scores
    scale = max(float(scores @ weights) / n, 1e-12)
    slope = inverse - np.outer(weights, weights) / scale  # twice that of the density by covariance
    by_distance = (-5 / 6) * (1 + distance) * decay * slope
    gradient = np.r_[
        0.5 * relevance * np.tensordot(by_distance, apart, 2), 0.5 * noise * np.trace(slope)
    ]
    mean = np.r_[np.full(len(relevance), _RELEVANCE[0]), _NOISE[0]]
    deviation = np.r_[np.full(len(relevance), _RELEVANCE[1]), _NOISE[1]]
    off = (logs - mean) / deviation
    value = (
        0.5 * n * math.log(scale) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(off @ off)
    )
    return value, gradient + off / deviation
