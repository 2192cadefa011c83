"""TrivialAugment: the same pixels as torchvision, drawn evenly, for a whole batch at once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op

from nas.training import trivial
from nas.training.trivial import DRAWS, Operation, apply_operations, magnitudes, trivial_augment
from tests.kits.training import CPU

SIGNED = range(Operation.SHEAR_X, Operation.SHARPNESS + 1)
MOVES = range(Operation.SHEAR_X, Operation.ROTATE + 1)
SPACE = TrivialAugmentWide()._augmentation_space(31)
NAMES = list(SPACE)


def make_pixels(
    images: int, height: int, width: int, channels: int, *, generator: torch.Generator
) -> Tensor:
    """Noise of many ranges, down to one value alone."""
    shape = (images, height, width, channels)
    noise = torch.rand(shape, generator=generator)
    span = torch.randint(257, (images, 1, 1, channels), generator=generator)
    first = torch.rand((images, 1, 1, channels), generator=generator) * (256 - span)
    return (first + noise * span).clamp(0, 255).byte()


def signed_magnitudes(operation: Operation, height: int, width: int) -> Tensor:
    above = magnitudes(height, width, CPU)[operation]
    return torch.cat([above, -above]) if operation in SIGNED else above


def torchvision_operation(pixels_HWC: Tensor, operation: int, magnitude: float) -> Tensor:
    changed: Tensor = _apply_op(
        pixels_HWC.permute(2, 0, 1).contiguous(),
        NAMES[operation],
        magnitude,
        InterpolationMode.NEAREST,
        None,
    )
    return changed.permute(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (20, 33), (2, 5)])
@pytest.mark.parametrize("operation", Operation)
def test_every_operation_is_torchvisions(
    operation: Operation, height: int, width: int, channels: int
) -> None:
    strengths_N = signed_magnitudes(operation, height, width)
    images = len(strengths_N)
    pixels = make_pixels(images, height, width, channels, generator=torch.Generator())
    expected = torch.stack(
        [
            torchvision_operation(image, operation, strength)
            for image, strength in zip(pixels, strengths_N.tolist(), strict=True)
        ]
    )
    changed = apply_operations(pixels, torch.full((images,), operation), strengths_N)
    differing = (changed != expected).float().mean().item()
    # Where a source lies halfway between two pixels, float32 decides, differently by machine.
    assert differing <= (0.01 if operation in MOVES else 0)


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_but_identity_changes_something(operation: Operation) -> None:
    strengths_N = signed_magnitudes(operation, 32, 32)
    pixels = make_pixels(len(strengths_N), 32, 32, 3, generator=torch.Generator()) // 2
    changed = apply_operations(pixels, torch.full((len(pixels),), operation), strengths_N)
    assert torch.equal(changed, pixels) == (operation is Operation.IDENTITY)


def test_space_is_torchvisions_at_32_pixels() -> None:
    ours = magnitudes(32, 32, CPU)
    assert len(Operation) == len(SPACE) == len(ours)
    for operation, (theirs, signed) in zip(Operation, SPACE.values(), strict=True):
        assert NAMES[operation].lower() == operation.name.replace("_", "").lower()
        assert torch.equal(ours[operation], theirs.float().expand(31))
        assert (operation in SIGNED) == signed


def test_moves_reach_the_whole_width_or_height() -> None:
    space = magnitudes(20, 48, CPU)
    assert space[Operation.TRANSLATE_X].max() == 48
    assert space[Operation.TRANSLATE_Y].max() == 20
    assert torch.equal(space[Operation.ROTATE], magnitudes(32, 32, CPU)[Operation.ROTATE])


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**32))
def test_a_batch_is_its_images_one_at_a_time(
    height: int, width: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = make_pixels(28, height, width, channels, generator=generator)
    before = pixels.clone()
    operations_N = torch.arange(28) % len(Operation)
    bins_N = torch.randint(31, (28,), generator=generator)
    strengths_N = magnitudes(height, width, CPU)[operations_N, bins_N]
    changed = apply_operations(pixels, operations_N, strengths_N)
    one_by_one = [
        apply_operations(pixels[[i]], operations_N[[i]], strengths_N[[i]]) for i in range(28)
    ]
    assert changed.shape == pixels.shape
    assert changed.dtype is torch.uint8
    assert torch.equal(changed, torch.cat(one_by_one))
    assert torch.equal(changed[0], pixels[0])  # identity
    assert torch.equal(pixels, before)


@given(st.sampled_from([1, 2, 4]), st.floats(-1, 1))
def test_color_changes_only_three_channels(channels: int, magnitude: float) -> None:
    pixels = make_pixels(4, 6, 6, channels, generator=torch.Generator())
    strengths_N = torch.full((4,), magnitude)
    changed = apply_operations(pixels, torch.full((4,), Operation.COLOR), strengths_N)
    assert torch.equal(changed, pixels)


def drawn_for(images: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(high, (images,), generator=generator) for high in DRAWS]


def test_draws_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Tensor, Tensor]] = []

    def record(pixels: Tensor, operations_N: Tensor, strengths_N: Tensor) -> Tensor:
        drawn.append((operations_N, strengths_N))
        return pixels

    monkeypatch.setattr(trivial, "apply_operations", record)
    images = 200_000
    pixels = torch.zeros((1, 32, 32, 1), dtype=torch.uint8).expand(images, 32, 32, 1)
    trivial_augment(pixels, *drawn_for(images))
    operations_N, strengths_N = drawn[0]
    assert is_even(operations_N.bincount(minlength=len(Operation)))
    for operation in Operation:
        of_operation = strengths_N[operations_N == operation]
        values, counts = torch.unique(of_operation.abs(), return_counts=True)
        space, weights = torch.unique(magnitudes(32, 32, CPU)[operation], return_counts=True)
        assert torch.equal(values, space)
        if len(values) > 1:
            assert is_even(counts, weights)
        moved = of_operation[of_operation != 0]
        if operation in SIGNED:
            assert is_even(torch.stack([(moved < 0).sum(), (moved > 0).sum()]))
        else:
            assert (moved > 0).all()


def is_even(counts: Tensor, weights: Tensor | None = None) -> bool:
    """Chi-square within five standard deviations of what chance gives."""
    weights = torch.ones(len(counts)) if weights is None else weights
    expected = counts.sum() * weights / weights.sum()
    freedom = len(counts) - 1
    chi_square: float = ((counts - expected) ** 2 / expected).sum().item()
    return chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_the_draws_decide() -> None:
    pixels = make_pixels(64, 32, 32, 3, generator=torch.Generator())
    state = torch.get_rng_state()

    def augmented(seed: int) -> Tensor:
        return trivial_augment(pixels, *drawn_for(64, seed))

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_any_memory_order() -> None:
    pixels = make_pixels(28, 9, 7, 3, generator=torch.Generator())
    turned = pixels.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    draws = drawn_for(28)
    assert torch.equal(trivial_augment(turned, *draws), trivial_augment(pixels, *draws))


def test_the_host_reads_no_value() -> None:
    pixels = torch.empty((4, 8, 6, 3), dtype=torch.uint8, device="meta")  # has no values to read
    changed = trivial_augment(pixels, *(n.to("meta") for n in drawn_for(4)))
    assert (changed.shape, changed.dtype) == (pixels.shape, torch.uint8)
