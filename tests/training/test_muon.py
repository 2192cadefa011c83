"""Muon: convolutions move by orthogonal matrices, all else as with Nesterov's momentum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.training.muon import Muon, orthogonal


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.floats(1e-3, 1e3))
def test_all_singular_values_come_near_one(n: int, rows: int, columns: int, scale: float) -> None:
    matrices = scale * torch.randn(n, rows, columns, generator=torch.Generator().manual_seed(0))
    least = torch.linalg.svdvals(matrices / matrices.flatten(1).norm(dim=1)[:, None, None]).min()
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.max() < 1.3
    if least > 0.02:  # smaller ones need more steps
        assert values.min() > 0.5


def test_scale_does_not_matter_and_batching_changes_nothing() -> None:
    matrices = torch.randn(4, 6, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(matrices), orthogonal(1000 * matrices))
    single = torch.cat([orthogonal(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonal(matrices), single)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_convolution_moves_as_torchs_muon_moves_its_matrix(decay: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, bias=False)
    matrix = nn.Parameter(conv.weight.detach().flatten(1).clone())
    theirs = torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=decay)
    ours = Muon([{"params": [conv.weight], "weight_decay": decay}], lr=0.1, momentum=0.9)
    for _ in range(3):
        gradient = torch.randn(8, 27)
        matrix.grad, conv.weight.grad = gradient, gradient.view(8, 3, 3, 3).clone()
        theirs.step()  # type: ignore[no-untyped-call]
        ours.step()
    assert (conv.weight.flatten(1) - matrix).abs().max() < 0.02  # theirs computes in bfloat16


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_all_else_moves_as_with_nesterovs_momentum(decay: float) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [*ours.parameters()], "weight_decay": decay}]
    optimizers = (
        Muon(groups, lr=0.1, momentum=0.9),
        torch.optim.SGD(
            theirs.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay
        ),
    )
    for _ in range(3):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close([*ours.parameters()], [*theirs.parameters()])


def test_a_rate_on_the_device_is_followed() -> None:
    torch.manual_seed(0)
    conv, other = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)
    other.load_state_dict(conv.state_dict())
    for model, lr in ((conv, 0.1), (other, torch.tensor(0.1))):
        model.weight.grad = torch.ones_like(model.weight) + torch.arange(3.0)
        Muon([{"params": [model.weight], "weight_decay": 0.1}], lr, 0.9).step()
    torch.testing.assert_close(conv.weight, other.weight)
