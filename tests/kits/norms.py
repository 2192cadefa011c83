"""How far fused norms are from torch's in double precision.

`TRITON_INTERPRET=1 python -m tests.kits.norms` shows it without a GPU, in Triton's interpreter.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

SHAPES = ((25, 4, 16, 16), (3, 5, 7, 7), (2, 130, 3, 3))  # N, C, H, W


@dataclass(frozen=True)
class Deviation:
    """Of one tensor that a fused norm gives."""

    of: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    relu: bool
    added: bool
    relative: float


def deviations(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
) -> Iterator[Deviation]:
    """Of values, gradients and running statistics, with and without ReLU and addition."""
    from nas.training.fused_norms import fused_norm  # needs Triton

    generator = torch.Generator().manual_seed(0)

    def maps() -> Tensor:
        x_NCHW = torch.randn(shape, generator=generator).to(device, dtype)
        return x_NCHW.to(memory_format=torch.channels_last)

    for relu, added in ((False, False), (True, False), (False, True), (True, True)):
        columns = shape[1]
        drawn = {"x": 0.5 * maps() + 3}  # whose mean is large for its deviation
        drawn |= {
            name: torch.randn(columns, generator=generator).to(device)
            for name in ("weight", "bias")
        }
        drawn |= {"added": maps()} if added else {}
        moved = [torch.randn(columns, generator=generator).to(device) for _ in range(2)]
        grad_NCHW = maps()

        ours = {name: value.clone().requires_grad_() for name, value in drawn.items()}
        ours_moved = [value.clone() for value in moved]
        y_NCHW = fused_norm(
            ours["x"],
            ours["weight"],
            ours["bias"],
            *ours_moved,
            added_NCHW=ours.get("added"),
            relu=relu,
            momentum=0.1,
            eps=1e-5,
        )
        torch.autograd.backward(y_NCHW, grad_NCHW)

        theirs = {name: value.double().requires_grad_() for name, value in drawn.items()}
        mean, variance = theirs_moved = [value.double() for value in moved]
        expected_NCHW = F.batch_norm(
            theirs["x"], mean, variance, theirs["weight"], theirs["bias"], True, 0.1, 1e-5
        )
        if added:
            expected_NCHW = expected_NCHW + theirs["added"]
        if relu:
            # A value that is 0 but for rounding has a gradient of all or nothing.
            expected_NCHW = expected_NCHW * (y_NCHW.detach() > 0)
        torch.autograd.backward(expected_NCHW, grad_NCHW.double())

        pairs = {
            "y": (y_NCHW.detach(), expected_NCHW.detach()),
            **{f"gradient of {name}": (ours[name].grad, theirs[name].grad) for name in drawn},
            **dict(
                zip(("mean", "variance"), zip(ours_moved, theirs_moved, strict=True), strict=True)
            ),
        }
        for name, (found, wanted) in pairs.items():
            assert found is not None
            assert wanted is not None
            relative = (found.double() - wanted).norm() / wanted.norm()
            yield Deviation(name, shape, dtype, relu, added, float(relative))


def check_what_is_no_number(device: torch.device) -> None:
    """Each NaN must come out, and a single value have no deviation, as in torch."""
    from nas.training.fused_norms import fused_norm

    def normed(x_NCHW: Tensor) -> Tensor:
        ones = torch.ones(x_NCHW.shape[1], device=device)
        moved = [ones.clone(), ones.clone()]
        return fused_norm(
            x_NCHW, ones, ones, *moved, added_NCHW=None, relu=True, momentum=0.1, eps=1e-5
        )

    x_NCHW = torch.ones(4, 16, 2, 2, device=device)
    x_NCHW[1, 3, 0, 0] = torch.nan
    y_NCHW = normed(x_NCHW)
    assert y_NCHW[:, 3].isnan().all()
    assert y_NCHW.isnan().sum() == 16
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normed(x_NCHW[:1, :, :1, :1])


if __name__ == "__main__":
    from nas.training import fused_norms

    cpu = torch.device("cpu")
    fused_norms._PARTS_AT_ONCE = 2  # so that parts, too, are added up in several steps
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for found in deviations(shape, dtype, cpu):
                allowed = 1e-5 if dtype == torch.float32 else 1e-2
                if not found.relative < allowed:
                    sys.exit(str(found))
    check_what_is_no_number(cpu)
    fused_norms.check_on(cpu)
    print("all near")
