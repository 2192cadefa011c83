"""Muon: momentum, then the nearest orthogonal matrix, for the weights of convolutions.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; on CIFAR-10 it is
what the fastest published recipes train with (github.com/KellerJordan/cifar10-airbench). A
convolution of shape [out, in, k, k] is a matrix [out, in k k]. All else (norms, biases, the
classifier) moves by Nesterov's momentum. torch.optim.Muon is not used: it takes matrices alone,
computes in bfloat16, which most processors do slowly, and cannot be captured in a CUDA graph.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_STEPS = 5  # of Newton and Schulz
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0; singular values end within 0.7 to 1.2


class Muon(torch.optim.Optimizer):
    """Moves each convolution by the orthogonal matrix nearest to its momentum, all else by that.

    Args:
        groups: of parameters, with their `weight_decay`; decoupled for convolutions.
        lr: of all; a tensor on the parameters' device where steps are captured in a graph.
        momentum: of Nesterov's kind, above 0.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float | Tensor, momentum: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there."""
        assert closure is None, "the loss is not asked for again"
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in parameters:
                by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, alike in by_shape.items():
                self._move(alike, len(shape) == 4, group)

    def _move(self, parameters: list[Tensor], convolutions: bool, group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]  # all have one
        decay, momentum = group["weight_decay"], group["momentum"]
        if decay and not convolutions:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
        moments = [self._moment(p) for p in parameters]
        torch._foreach_mul_(moments, momentum)
        torch._foreach_add_(moments, gradients)
        moves = list(torch._foreach_add(gradients, moments, alpha=momentum))
        lr = group["lr"]
        if convolutions:
            matrices = torch.stack([move.flatten(1) for move in moves])
            moves = [m.view_as(p) for m, p in zip(orthogonal(matrices), parameters, strict=True)]
            if decay:
                torch._foreach_mul_(parameters, 1 - lr * decay)
        torch._foreach_mul_(moves, -lr)
        torch._foreach_add_(parameters, moves)

    def _moment(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "moment" not in state:
            state["moment"] = torch.zeros_like(parameter)
        moment: Tensor = state["moment"]
        return moment


def orthogonal(matrices: Tensor) -> Tensor:
    """The orthogonal matrix near each of [n, rows, columns]: all singular values near 1.

    Five steps of a Newton-Schulz iteration, as in Jordan et al. 2024; in bfloat16 on a GPU, as
    published.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    for _ in range(_STEPS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    found: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return found
