"""Training batches: every augmentation against what it says it does, and where chance comes from.

Shapes: N images, H x W pixels, C channels, K classes.
"""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as torchvision

from nas.data.types import ImageDataset
from nas.training.batches import Batch, TrainBatches, bordered
from nas.training.config import Augment, Border
from tests.kits.training import channels_first, make_config, make_dataset, normalized, pixels_of

SIZES = [(8, 8), (5, 9), (12, 6)]
EVERYTHING = (
    Augment.CROP,
    Augment.ALTERNATING_FLIP,
    Augment.TRIVIAL,
    Augment.CUTOUT,
    Augment.MIXUP,
)
MIXES = [Augment.MIXUP, Augment.CUTMIX]


def make_batches(
    dataset: ImageDataset, *augment: Augment, seed: int = 0, **changes: object
) -> TrainBatches:
    return TrainBatches(dataset, make_config(augment=augment, **changes), seed=seed)


def make_named_images(count: int = 64, **changes: Any) -> ImageDataset:
    """Every image is its own class, so that a batch's targets tell which images are in it."""
    return make_dataset(train_images=count, classes=count, **changes)


def labels_of(batches: Iterable[Batch]) -> list[int]:
    return [int(label) for batch in batches for label in batch.targets]


def key(pixels_CHW: Tensor) -> bytes:
    return pixels_CHW.numpy().tobytes()  # in the order of its dimensions, whatever its memory


def same(first: Iterable[Batch], second: Iterable[Batch]) -> bool:
    return all(
        torch.equal(a.images_NCHW, b.images_NCHW) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("border", Border)
@pytest.mark.parametrize("flip", [None, Augment.FLIP, Augment.ALTERNATING_FLIP])
def test_crops_and_mirror_images_are_torchvisions(
    flip: Augment | None, border: Border, height: int, width: int, channels: int
) -> None:
    padding = 2
    dataset = make_dataset(channels=channels, height=height, width=width)
    mode = "reflect" if border is Border.REFLECT else "constant"
    padded = torchvision.pad(channels_first(dataset.train.pixels_NHWC), padding, padding_mode=mode)
    sources: dict[bytes, tuple[int, int, int, bool]] = {}
    for top, left, mirrored in product(range(5), range(5), (False, True)):
        turned = torchvision.hflip(padded) if mirrored else padded
        for index, crop in enumerate(torchvision.crop(turned, top, left, height, width)):
            sources[key(crop)] = (index, top, left, mirrored)
    assert len(sources) == 64 * 50  # no two look the same
    augment = (Augment.CROP, flip) if flip else (Augment.CROP,)
    batches = make_batches(dataset, *augment, crop_padding=padding, border=border)
    found = []
    for batch in batches.epoch(1):
        pixels = pixels_of(batch.images_NCHW, dataset)
        for image, label in zip(pixels, batch.targets, strict=True):
            source = sources[key(image)]
            assert dataset.train.labels_N[source[0]] == label
            found.append(source)
    assert sorted(index for index, *_ in found) == list(range(64))
    assert {top for _, top, _, _ in found} == set(range(5))
    assert {left for _, _, left, _ in found} == set(range(5))
    assert {mirrored for *_, mirrored in found} == ({False, True} if flip else {False})


def test_every_offset_is_as_likely_in_each_direction_alone() -> None:
    dataset = make_dataset(train_images=512, channels=1, height=12, width=6)
    padded = torchvision.pad(channels_first(dataset.train.pixels_NHWC), 2, padding_mode="reflect")
    sources = {
        key(crop): (top, left)
        for top, left in product(range(5), range(5))
        for crop in torchvision.crop(padded, top, left, 12, 6)
    }
    batches = make_batches(dataset, Augment.CROP, crop_padding=2)
    counts = Counter(
        sources[key(image)]
        for epoch in range(1, 11)
        for batch in batches.epoch(epoch)
        for image in pixels_of(batch.images_NCHW, dataset)
    )
    assert len(counts) == 25
    assert all(abs(count - 5120 / 25) < 5 * (5120 / 25) ** 0.5 for count in counts.values())


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(1, 20),  # also wider than the image: to and fro
    border=st.sampled_from(Border),
)
def test_a_border_is_numpys(height: int, width: int, padding: int, border: Border) -> None:
    shape = (2, height, width, 1)
    pixels = torch.arange(2 * height * width, dtype=torch.uint8).view(shape)
    around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    expected = (
        np.pad(pixels.numpy(), around, mode="reflect")
        if border is Border.REFLECT
        else np.pad(pixels.numpy(), around)
    )
    np.testing.assert_array_equal(bordered(pixels, padding, border).numpy(), expected)


