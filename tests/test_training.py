"""The training loop: what it learns, what its batches are, how it ends."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture, ImageInput
from nas.data.types import ImageDataset, Images
from nas.model import ResNet, build
from nas.training.batches import TrainBatches
from nas.training.config import Augment, Schedule, TrainingConfig, fast
from nas.training.loop import Ending, EpochResult, evaluate, task_of, train
from nas.training.schedules import rate

CPU = torch.device("cpu")
TINY = Architecture(blocks=(1, 1), channels=(8, 8), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4)


def make_dataset(
    *, train_images: int = 64, channels: int = 3, height: int = 8, width: int = 8, classes: int = 4
) -> ImageDataset:
    """Random images whose class cannot be seen, only memorized; every pixel value is distinct."""
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> Images:
        shape = (count, channels, height, width)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return Images(pixels, torch.arange(count) % classes)

    training = images(train_images)
    scaled = training.pixels_NCHW.float() / 255
    return ImageDataset(
        name="random",
        input=ImageInput(channels=channels, height=height, width=width, classes=classes),
        classes=tuple(f"class {i}" for i in range(classes)),
        train=training,
        validation=images(24),
        test_images=0,
        mean=tuple(scaled.mean(dim=(0, 2, 3)).tolist()),
        std=tuple(scaled.std(dim=(0, 2, 3)).tolist()),
        horizontal_flip=True,
        digest="0" * 16,
        subset=1.0,
        split_seed=0,
    )


def make_config(**changes: object) -> TrainingConfig:
    plain: dict[str, object] = {
        "epochs": 2,
        "batch_size": 16,
        "lr": 0.1,
        "label_smoothing": 0.0,
    }
    return TrainingConfig(**{**plain, **changes})  # type: ignore[arg-type]  # checked by itself


def make_model(dataset: ImageDataset, seed: int = 0) -> ResNet:
    return build(TINY, dataset.input, generator=torch.Generator().manual_seed(seed))


def test_learns_a_small_batch_by_heart() -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    result = train(model, dataset, make_config(epochs=60), seed=0, device=CPU)
    assert evaluate(model, dataset.train, dataset).accuracy == 1.0
    assert result.epochs[-1].train_loss < 0.1 < result.epochs[0].train_loss


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    dataset = make_dataset()
    weights: list[torch.Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))  # the global generator has no say
        model = make_model(dataset)
        config = make_config(augment=(Augment.CROP, Augment.FLIP), crop_padding=1)
        train(model, dataset, config, seed=seed, device=CPU)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_epoch_is_told_and_true_stops_the_run() -> None:
    dataset = make_dataset()
    told: list[EpochResult] = []

    def on_epoch(result: EpochResult) -> bool:
        told.append(result)
        return result.epoch == 2

    result = train(
        make_model(dataset), dataset, make_config(epochs=5), seed=0, device=CPU, on_epoch=on_epoch
    )
    assert result.ending is Ending.STOPPED
    assert [epoch.epoch for epoch in told] == [1, 2]
    assert result.epochs == tuple(told)
    assert result.val_accuracy == told[-1].val_accuracy


def test_a_stop_after_the_last_epoch_is_a_finished_run() -> None:
    dataset = make_dataset()
    result = train(
        make_model(dataset), dataset, make_config(), seed=0, device=CPU, on_epoch=lambda _: True
    )
    assert (result.ending, len(result.epochs)) == (Ending.STOPPED, 1)
    result = train(
        make_model(dataset),
        dataset,
        make_config(epochs=1),
        seed=0,
        device=CPU,
        on_epoch=lambda _: True,
    )
    assert result.ending is Ending.FINISHED


def test_a_loss_that_is_not_finite_ends_the_run_with_its_reason() -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    with torch.no_grad():
        model.head.weight[0, 0] = math.inf
    result = train(model, dataset, make_config(epochs=4), seed=0, device=CPU)
    assert result.ending is Ending.DIVERGED
    assert result.reason is not None
    assert "epoch 1" in result.reason
    assert result.val_accuracy is None


def test_evaluation_is_the_mean_over_all_images() -> None:
    dataset = make_dataset(train_images=100)  # no multiple of the evaluation batch
    model = make_model(dataset)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (dataset.mean, dataset.std))
    normalized = (dataset.train.pixels_NCHW / 255 - mean) / std
    model.eval()
    with torch.no_grad():
        logits = model(normalized)
    expected = torch.nn.functional.cross_entropy(logits, dataset.train.labels_N)
    measured = evaluate(model, dataset.train, dataset)
    assert measured.loss == pytest.approx(expected.item(), rel=1e-4)
    right = (logits.argmax(dim=1) == dataset.train.labels_N).sum().item()
    assert measured.accuracy == pytest.approx(right / 100)


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_holds_crops_of_reflected_images_and_their_mirror_images(
    size: tuple[int, int], flip: bool
) -> None:
    height, width = size
    padding = 2
    dataset = make_dataset(height=height, width=width)
    flips = (Augment.FLIP,) if flip else ()
    config = make_config(augment=(Augment.CROP, *flips), crop_padding=padding)
    batches = TrainBatches(dataset, config, seed=0)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (dataset.mean, dataset.std))
    padded = torch.nn.functional.pad(
        dataset.train.pixels_NCHW.float(), [padding] * 4, mode="reflect"
    )
    crops = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, :, top : top + height, left : left + width]
            for mirrored in (False, True):
                pixels = crop.flip(3) if mirrored else crop
                for index, image in enumerate(pixels):
                    crops[tuple(image.flatten().int().tolist())] = (index, top, left, mirrored)
    found = []
    for batch in batches.epoch(1):
        pixels = ((batch.images_NCHW * std + mean) * 255).round().int()
        for image, label in zip(pixels, batch.targets, strict=True):
            index, top, left, mirrored = crops[tuple(image.flatten().tolist())]
            assert dataset.train.labels_N[index] == label
            found.append((index, top, left, mirrored))
    assert sorted(index for index, *_ in found) == list(range(64))  # each image once
    assert {top for _, top, _, _ in found} == set(range(2 * padding + 1))
    assert {left for _, _, left, _ in found} == set(range(2 * padding + 1))
    assert {mirrored for *_, mirrored in found} == ({False, True} if flip else {False})


def test_images_that_fill_no_batch_are_left_out_of_an_epoch() -> None:
    dataset = make_dataset(train_images=40)
    batches = TrainBatches(dataset, make_config(batch_size=16), seed=0)
    assert [len(batch.targets) for batch in batches.epoch(1)] == [16, 16]
    few = TrainBatches(dataset, make_config(batch_size=512), seed=0)
    assert [len(batch.targets) for batch in few.epoch(1)] == [40]


def test_averaged_weights_are_the_mean_over_the_steps() -> None:
    dataset = make_dataset(train_images=16)  # one batch: one step per epoch
    plain, averaged = make_model(dataset), make_model(dataset)
    config = make_config(epochs=3)
    states: list[torch.Tensor] = [plain.head.weight.detach().clone()]

    def on_epoch(result: EpochResult) -> bool:
        states.append(plain.head.weight.detach().clone())
        return False

    train(plain, dataset, config, seed=0, device=CPU, on_epoch=on_epoch)
    with_average = dataclasses.replace(config, ema=0.15)
    train(averaged, dataset, with_average, seed=0, device=CPU)
    expected = states[0]
    for step, state in enumerate(states[1:], start=1):
        decay = min(0.15, step / (step + 9))
        expected = decay * expected + (1 - decay) * state
    assert torch.allclose(averaged.head.weight, expected, atol=1e-6)
    assert not torch.allclose(averaged.head.weight, plain.head.weight, atol=1e-6)


@given(
    steps=st.integers(1, 2000),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from([Schedule.TRIANGLE, Schedule.COSINE]),
)
def test_a_schedule_rises_to_its_peak_and_falls_to_almost_nothing(
    steps: int, warmup: float, schedule: Schedule
) -> None:
    config = make_config(warmup=warmup, schedule=schedule)
    rates = [rate(config, step, steps) for step in range(steps)]
    peak = rates.index(max(rates))
    assert all(0 < r <= 1 for r in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) >= 0.5
    assert rates[-1] <= 1 / (steps * (1 - warmup)) + 1e-9 or steps == 1


def test_weight_decay_leaves_norms_and_biases_alone() -> None:
    dataset = make_dataset(train_images=16)
    ends = []
    for weight_decay in (0.0, 0.5):
        model = make_model(dataset)
        config = make_config(epochs=1, weight_decay=weight_decay, momentum=0.0)
        train(model, dataset, config, seed=0, device=CPU)
        ends.append(dict(model.named_parameters()))
    for name, parameter in ends[0].items():  # one step: the gradient is the same in both
        same = torch.equal(parameter, ends[1][name])
        assert same == (parameter.ndim == 1), name


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"warmup": 1.0},
        {"label_smoothing": 1.0},
        {"crop_padding": 0},
        {"ema": 1.0},
    ],
)
def test_a_recipe_out_of_range_is_refused(change: dict[str, object]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} must be"):
        make_config(**change)


@pytest.mark.parametrize("side", [1, 2, 8, 32, 64])
def test_the_default_recipe_trains_any_image_size(side: int) -> None:
    dataset = make_dataset(height=side, width=side)
    design = Architecture(blocks=(1,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=1)
    config = dataclasses.replace(fast(task_of(dataset)), epochs=1)
    model = build(design, dataset.input, generator=torch.Generator().manual_seed(0))
    result = train(model, dataset, config, seed=0, device=CPU)
    assert result.ending is Ending.FINISHED
    assert Augment.FLIP in config.augment
