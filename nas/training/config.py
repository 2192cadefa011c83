"""Recipes as data: everything that decides a run besides the design, the images and the seed."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import MappingProxyType

from nas.architecture import ImageInput
from nas.runtime.precision import Precision
from nas.training.optimizers import Optimizer
from nas.values import Check, choices, flag, keep_plain, or_none, real, several, whole


class Schedule(StrEnum):
    """How the learning rate moves over a run, always sized to the run."""

    CONSTANT = "constant"
    STEP = "step"  # a tenth at each milestone
    COSINE = "cosine"  # up for the warm-up, then half a cosine down to 0
    TRIANGLE = "triangle"  # up for the warm-up, then straight down to 0


class Augment(StrEnum):
    """One way to vary training images; a recipe combines several."""

    CROP = "crop"  # move by up to `crop_padding` pixels
    FLIP = "flip"  # left and right, by chance
    ALTERNATING_FLIP = "alternating-flip"  # left and right, in turn from epoch to epoch
    TRIVIAL = "trivialaugment"
    CUTOUT = "cutout"
    MIXUP = "mixup"
    CUTMIX = "cutmix"


class Border(StrEnum):
    """What is around an image that is moved."""

    REFLECT = "reflect"
    ZERO = "zero"  # black


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.value if isinstance(value, StrEnum) else value


def _member(name: str, value: object, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        raise ValueError(f"{name} must be {choices(value, kind)}") from None


def _augments(name: str, value: object) -> tuple[StrEnum, ...]:
    return tuple(_member(name, one, Augment) for one in several(name, value, "names"))


def _shares(name: str, value: object) -> tuple[float, ...]:
    return tuple(real(name, one) for one in several(name, value, "shares"))


_BELOW_1 = partial(real, least=0, below=1)
_CHECKS: Mapping[str, Check] = {
    "epochs": whole,
    "batch_size": whole,
    "lr": partial(real, above=0),
    "optimizer": partial(_member, kind=Optimizer),
    "momentum": _BELOW_1,
    "weight_decay": partial(real, least=0),
    "decay_all": flag,
    "schedule": partial(_member, kind=Schedule),
    "warmup": _BELOW_1,
    "milestones": _shares,
    "label_smoothing": _BELOW_1,
    "augment": _augments,
    "crop_padding": whole,
    "border": partial(_member, kind=Border),
    "cutout_size": whole,
    "mix_alpha": partial(real, above=0),
    "ema": or_none(partial(real, above=0, below=1)),
    "ema_at_end": flag,
    "zero_last_gamma": flag,
    "precision": partial(_member, kind=Precision),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One recipe.

    Raises:
        ValueError: a value is out of its range, or two of them exclude each other.
    """

    epochs: int
    batch_size: int
    lr: float  # at the peak; for the mean loss of a batch
    optimizer: Optimizer = Optimizer.NESTEROV
    momentum: float = 0.9  # of optimizers that have one
    weight_decay: float = 5e-4
    decay_all: bool = False  # norms and biases too, as most published recipes do
    schedule: Schedule = Schedule.TRIANGLE
    warmup: float = 0.2  # share of the steps until the peak, of cosine and triangle
    milestones: tuple[float, ...] = (0.5, 0.75)  # of step, as shares of the run
    label_smoothing: float = 0.1
    augment: tuple[Augment, ...] = ()
    crop_padding: int = 2  # pixels
    border: Border = Border.REFLECT
    cutout_size: int = 8  # pixels
    mix_alpha: float = 1.0  # of the beta distribution of mixup and cutmix
    ema: float | None = None  # decay per step of averaged weights, which are then evaluated
    ema_at_end: bool = True  # whether also after the last epoch, and what a run ends with
    zero_last_gamma: bool = False  # see nas.model.build
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        keep_plain(self, _CHECKS)
        shares, augment = self.milestones, set(self.augment)
        if not all(0 < m < 1 for m in shares) or list(shares) != sorted(shares):
            raise ValueError(
                f"milestones must be ascending, between 0 and 1, got {','.join(map(str, shares))}"
            )
        if self.momentum == 0 and self.optimizer in (Optimizer.NESTEROV, Optimizer.MUON):
            raise ValueError(f"momentum must be above 0 for nesterov and muon, got {self.momentum}")
        if (
            len(augment) < len(self.augment)
            or {Augment.FLIP, Augment.ALTERNATING_FLIP} <= augment
            or {Augment.MIXUP, Augment.CUTMIX} <= augment
        ):
            raise ValueError(
                "augment must be different names, one kind of flip, and one of mixup and cutmix, "
                f"got {','.join(self.augment)}"
            )

    def to_dict(self) -> dict[str, object]:
        """The recipe as values that JSON keeps as they are."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def identity(self) -> dict[str, object]:
        """What decides a run's weights, equal to what earlier versions wrote of the same recipe.

        Fields that came later are left out where they have the value that was fixed before.
        """
        values = self.to_dict()
        return {n: v for n, v in values.items() if n not in _LATER or v != DEFAULTS[n]}


_LATER = ("precision",)  # fields that version 0.1.0 did not have

DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        field.name: _plain(field.default)
        for field in dataclasses.fields(TrainingConfig)
        if field.default is not dataclasses.MISSING
    }
)
"""What a recipe written before a field was there means by its absence."""


def precision_of(recipe: Mapping[str, object]) -> Precision:
    """The precision of a recipe as `to_dict` gives it, also in an earlier version.

    Raises:
        ValueError: there is no such precision.
    """
    return Precision(str(recipe.get("precision", DEFAULTS["precision"])))


def recipe_of(values: Mapping[str, object]) -> TrainingConfig | None:
    """The recipe as `to_dict` gave it, also in an earlier version; None if this knows it not."""
    try:
        return TrainingConfig(**values)  # type: ignore[arg-type]  # it checks them
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Task:
    """What a recipe is sized to."""

    input: ImageInput
    train_images: int
    horizontal_flip: bool  # whether a mirror image shows the same thing
    gpu: bool = False  # whether it is trained on one, which wants larger batches

    @property
    def flip(self) -> tuple[Augment, ...]:
        """The flip of published recipes, where a mirror image shows the same thing."""
        return (Augment.FLIP,) if self.horizontal_flip else ()

    @property
    def large(self) -> bool:
        """Whether an epoch has steps enough in large batches; else a run takes smaller ones."""
        return self.train_images >= 10_000

    def scaled(self, pixels: int) -> int:
        """A length meant for 32-pixel images, for these; at least 1 pixel."""
        side = min(self.input.height, self.input.width)
        return max(1, round(pixels * side / 32))


def fast(task: Task) -> TrainingConfig:
    """Short search runs: 10 epochs, in which the rate goes straight up and straight down.

    From 10,000 images on with Muon, in batches of 128 on a CPU and of 512 on a GPU, which is faster
    with large ones: docs/training.md has what was measured. Below 10,000 images it is Nesterov's
    momentum in batches of 64, since Muon's cost per step is half of all for wide designs and images
    as small as the digits. Before the last epoch what is evaluated are weights averaged over about
    an epoch: they rank designs better while the learning rate is high, and lag behind when it is 0
    (docs/pruning.md).
    """
    batch_size = (512 if task.gpu else 128) if task.large else 64
    return TrainingConfig(
        epochs=10,
        batch_size=batch_size,
        optimizer=Optimizer.MUON if task.large else Optimizer.NESTEROV,
        momentum=0.85 if task.large else 0.9,
        ema=1 - 1 / max(2, task.train_images // batch_size),
        ema_at_end=False,
        lr=0.4 if task.large and task.gpu else 0.2,
        augment=(Augment.CROP, *task.flip),
        crop_padding=task.scaled(2),
    )


def long(task: Task) -> TrainingConfig:
    """Final training of a chosen design: 200 epochs with strong augmentation.

    From 10,000 images on `fast` with alternating flips and TrivialAugment (Mueller and Hutter 2021,
    arXiv:2103.10158). Below, in batches of 64, after the CIFAR recipes of that paper.
    """
    flip = (Augment.ALTERNATING_FLIP,) if task.horizontal_flip else ()
    if task.large:
        augment = (Augment.CROP, *flip, Augment.TRIVIAL)
        return dataclasses.replace(fast(task), epochs=200, augment=augment)
    return TrainingConfig(
        epochs=200,
        batch_size=64,
        lr=0.1,
        schedule=Schedule.COSINE,
        warmup=0.025,
        augment=(Augment.CROP, *flip, Augment.TRIVIAL, Augment.CUTOUT),
        crop_padding=task.scaled(4),
        cutout_size=task.scaled(16),
        ema=0.9998,
    )


def he2016(task: Task) -> TrainingConfig:
    """ResNet on CIFAR-10 in He et al. 2016 (arXiv:1512.03385, section 4.2): 91.25% for ResNet-20.

    64,000 iterations of 128 images are 164 epochs of 50,000; a tenth at 32,000 and 48,000.
    """
    return TrainingConfig(
        epochs=164,
        batch_size=128,
        lr=0.1,
        optimizer=Optimizer.SGD,
        weight_decay=1e-4,
        decay_all=True,
        schedule=Schedule.STEP,
        label_smoothing=0.0,
        augment=(Augment.CROP, *task.flip),
        crop_padding=task.scaled(4),
        border=Border.ZERO,
    )


def pytorch_cifar(task: Task) -> TrainingConfig:
    """kuangliu/pytorch-cifar's main.py: SGD 0.1, cosine over 200 epochs, weight decay 5e-4."""
    return TrainingConfig(
        epochs=200,
        batch_size=128,
        lr=0.1,
        optimizer=Optimizer.SGD,
        weight_decay=5e-4,
        decay_all=True,
        schedule=Schedule.COSINE,
        warmup=0.0,
        label_smoothing=0.0,
        augment=(Augment.CROP, *task.flip),
        crop_padding=task.scaled(4),
        border=Border.ZERO,
    )