def mirrored_images(batches: Iterable[Batch], dataset: ImageDataset) -> set[int]:
    """Which images, each its own class, an epoch shows mirrored; none may be anything else."""
    mirrored = set()
    for batch in batches:
        pixels = pixels_of(batch.images_NCHW, dataset)
        for image, label in zip(pixels, batch.targets.tolist(), strict=True):
            original = channels_first(dataset.train.pixels_NHWC)[label]
            if torch.equal(image, torchvision.hflip(original)):
                mirrored.add(label)
            else:
                assert torch.equal(image, original)
    return mirrored


def test_alternating_flip_shows_every_image_both_ways_in_turn() -> None:
    dataset = make_named_images(256)
    batches = make_batches(dataset, Augment.ALTERNATING_FLIP)
    first, second, third, fourth = (
        mirrored_images(batches.epoch(epoch), dataset) for epoch in range(1, 5)
    )
    assert first == third
    assert second == fourth == set(range(256)) - first
    assert 96 < len(first) < 160  # half of them, 4 standard deviations around
    again = make_batches(dataset, Augment.ALTERNATING_FLIP)
    assert mirrored_images(again.epoch(1), dataset) == first
    other = make_batches(dataset, Augment.ALTERNATING_FLIP, seed=1)
    assert mirrored_images(other.epoch(1), dataset) != first


def test_flip_is_a_coin_thrown_anew_in_every_epoch() -> None:
    dataset = make_named_images(256)
    batches = make_batches(dataset, Augment.FLIP)
    first, second = (mirrored_images(batches.epoch(epoch), dataset) for epoch in (1, 2))
    for mirrored in (first, second, first ^ second):
        assert 96 < len(mirrored) < 160


@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_leaves_a_square_of_the_mean_color_around_any_pixel(
    channels: int, size: int
) -> None:
    height, width = 12, 9
    dataset = make_named_images(256, channels=channels, height=height, width=width)
    originals = normalized(dataset.train.pixels_NHWC, dataset)
    assert originals.abs().min() > 0  # no pixel has the mean color by itself
    batches = make_batches(dataset, Augment.CUTOUT, cutout_size=size)
    centers = []
    epochs = 20
    for epoch in range(1, epochs + 1):
        for batch in batches.epoch(epoch):
            cut_NHW = (batch.images_NCHW == 0).all(dim=1)
            expected = originals[batch.targets] * ~cut_NHW[:, None]
            torch.testing.assert_close(batch.images_NCHW, expected, rtol=1e-5, atol=1e-5)
            for cut_HW in cut_NHW:
                rows_H, columns_W = cut_HW.any(dim=1), cut_HW.any(dim=0)
                assert torch.equal(cut_HW, rows_H[:, None] & columns_W)
                centers.append([center_of(line.tolist(), size) for line in (rows_H, columns_W)])
    for length, along in zip((height, width), zip(*centers, strict=True), strict=True):
        mean = epochs * 256 / length
        assert sorted(set(along)) == list(range(length))
        assert all(abs(count - mean) < 5 * mean**0.5 for count in Counter(along).values())


def center_of(covered: list[bool], size: int) -> int:
    """The center of a line of `size` pixels, of which those inside the image are covered."""
    first, length = covered.index(True), sum(covered)
    assert covered[first : first + length] == [True] * length
    if length < size:
        at_start, at_end = first == 0, first + length == len(covered)
        assert at_start != at_end  # cut off by one border
        if at_start:
            first = length - size
    return first + size // 2


