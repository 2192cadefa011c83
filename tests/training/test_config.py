"""Recipes: published numbers, what they refuse; schedules and optimizers against torch's own."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler

from nas.architecture import ImageInput
from nas.runtime.precision import Precision
from nas.training.backend import Backend
from nas.training.batches import TrainBatches
from nas.training.config import RECIPES, Augment, Border, Schedule, Task, TrainingConfig
from nas.training.optimizers import Optimizer
from nas.training.schedules import rate
from nas.training.step import make_optimizer
from tests.kits.training import make_config, make_dataset


def make_task(
    *, channels: int = 3, side: int = 32, train_images: int = 45_000, flip: bool = True
) -> Task:
    shape = ImageInput(channels=channels, height=side, width=side, classes=10)
    return Task(shape, train_images, horizontal_flip=flip)


CIFAR = make_task()
DIGITS = make_task(channels=1, side=8, train_images=1_149, flip=False)
FASHION = make_task(channels=1, side=28, train_images=54_000)
TASKS = {"cifar10": CIFAR, "digits": DIGITS, "fashion-mnist": FASHION}

PYTORCH_CIFAR: dict[str, object] = {
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "decay_all": True,
    "schedule": "cosine",
    "warmup": 0.0,
    "label_smoothing": 0.0,
    "augment": ["crop", "flip"],
    "crop_padding": 4,
    "border": "zero",
    "ema": None,
    "ema_at_end": True,
    "zero_last_gamma": False,
}
PUBLISHED: dict[str, dict[str, object]] = {
    "he2016": {
        "epochs": 164,  # 64,000 steps
        "batch_size": 128,
        "lr": 0.1,
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay_all": True,
        "schedule": "step",
        "milestones": [0.5, 0.75],  # 32,000 and 48,000 steps
        "label_smoothing": 0.0,
        "augment": ["crop", "flip"],
        "crop_padding": 4,
        "border": "zero",
        "ema": None,
        "zero_last_gamma": False,
    },
    "pytorch-cifar": PYTORCH_CIFAR,
    "resnet20-report": {**PYTORCH_CIFAR, "weight_decay": 1e-4},
    "flexres": {
        **PYTORCH_CIFAR,
        "epochs": 400,
        "batch_size": 32,
        "optimizer": "adadelta",
        "augment": ["crop", "flip", "mixup"],
        "mix_alpha": 1.0,
    },
    "plain": {
        "epochs": 10,
        "batch_size": 16,
        "lr": 1e-3,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "augment": [],
        "ema": None,
        "zero_last_gamma": False,
    },
    "fast": {
        "epochs": 10,
        "batch_size": 128,
        "lr": 0.2,
        "optimizer": "muon",
        "momentum": 0.85,
        "schedule": "triangle",
        "augment": ["crop", "flip"],
        "crop_padding": 2,
        "border": "reflect",
    },
    "long": {
        "epochs": 200,
        "batch_size": 128,
        "lr": 0.2,
        "optimizer": "muon",
        "schedule": "triangle",
        "augment": ["crop", "alternating-flip", "trivialaugment"],
        "crop_padding": 2,
    },
}


# Named recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_its_published_numbers(name: str) -> None:
    values = RECIPES[name](CIFAR).to_dict()
    assert {field: values[field] for field in PUBLISHED[name]} == PUBLISHED[name]


def test_the_steps_of_he2016_are_those_of_the_paper() -> None:
    config = RECIPES["he2016"](CIFAR)
    steps = config.epochs * (50_000 // config.batch_size)
    assert steps == pytest.approx(64_000, rel=0.005)
    rates = [rate(config, step, steps) for step in range(steps)]
    lower = [step for step in range(1, steps) if rates[step] < rates[step - 1]]
    assert lower == pytest.approx([32_000, 48_000], rel=0.005)
    assert [rates[0], *(rates[step] for step in lower)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_batches_for_any_task(name: str, task: Task) -> None:
    config = RECIPES[name](task)
    shape = task.input
    dataset = make_dataset(
        channels=shape.channels, height=shape.height, width=shape.width, classes=10
    )
    batch = next(TrainBatches(dataset, config, seed=0).epoch(1))
    size = min(64, config.batch_size)
    assert batch.images_NCHW.shape == (size, shape.channels, shape.height, shape.width)
    assert batch.images_NCHW.isfinite().all()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_mirrors_only_what_then_shows_the_same(name: str) -> None:
    flips = {Augment.FLIP, Augment.ALTERNATING_FLIP}
    assert not flips & set(RECIPES[name](DIGITS).augment)
    assert bool(flips & set(RECIPES[name](FASHION).augment)) == (name != "plain")


def test_lengths_in_pixels_follow_the_image_size() -> None:
    sizes = {}
    for name, task in TASKS.items():
        fast, long = RECIPES["fast"](task), RECIPES["long"](task)
        sizes[name] = (fast.crop_padding, long.crop_padding)
    assert sizes == {"cifar10": (2, 2), "digits": (1, 1), "fashion-mnist": (2, 2)}
    assert RECIPES["long"](TASKS["digits"]).cutout_size == 4


def test_the_fast_recipe_takes_small_batches_of_few_images() -> None:
    few, many = (RECIPES["fast"](make_task(train_images=n)) for n in (9_999, 10_000))
    assert (few.batch_size, few.optimizer) == (64, Optimizer.NESTEROV)
    assert (many.batch_size, many.optimizer) == (128, Optimizer.MUON)
    assert few.epochs * 9_999 // few.batch_size > 1_500
    assert many.epochs * 10_000 // many.batch_size > 150


def test_the_fast_recipe_takes_larger_batches_on_a_gpu() -> None:
    gpu = RECIPES["fast"](dataclasses.replace(CIFAR, gpu=True))
    assert (gpu.batch_size, gpu.optimizer, gpu.lr) == (512, Optimizer.MUON, 0.4)


# What a recipe refuses


BELOW_ONE: list[object] = [0, -1]
NOT_FINITE = [math.inf, math.nan]
REFUSED: dict[str, list[object]] = {
    "epochs": BELOW_ONE,
    "batch_size": BELOW_ONE,
    "lr": [0.0, -0.1, *NOT_FINITE],
    "momentum": [-0.1, 1.0, math.nan, 0.0],  # 0: what Nesterov's look ahead is made of
    "weight_decay": [-1e-9, *NOT_FINITE],
    "warmup": [-0.1, 1.0, math.nan],
    "label_smoothing": [-0.1, 1.0, math.nan],
    "crop_padding": BELOW_ONE,
    "cutout_size": BELOW_ONE,
    "mix_alpha": [0.0, -1.0, *NOT_FINITE],
    "ema": [0.0, 1.0, -0.5, math.nan],
}
LISTS: dict[str, list[tuple[object, ...]]] = {
    "milestones": [(0.0, 0.5), (0.5, 1.0), (0.75, 0.5), (math.nan,)],
    "augment": [
        ("flip", "alternating-flip"),
        ("alternating-flip", "crop", "flip"),
        ("mixup", "cutmix"),
        ("crop", "crop"),
    ],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values]
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be .*, got {value}$"):
        make_config(**{field: value})


@pytest.mark.parametrize("optimizer", ["nesterov", "muon"])
def test_a_look_ahead_needs_a_momentum(optimizer: str) -> None:
    with pytest.raises(ValueError, match=r"^momentum must be above 0 for .*, got 0.0$"):
        make_config(optimizer=optimizer, momentum=0.0)


@pytest.mark.parametrize(
    ("field", "values"), [(field, values) for field, lists in LISTS.items() for values in lists]
)
def test_values_that_exclude_each_other_are_refused_by_name(
    field: str, values: tuple[object, ...]
) -> None:
    shown = ",".join(map(str, values))
    with pytest.raises(ValueError, match=rf"^{field} must be .*, got {shown}$"):
        make_config(**{field: values})


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("optimizer", Optimizer),
        ("schedule", Schedule),
        ("border", Border),
        ("augment", Augment),
        ("precision", Precision),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    field: str, kind: type[Optimizer | Schedule | Border | Augment | Precision]
) -> None:
    value = ("lion",) if field == "augment" else "lion"
    with pytest.raises(ValueError, match=rf"^{field} must be one of .*, got 'lion'$") as caught:
        make_config(**{field: value})
    for name in kind:
        assert name.value in str(caught.value)


def test_names_may_come_as_plain_text() -> None:
    config = make_config(
        optimizer="adam", schedule="step", border="zero", augment=["crop"], milestones=[0.5]
    )
    assert config.optimizer is Optimizer.ADAM
    assert config.schedule is Schedule.STEP
    assert config.border is Border.ZERO
    assert config.augment == (Augment.CROP,)
    assert config.milestones == (0.5,)


def test_every_field_but_switches_is_checked() -> None:
    checked = {*REFUSED, *LISTS, "optimizer", "schedule", "border", "precision"}
    switches = {"decay_all", "ema_at_end", "zero_last_gamma"}
    assert checked | switches == {field.name for field in dataclasses.fields(TrainingConfig)}


# Recipes as JSON


def assert_survives_json(config: TrainingConfig) -> None:
    values = config.to_dict()
    read: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    assert read == values
    assert TrainingConfig(**read) == config
    assert TrainingConfig(**read).to_dict() == values
    assert hash(TrainingConfig(**read)) == hash(config)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_survives_json(name: str, task: Task) -> None:
    assert_survives_json(RECIPES[name](task))


@given(
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 10_000),
    lr=st.floats(0, 100, exclude_min=True),
    optimizer=st.sampled_from(Optimizer),
    momentum=st.floats(0, 1, exclude_min=True, exclude_max=True),
    weight_decay=st.floats(0, 1),
    schedule=st.sampled_from(Schedule),
    warmup=st.floats(0, 1, exclude_max=True),
    milestones=st.lists(st.floats(0.01, 0.99)).map(sorted),
    augment=st.permutations(list(Augment)).map(
        lambda order: [a for a in order if a not in (Augment.FLIP, Augment.CUTMIX)]
    ),
    ema=st.none() | st.floats(0.01, 0.99),
    precision=st.sampled_from(Precision),
)
def test_any_recipe_survives_json(**values: object) -> None:
    assert_survives_json(make_config(**values))


# Schedules


def torch_rates(make_scheduler: Any, steps: int) -> list[float]:
    """What a scheduler of torch makes of a peak of 1 over these steps."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(steps: int, **changes: object) -> list[float]:
    config = make_config(**changes)
    return [rate(config, step, steps) for step in range(steps)]


