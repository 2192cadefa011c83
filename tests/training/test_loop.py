"""The training loop: what it learns, how it ends, and that it goes on exactly where it stopped."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas.architecture import Architecture
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset, Images
from nas.model import build
from nas.training.averaging import AveragedWeights
from nas.training.batches import TrainBatches
from nas.training.checkpoint import load_checkpoint, save_checkpoint
from nas.training.config import Augment, Border, Schedule, TrainingConfig, fast
from nas.training.evaluation import evaluate, predict
from nas.training.loop import Ending, EpochResult, Run, TrainingResult, finish, task_of, train
from nas.training.optimizers import Optimizer
from nas.training.schedules import rate
from tests.kits.training import CPU, make_config, make_dataset, make_model, normalized

EVERYTHING = (
    Augment.CROP,
    Augment.ALTERNATING_FLIP,
    Augment.TRIVIAL,
    Augment.CUTOUT,
    Augment.MIXUP,
)
LEARNING_RATES = {
    Optimizer.SGD: 0.1,
    Optimizer.NESTEROV: 0.1,
    Optimizer.ADAM: 0.01,
    Optimizer.ADAMW: 0.01,
    Optimizer.ADADELTA: 3.0,
    Optimizer.MUON: 0.05,
    Optimizer.ADAGRAD: 0.05,
}

# What is heard of it


def test_batches_are_told_by_time_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    told: list[tuple[int, int]] = []

    def losses() -> list[float]:
        run = Run(make_model(dataset), dataset, make_config(epochs=2), seed=0, device=CPU)
        result = finish(run, on_batches=lambda *batches: told.append(batches))
        return [epoch.train_loss for epoch in result.epochs]

    monkeypatch.setattr("nas.training.loop.REPORT_INTERVAL", math.inf)
    seldom = losses()
    assert told == []
    monkeypatch.setattr("nas.training.loop.REPORT_INTERVAL", 0.0)
    assert losses() == seldom
    batches = TrainBatches(dataset, make_config(), seed=0).per_epoch
    assert told == [(done, batches) for done in range(1, batches + 1)] * 2


# What it learns


def test_learns_a_small_batch_by_heart() -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    result = train(model, dataset, make_config(epochs=60), seed=0, device=CPU)
    assert evaluate(model, dataset.train, dataset).accuracy == 1.0
    assert result.epochs[-1].train_loss < 0.1 < result.epochs[0].train_loss


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """256 real digits to learn, and 64 to judge by."""
    dataset = load_dataset("digits", tmp_path_factory.mktemp("data"))
    few, others = (
        Images(part.pixels_NHWC[:images], part.labels_N[:images])
        for part, images in ((dataset.train, 256), (dataset.validation, 64))
    )
    return dataclasses.replace(dataset, train=few, validation=others)


def learn(digits: ImageDataset, **changes: object) -> tuple[float, TrainingResult]:
    """Accuracy on the images learned from, shown as they are; and the run."""
    design = Architecture(
        blocks=(1, 1), channels=(16, 32), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4
    )
    model = build(design, digits.input, generator=torch.Generator().manual_seed(0))
    settings: dict[str, object] = {
        "epochs": 15,
        "batch_size": 32,
        "crop_padding": 1,
        "cutout_size": 3,
        **changes,
    }
    result = train(model, digits, make_config(**settings), seed=0, device=CPU)
    return evaluate(model, digits.train, digits).accuracy, result


@pytest.mark.parametrize("optimizer", Optimizer)
def test_every_optimizer_learns_256_digits(optimizer: Optimizer, digits: ImageDataset) -> None:
    accuracy, result = learn(
        digits, optimizer=optimizer, lr=LEARNING_RATES[optimizer], weight_decay=1e-4
    )
    assert accuracy == 1.0
    assert result.epochs[-1].train_loss < 0.1
    assert result.val_accuracy is not None
    assert result.val_accuracy > 0.8


@pytest.mark.parametrize(
    ("augment", "border", "at_least"),
    [
        (Augment.CROP, Border.REFLECT, 0.99),
        (Augment.CROP, Border.ZERO, 0.99),
        (Augment.FLIP, Border.REFLECT, 0.99),
        (Augment.ALTERNATING_FLIP, Border.REFLECT, 0.99),
        (Augment.CUTOUT, Border.REFLECT, 0.99),
        (Augment.TRIVIAL, Border.REFLECT, 0.97),
        (Augment.MIXUP, Border.REFLECT, 0.97),
        (Augment.CUTMIX, Border.REFLECT, 0.97),
    ],
)
def test_every_augmentation_lets_256_digits_be_learned(
    augment: Augment, border: Border, at_least: float, digits: ImageDataset
) -> None:
    accuracy, result = learn(digits, augment=(augment,), border=border)
    assert accuracy >= at_least
    assert result.val_accuracy is not None
    assert result.val_accuracy > 0.8
    by_heart = result.epochs[-1].train_loss < 0.2
    assert by_heart == (at_least == 0.99)  # images that change much in every epoch cannot be


# What a run is made of


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


def test_a_run_leaves_the_global_generator_alone() -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    before = torch.get_rng_state()
    train(model, dataset, make_config(augment=EVERYTHING, ema=0.9), seed=0, device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_schedule_is_sized_to_the_run() -> None:
    dataset = make_dataset()  # 4 steps per epoch
    config = make_config(epochs=3, lr=0.2)
    run = Run(make_model(dataset), dataset, config, seed=0, device=CPU)
    while not run.finished:
        run.train_epoch()
        last_step = 4 * len(run.history) - 1
        for group in run.state()["optimizer"]["param_groups"]:
            assert group["lr"] == pytest.approx(0.2 * rate(config, last_step, 12))
    assert last_step == 11


def test_one_step_is_plain_gradient_descent_on_the_smoothed_loss_of_the_batch() -> None:
    dataset = make_dataset(train_images=16)
    config = make_config(
        epochs=1,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        schedule=Schedule.CONSTANT,
        label_smoothing=0.2,
        augment=(Augment.MIXUP,),
    )
    ours, plain = make_model(dataset), make_model(dataset)
    result = train(ours, dataset, config, seed=0, device=CPU)
    (batch,) = TrainBatches(dataset, config, seed=0).epoch(1)
    smoothed = 0.8 * batch.targets + 0.2 / 4
    loss = -(smoothed * plain(batch.images_NCHW).log_softmax(dim=1)).sum(dim=1).mean()
    gradients = torch.autograd.grad(loss, list(plain.parameters()))
    for after, before, gradient in zip(
        ours.parameters(), plain.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(after, before - 0.1 * gradient, rtol=1e-4, atol=1e-5)
    assert result.epochs[0].train_loss == pytest.approx(loss.item(), rel=1e-4)


def test_weight_decay_leaves_norms_and_biases_alone() -> None:
    dataset = make_dataset(train_images=16)
    ends = []
    for weight_decay in (0.0, 0.5):
        model = make_model(dataset)
        config = make_config(epochs=1, optimizer="sgd", weight_decay=weight_decay)
        train(model, dataset, config, seed=0, device=CPU)
        ends.append(dict(model.named_parameters()))
    for name, parameter in ends[0].items():  # one step: the gradient is the same in both
        same = torch.equal(parameter, ends[1][name])
        assert same == (parameter.ndim == 1), name


@pytest.mark.parametrize("side", [1, 2, 8, 32, 64])
def test_the_default_recipe_trains_any_image_size(side: int) -> None:
    dataset = make_dataset(height=side, width=side)
    design = Architecture(blocks=(1,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=1)
    config = dataclasses.replace(fast(task_of(dataset, CPU)), epochs=1)
    model = build(design, dataset.input, generator=torch.Generator().manual_seed(0))
    result = train(model, dataset, config, seed=0, device=CPU)
    assert result.ending is Ending.FINISHED
    assert Augment.FLIP in config.augment


def test_evaluation_is_the_mean_over_all_images() -> None:
    dataset = make_dataset(train_images=100)  # no multiple of the evaluation batch
    model = make_model(dataset)
    model.eval()
    with torch.no_grad():
        logits = model(normalized(dataset.train.pixels_NHWC, dataset))
    expected = torch.nn.functional.cross_entropy(logits, dataset.train.labels_N)
    measured = evaluate(model, dataset.train, dataset)
    assert measured.loss == pytest.approx(expected.item(), rel=1e-4)
    right = (logits.argmax(dim=1) == dataset.train.labels_N).sum().item()
    assert measured.accuracy == pytest.approx(right / 100)


# How it ends


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


# Averaged weights


def test_averaged_weights_and_statistics_against_a_case_done_by_hand() -> None:
    linear, norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    model = nn.Sequential(linear, norm)
    nn.init.constant_(linear.weight, 0.0)
    averaged = AveragedWeights(model, decay=0.15)
    for weight, mean, variance in ((10.0, 1.0, 3.0), (20.0, -1.0, 5.0)):
        nn.init.constant_(linear.weight, weight)
        norm.running_mean.fill_(mean)
        norm.running_var.fill_(variance)
        averaged.update()
    # Step 1 keeps 1/10 of what there was, step 2 would keep 2/11, which is above 0.15.
    state = {name: tensor.item() for name, tensor in averaged.model.state_dict().items()}
    assert state == pytest.approx(
        {
            "0.weight": 0.15 * (0.1 * 0 + 0.9 * 10) + 0.85 * 20,
            "1.weight": 1.0,
            "1.bias": 0.0,
            "1.running_mean": 0.15 * (0.1 * 0 + 0.9 * 1) + 0.85 * -1,
            "1.running_var": 0.15 * (0.1 * 1 + 0.9 * 3) + 0.85 * 5,
            "1.num_batches_tracked": 0,
        }
    )
    assert linear.weight.item() == 20.0  # the model is as it was
    assert not any(parameter.requires_grad for parameter in averaged.model.parameters())


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


def test_averaged_weights_are_what_is_judged_and_what_a_run_ends_with() -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    result = train(model, dataset, make_config(ema=0.9), seed=0, device=CPU)
    again = evaluate(model, dataset.validation, dataset)
    assert result.epochs[-1].val_loss == pytest.approx(again.loss)
    assert result.epochs[-1].val_accuracy == again.accuracy


def test_averaged_weights_may_be_judged_only_before_the_last_epoch() -> None:
    dataset = make_dataset()
    runs = {}
    for ema, at_end in ((None, True), (0.9, True), (0.9, False)):
        model = make_model(dataset)
        config = make_config(ema=ema, ema_at_end=at_end)
        result = train(model, dataset, config, seed=0, device=CPU)
        losses = [epoch.val_loss for epoch in result.epochs]
        assert evaluate(model, dataset.validation, dataset).loss == pytest.approx(losses[-1])
        runs[ema, at_end] = losses
    assert runs[0.9, False] == [*runs[0.9, True][:-1], runs[None, True][-1]]
    stopped = make_model(dataset)
    config = make_config(ema=0.9, ema_at_end=False)
    train(stopped, dataset, config, seed=0, device=CPU, on_epoch=lambda result: True)
    loss = evaluate(stopped, dataset.validation, dataset).loss
    assert loss == pytest.approx(runs[0.9, True][0])


# Stopped and continued


def make_run(config: TrainingConfig, *, model_seed: int = 0) -> Run:
    dataset = make_dataset()
    return Run(make_model(dataset, model_seed), dataset, config, seed=3, device=CPU)


def assert_identical(found: Any, expected: Any, where: str = "state") -> None:
    """The same tensors and values, bit for bit, but for times."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in set(expected) - {"seconds", "images_per_second"}:
            assert_identical(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_identical(found[i], value, f"{where}.{i}")
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


CONTINUED: dict[str, dict[str, object]] = {
    **{
        name: {"optimizer": name, "lr": lr, "augment": EVERYTHING, "ema": 0.9}
        for name, lr in LEARNING_RATES.items()
    },
    "cutmix and flip": {"augment": (Augment.FLIP, Augment.CUTMIX)},
    "step": {"schedule": "step", "decay_all": True},
    "cosine": {"schedule": "cosine", "ema": 0.99},
}


@pytest.mark.parametrize("changes", CONTINUED.values(), ids=CONTINUED)
def test_a_run_that_is_continued_is_the_run_that_was_not_stopped(
    changes: dict[str, object], tmp_path: Path
) -> None:
    config = make_config(epochs=4, **changes)
    whole = make_run(config)
    while not whole.finished:
        whole.train_epoch()

    stopped = make_run(config)
    for _ in range(2):
        stopped.train_epoch()
    save_checkpoint(tmp_path / "last.pt", {"run": stopped.state()})
    stopped.train_epoch()  # what comes after the checkpoint is lost
    torch.manual_seed(5)
    continued = make_run(config, model_seed=1)  # its own weights are of no account
    continued.load_state(load_checkpoint(tmp_path / "last.pt")["run"])
    assert [result.epoch for result in continued.history] == [1, 2]
    while not continued.finished:
        continued.train_epoch()

    assert_identical(continued.state(), whole.state())
    assert len(whole.state()["optimizer"]["state"]) == len(list(whole.model.parameters()))


def test_a_state_that_was_read_is_the_state_that_was_written(tmp_path: Path) -> None:
    run = make_run(make_config(ema=0.9))
    run.train_epoch()
    save_checkpoint(tmp_path / "last.pt", {"run": run.state()})
    read = load_checkpoint(tmp_path / "last.pt")["run"]
    assert_identical(read, run.state())
    assert read["history"] == run.state()["history"]  # with its times


# Evaluation


@pytest.mark.parametrize("batch_size", [1, 7, 24, 100])
def test_batches_that_are_filled_up_change_no_prediction(batch_size: int) -> None:
    dataset = make_dataset()
    model = make_model(dataset)
    train(model, dataset, make_config(), seed=0, device=CPU)
    seen: set[torch.Size] = set()
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.add(inputs[0].shape))
    filled_NK = predict(model, dataset.validation, dataset, batch_size=batch_size)
    handle.remove()
    assert seen == {torch.Size((batch_size, 3, 8, 8))}
    assert torch.allclose(filled_NK, predict(model, dataset.validation, dataset), atol=1e-5)
    assert filled_NK.shape == (24, 4)
