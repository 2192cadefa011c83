import os
import subprocess
import sys
from collections.abc import Iterator
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.architecture import Architecture, ImageInput
from nas.model import BasicBlock, ResNet, build
from tests.kits.places import ROOT

IMAGES = ImageInput(channels=3, height=13, width=16, classes=7)
PLAIN = Architecture(
    blocks=(2, 2), channels=(8, 12), kernels=(3, 5), shortcut_kernels=(1, 3), pool=2
)
OPTIONS = Architecture(
    blocks=(1, 2, 1),
    channels=(8, 8, 12),
    kernels=(3, 3, 1),
    shortcut_kernels=(3, 1, 1),
    pool=1,
    strides=(2, 1, 2),
    stem_channels=6,
    stem_bias=True,
    shortcut_norm=False,
)
DESIGNS = pytest.mark.parametrize("architecture", [PLAIN, OPTIONS], ids=["plain", "options"])


@pytest.fixture
def empty_memory_is_nan() -> Iterator[None]:
    """Makes torch fill new memory with NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 4, *, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 13, 16, generator=seeded(seed))


def states(model: ResNet) -> dict[str, Tensor]:
    """Weights and buffers."""
    state: dict[str, Tensor] = model.state_dict()
    return state


# Shapes and gradients


@DESIGNS
@pytest.mark.parametrize("count", [1, 5])
def test_gives_one_logit_per_class_and_image(architecture: Architecture, count: int) -> None:
    logits = build(architecture, IMAGES)(images(count))
    assert logits.shape == (count, 7)
    assert logits.isfinite().all()


@DESIGNS
def test_gradient_reaches_every_parameter(architecture: Architecture) -> None:
    model = build(architecture, IMAGES, generator=seeded(1))
    loss = F.cross_entropy(model(images(16)), torch.arange(16) % 7)
    loss.backward()  # type: ignore[no-untyped-call]
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    if architecture.stem_bias:  # the norm that follows takes it away, up to rounding
        assert model.stem.conv.bias is not None
        silent = [name for name in silent if name != "stem.conv.bias"]
    assert silent == []


@DESIGNS
def test_memory_format_does_not_change_the_logits(architecture: Architecture) -> None:
    model = build(architecture, IMAGES, generator=seeded(2)).eval()
    with torch.no_grad():
        expected = model(images())
        model = model.to(memory_format=torch.channels_last)
        logits = model(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_pool_drops_the_rest_of_the_last_map() -> None:
    model = build(PLAIN, IMAGES, generator=seeded(3)).eval()  # last map 7x8, pooled 3x4
    assert model.head.in_features == 12 * 3 * 4
    maps: list[Tensor] = []
    model.stages.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        logits = model(images())
        pooled = maps[0][:, :, :6].reshape(4, 12, 3, 2, 4, 2).mean((3, 5))
        torch.testing.assert_close(logits, model.head(pooled.flatten(1)))


def test_blocks_come_in_the_order_of_the_forward_pass() -> None:
    model = build(OPTIONS, IMAGES)
    seen: list[nn.Module] = []
    for block in model.residual_blocks():
        assert isinstance(block, BasicBlock)
        block.register_forward_hook(lambda module, inputs, output: seen.append(module))
    model(images())
    assert seen == list(model.residual_blocks())
    assert len(seen) == sum(OPTIONS.blocks)


# Weights at the start


def test_convolutions_start_with_he_fan_out() -> None:
    wide = Architecture(
        blocks=(2, 2), channels=(48, 64), kernels=(3, 5), shortcut_kernels=(1, 3), pool=2
    )
    model = build(wide, IMAGES, generator=seeded(4))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * 4 + 1
    for conv in convolutions:
        n = conv.weight.numel()
        std = (2 / (conv.out_channels * prod(conv.kernel_size))) ** 0.5
        error = std / (2 * n) ** 0.5  # of the standard deviation of n normal numbers
        assert abs(conv.weight.std().item() - std) < 5 * error
        assert abs(conv.weight.mean().item()) < 5 * std / n**0.5


@DESIGNS
def test_everything_else_starts_plain(architecture: Architecture) -> None:
    model = build(architecture, IMAGES, generator=seeded(5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
            assert module.running_mean is not None
            assert module.running_var is not None
            assert module.num_batches_tracked is not None
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            assert (module.bias == 0).all()
    bound = model.head.in_features**-0.5
    for values in (model.head.weight, model.head.bias):
        assert 0 < values.abs().max() <= bound
    assert model.head.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@DESIGNS
def test_zero_last_gamma_starts_blocks_as_their_shortcut(architecture: Architecture) -> None:
    model = build(architecture, IMAGES, generator=seeded(6), zero_last_gamma=True)
    plain = build(architecture, IMAGES, generator=seeded(6))
    blocks = list(model.residual_blocks())
    assert any(isinstance(block.shortcut, nn.Identity) for block in blocks)
    for training in (True, False):
        for block, plain_block in zip(blocks, plain.residual_blocks(), strict=True):
            block.train(training)
            x = torch.randn(4, block.conv1.in_channels, 8, 8, generator=seeded(7))
            with torch.no_grad():
                assert torch.equal(block(x), F.relu(block.shortcut(x)))
                if isinstance(block.shortcut, nn.Identity):
                    assert torch.equal(block(x), F.relu(x))
                assert not torch.equal(plain_block(x), F.relu(plain_block.shortcut(x)))


@DESIGNS
def test_nothing_is_left_uninitialised(
    architecture: Architecture, empty_memory_is_nan: None
) -> None:
    assert torch.empty(3).isnan().all()
    model = build(architecture, IMAGES, generator=seeded(8))
    for name, value in states(model).items():
        assert value.device.type == "cpu", name
        assert value.isfinite().all(), name
        if not value.is_floating_point():
            assert (value == 0).all(), name  # num_batches_tracked
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters())


# Randomness


@DESIGNS
@pytest.mark.parametrize("zero_last_gamma", [False, True])
def test_one_seed_gives_one_network(architecture: Architecture, zero_last_gamma: bool) -> None:
    first, same, other = (
        states(build(architecture, IMAGES, generator=seeded(s), zero_last_gamma=zero_last_gamma))
        for s in (9, 9, 10)
    )
    assert first.keys() == same.keys() == other.keys()
    assert all(torch.equal(first[name], same[name]) for name in first)
    for name in first:
        drawn = name.endswith("conv.weight") or name.startswith("head") or ".conv" in name
        if drawn and name != "stem.conv.bias":
            assert not torch.equal(first[name], other[name]), name


def test_own_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    build(OPTIONS, IMAGES, generator=seeded(11), zero_last_gamma=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_one_is_used() -> None:
    before = torch.get_rng_state()
    try:
        torch.manual_seed(12)
        from_global = states(build(PLAIN, IMAGES))
    finally:
        torch.set_rng_state(before)
    from_own = states(build(PLAIN, IMAGES, generator=seeded(12)))
    assert all(torch.equal(from_global[name], from_own[name]) for name in from_own)


NARROW = """
import torch
from nas.architecture import Architecture, ImageInput
from nas.model import build

torch.set_num_threads(1)
for channels in range(1, 18):
    design = Architecture(
        blocks=(1, 1), channels=(channels, 5), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4
    )
    input = ImageInput(channels=1, height=8, width=8, classes=3)
    gradients = []
    for order in (torch.channels_last, torch.contiguous_format):
        model = build(design, input, generator=torch.Generator().manual_seed(0))
        model.to(memory_format=order)
        images = torch.randn((64, 1, 8, 8), generator=torch.Generator().manual_seed(1))
        model(images.contiguous(memory_format=order)).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    difference = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert difference < 1e-3, (channels, difference)
print("done")
"""


def test_narrow_networks_have_right_gradients_and_keep_to_their_memory() -> None:
    """Under glibc's checks of its heap, where they are there (2.34 and later)."""
    checks = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    done = subprocess.run(
        [sys.executable, "-c", NARROW],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **checks},
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