LENGTHS = st.integers(1, 200)


@given(steps=LENGTHS)
def test_cosine_without_warm_up_is_torchs(steps: int) -> None:
    expected = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=steps), steps)
    assert our_rates(steps, schedule="cosine", warmup=0.0) == pytest.approx(expected, abs=1e-9)


@given(steps=LENGTHS, sixteenths=st.lists(st.integers(1, 15), unique=True).map(sorted))
def test_step_is_torchs_at_the_same_milestones(steps: int, sixteenths: list[int]) -> None:
    milestones = [math.ceil(steps * i / 16) for i in sixteenths]
    expected = torch_rates(lambda o: lr_scheduler.MultiStepLR(o, milestones, gamma=0.1), steps)
    shares = [i / 16 for i in sixteenths]
    assert our_rates(steps, schedule="step", milestones=shares) == pytest.approx(expected)


@given(steps=LENGTHS)
def test_constant_is_torchs(steps: int) -> None:
    expected = torch_rates(lambda o: lr_scheduler.ConstantLR(o, factor=1.0), steps)
    assert our_rates(steps, schedule="constant") == expected == [1.0] * steps


@given(quarters=st.integers(1, 50), share=st.sampled_from([0.25, 0.5, 0.75]))
@pytest.mark.parametrize("schedule", [Schedule.COSINE, Schedule.TRIANGLE])
def test_the_warm_up_and_what_follows_are_torchs(
    schedule: Schedule, quarters: int, share: float
) -> None:
    steps = 4 * quarters
    peak = round(share * steps)
    first = 1 / (peak + 1)
    up = torch_rates(lambda o: lr_scheduler.LinearLR(o, start_factor=first, total_iters=peak), peak)
    if schedule is Schedule.COSINE:
        down = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, steps - peak), steps - peak)
    else:
        down = torch_rates(
            lambda o: lr_scheduler.LinearLR(
                o, start_factor=1.0, end_factor=0.0, total_iters=steps - peak
            ),
            steps - peak,
        )
    found = our_rates(steps, schedule=schedule, warmup=share)
    assert found == pytest.approx(up + down, abs=1e-9)
    assert found[peak] == 1.0