def resnet20_report(task: Task) -> TrainingConfig:
    """The report of 92.07% for ResNet-20: pytorch-cifar's recipe with weight decay 1e-4."""
    return dataclasses.replace(pytorch_cifar(task), weight_decay=1e-4)


def flexres(task: Task) -> TrainingConfig:
    """FlexRes, 94.12% for flexres22-2: Adadelta 0.1, batches of 32, mixup, 400 epochs."""
    return dataclasses.replace(
        pytorch_cifar(task),
        epochs=400,
        batch_size=32,
        optimizer=Optimizer.ADADELTA,
        weight_decay=5e-4,
        augment=(Augment.CROP, *task.flip, Augment.MIXUP),
    )


def plain(task: Task) -> TrainingConfig:
    """10 epochs in batches of 16 without augmentation: 82.43% for resnet18-narrow-stem.

    The report names no optimizer; torch's Adam with its defaults is assumed.
    """
    return TrainingConfig(
        epochs=10,
        batch_size=16,
        lr=1e-3,
        optimizer=Optimizer.ADAM,
        weight_decay=0.0,
        schedule=Schedule.CONSTANT,
        label_smoothing=0.0,
    )


RECIPES: Mapping[str, Callable[[Task], TrainingConfig]] = MappingProxyType(
    {
        "fast": fast,
        "long": long,
        "he2016": he2016,
        "pytorch-cifar": pytorch_cifar,
        "resnet20-report": resnet20_report,
        "flexres": flexres,
        "plain": plain,
    }
)
"""The named recipes."""