@given(
    augment=st.sampled_from(MIXES),
    alpha=st.floats(1e-3, 1e3),
    count=st.integers(1, 24),
    classes=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@example(augment=Augment.MIXUP, alpha=1e-300, count=8, classes=3, seed=0)
@example(augment=Augment.CUTMIX, alpha=1e300, count=8, classes=3, seed=0)
def test_targets_of_mixed_images_are_shares_that_sum_to_one(
    augment: Augment, alpha: float, count: int, classes: int, seed: int
) -> None:
    dataset = make_dataset(train_images=count, classes=classes)
    batches = make_batches(dataset, augment, mix_alpha=alpha, seed=seed)
    for batch in batches.epoch(1):
        assert batch.targets.shape == (min(count, 16), classes)
        assert batch.targets.dtype == torch.float32
        assert (batch.targets >= 0).all()
        torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(min(count, 16)))
        assert ((batch.targets > 0).sum(dim=1) <= 2).all()


@given(alpha=st.floats(1e-3, 1e3), count=st.integers(1, 24), seed=st.integers(0, 99))
def test_mixup_blends_images_as_its_targets_say(alpha: float, count: int, seed: int) -> None:
    dataset = make_named_images(count)
    originals = normalized(dataset.train.pixels_NHWC, dataset)
    for batch in make_batches(dataset, Augment.MIXUP, mix_alpha=alpha, seed=seed).epoch(1):
        blended = torch.einsum("nk,kchw->nchw", batch.targets, originals)
        torch.testing.assert_close(batch.images_NCHW, blended, rtol=1e-4, atol=1e-4)


@given(alpha=st.floats(1e-3, 1e3), count=st.integers(2, 24), seed=st.integers(0, 99))
def test_cutmix_targets_are_the_areas_of_a_box_and_of_what_is_around_it(
    alpha: float, count: int, seed: int
) -> None:
    height, width = 7, 10
    colors = torch.arange(count, dtype=torch.uint8).mul(10).view(count, 1, 1, 1)
    dataset = make_named_images(
        count,
        channels=1,
        height=height,
        width=width,
        pixels_NHWC=colors.expand(count, height, width, 1),
    )
    for batch in make_batches(dataset, Augment.CUTMIX, mix_alpha=alpha, seed=seed).epoch(1):
        source_NHW = pixels_of(batch.images_NCHW, dataset)[:, 0] // 10  # which image a pixel is of
        for target_K, source_HW in zip(batch.targets, source_NHW, strict=True):
            area_K = torch.bincount(source_HW.flatten(), minlength=count)
            torch.testing.assert_close(target_K, area_K / (height * width))
        other_NHW = source_NHW != source_NHW[:, :1, :1]  # the box, or all but the box
        other_HW = other_NHW.any(dim=0)
        assert is_box(other_HW) or is_box(~other_HW)
        for (
            mask_HW
        ) in other_NHW:  # one box for the batch; none is seen in an image mixed with itself
            assert torch.equal(mask_HW, other_HW) or not mask_HW.any()


def is_box(mask_HW: Tensor) -> bool:
    inside = mask_HW.nonzero()
    if not len(inside):
        return True
    (top, left), (bottom, right) = inside.amin(dim=0).tolist(), inside.amax(dim=0).tolist()
    return bool(mask_HW[top : bottom + 1, left : right + 1].all())


@pytest.mark.parametrize("alpha", [0.05, 1.0, 20.0])
def test_the_share_of_mixup_follows_the_beta_distribution(alpha: float) -> None:
    batches = make_batches(make_named_images(16, height=2, width=2), Augment.MIXUP, mix_alpha=alpha)
    larger = [  # of an image that is not mixed with itself
        float(batch.targets.amax(dim=1).min())
        for epoch in range(1, 1001)
        for batch in batches.epoch(epoch)
    ]
    drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    assert np.mean(larger) == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.02)