@given(
    steps=st.integers(1, 2000),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from([Schedule.TRIANGLE, Schedule.COSINE]),
)
def test_a_schedule_rises_to_its_peak_and_falls_to_almost_nothing(
    steps: int, warmup: float, schedule: Schedule
) -> None:
    rates = our_rates(steps, warmup=warmup, schedule=schedule)
    peak = rates.index(max(rates))
    assert all(0 < r <= 1 for r in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) >= 0.5
    last_piece = min(1.0, 1 / (steps * (1 - warmup)))  # of the way down, in the last step
    assert rates[-1] <= 1.2 * last_piece + 1e-9  # half a cosine is at most that much above a line


# Optimizers


class Quadratic(nn.Module):
    """A bowl with its bottom at 1 for a matrix and 2 for a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-3, 3, 6).view(2, 3))
        self.vector = nn.Parameter(torch.tensor([0.5, -1.5]))

    def forward(self) -> Tensor:
        loss: Tensor = (self.matrix - 1).square().sum() + (self.vector - 2).square().sum() / 2
        return loss


PLAIN_TORCH: dict[Optimizer, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    Optimizer.SGD: (torch.optim.SGD, {"momentum": 0.8}),
    Optimizer.NESTEROV: (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    Optimizer.ADAM: (torch.optim.Adam, {}),
    Optimizer.ADAMW: (torch.optim.AdamW, {}),
    Optimizer.ADADELTA: (torch.optim.Adadelta, {}),
    Optimizer.ADAGRAD: (torch.optim.Adagrad, {}),
}


def descend(model: Quadratic, *optimizers: torch.optim.Optimizer) -> None:
    for _ in range(3):
        model.zero_grad()
        model().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("name", PLAIN_TORCH)
def test_an_optimizer_steps_as_plain_torch_does(name: Optimizer, decay_all: bool) -> None:
    kind, arguments = PLAIN_TORCH[name]
    config = make_config(
        optimizer=name, lr=0.05, momentum=0.8, weight_decay=0.3, decay_all=decay_all
    )
    ours, plain = Quadratic(), Quadratic()
    optimizer = make_optimizer(ours, config, Backend())
    assert type(optimizer) is kind
    descend(ours, optimizer)
    options = {"lr": 0.05, "foreach": False, **arguments}
    vector_decay = 0.3 if decay_all else 0.0
    descend(
        plain,
        kind([plain.matrix], weight_decay=0.3, **options),  # type: ignore[call-arg]
        kind([plain.vector], weight_decay=vector_decay, **options),  # type: ignore[call-arg]
    )
    torch.testing.assert_close(ours.matrix, plain.matrix)
    torch.testing.assert_close(ours.vector, plain.vector)
    assert not torch.equal(ours.vector, Quadratic().vector)


def test_without_weight_decay_nothing_decays() -> None:
    ends = []
    for decay_all in (False, True):
        model = Quadratic()
        config = make_config(weight_decay=0.0, decay_all=decay_all)
        descend(model, make_optimizer(model, config, Backend()))
        ends.append(model)
    assert torch.equal(ends[0].matrix, ends[1].matrix)
    assert torch.equal(ends[0].vector, ends[1].vector)