@pytest.mark.parametrize(
    "augment", [(), (Augment.FLIP,), EVERYTHING, (Augment.CROP, Augment.CUTMIX)]
)
def test_an_epochs_batches_depend_on_the_seed_and_its_number_alone(
    augment: tuple[Augment, ...],
) -> None:
    dataset = make_dataset()
    one, other = (make_batches(dataset, *augment) for _ in range(2))
    in_turn = [list(one.epoch(epoch)) for epoch in (1, 2, 3)]
    torch.manual_seed(123)
    np.random.seed(123)
    next(other.epoch(7))  # an epoch that was given up
    assert same(other.epoch(3), in_turn[2])
    assert same(other.epoch(1), in_turn[0])
    assert not same(in_turn[0], in_turn[1])
    assert not same(in_turn[1], in_turn[2])
    assert not same(make_batches(dataset, *augment, seed=1).epoch(1), in_turn[0])


@pytest.mark.parametrize("augment", [(), EVERYTHING, (Augment.FLIP, Augment.CUTMIX)])
def test_the_global_generators_are_left_alone(augment: tuple[Augment, ...]) -> None:
    def states() -> tuple[object, ...]:
        numpy_state = np.random.get_state(legacy=False)
        return torch.get_rng_state().tolist(), str(numpy_state), random.getstate()

    before = states()
    batches = make_batches(make_dataset(), *augment)
    assert len(list(batches.epoch(1))) == 4
    assert states() == before


@given(count=st.integers(1, 70), batch_size=st.integers(1, 80), epoch=st.integers(1, 1000))
def test_an_epoch_shows_every_image_at_most_once(count: int, batch_size: int, epoch: int) -> None:
    dataset = make_named_images(count, height=2, width=2)
    batches = make_batches(dataset, batch_size=batch_size)
    shown = list(batches.epoch(epoch))
    labels = labels_of(shown)
    assert len(set(labels)) == len(labels)
    assert {len(batch.targets) for batch in shown} == {min(batch_size, count)}
    assert count - len(labels) < batches.batch_size  # what is left fills no batch
    assert len(shown) == batches.per_epoch


def test_the_images_left_out_differ_from_epoch_to_epoch() -> None:
    batches = make_batches(make_named_images(24))
    assert len({frozenset(labels_of(batches.epoch(epoch))) for epoch in range(1, 6)}) == 5


@pytest.mark.parametrize("augment", [(), EVERYTHING, (Augment.CUTMIX,)])
def test_images_are_floats_in_channels_last_memory(augment: tuple[Augment, ...]) -> None:
    dataset = make_dataset(height=5, width=9)
    for batch in make_batches(dataset, *augment).epoch(1):
        assert batch.images_NCHW.shape == (16, 3, 5, 9)
        assert batch.images_NCHW.dtype == torch.float32
        assert batch.images_NCHW.is_contiguous(memory_format=torch.channels_last)


def test_images_are_normalized_as_the_dataset_says() -> None:
    dataset = make_named_images()
    for batch in make_batches(dataset).epoch(1):
        expected = normalized(dataset.train.pixels_NHWC[batch.targets], dataset)
        torch.testing.assert_close(batch.images_NCHW, expected, rtol=1e-5, atol=1e-5)


POLICIES = (
    (),
    ("crop", "flip"),
    ("crop", "alternating-flip", "trivialaugment", "cutout"),
    ("crop", "mixup"),
    ("flip", "cutmix"),
)


@pytest.mark.parametrize("augment", POLICIES, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("steps", [2, 3, 99])
def test_batches_are_the_same_however_many_are_prepared_at_once(
    augment: tuple[str, ...], steps: int
) -> None:
    dataset = make_dataset(train_images=130)  # 8 batches of 16, and 2 images that fill none
    config = make_config(augment=augment, crop_padding=2, cutout_size=3)
    values = steps * config.batch_size * 3 * 8 * 8
    for epoch in (1, 2):
        one = list(TrainBatches(dataset, config, seed=5).epoch(epoch))
        together = list(TrainBatches(dataset, config, seed=5, values_at_once=values).epoch(epoch))
        assert len(one) == len(together) == 8
        for a, b in zip(one, together, strict=True):
            assert torch.equal(a.images_NCHW, b.images_NCHW)
            assert torch.equal(a.targets, b.targets)
            assert b.images_NCHW.is_contiguous(memory_format=torch.channels_last)
