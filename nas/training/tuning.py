"""Training choices that a search may make for each design: learning rate, optimizer, batch, images.

Every choice is a short list around a recipe, and the recipe's own value is always one of them, so a
study with such choices can only lose trials, never the recipe it starts from.

* `optimizer`: those of `nas.training.optimizers`, each at its usual rate (`usual_rate`) and
  momentum. FlexRes compared SGD with and without Nesterov momentum, Adam, Adadelta and Adagrad, and
  found its best network with Adadelta.
* `lr_factor`: of the usual rate; 1/4 to 4 in steps of 2, since rates are felt by their ratio
  (Bengio 2012, arXiv:1206.5533).
* `batch_size`: 1/4, 1/2, 1 and 2 times the recipe's; twice as many leave a run of 10 epochs with
  45,000 images about 430 steps, and more would leave too few to learn. The rate follows the batch,
  and averaged weights go back over as many images as before.
* `augment`: none, the published standard of crop and flip, and that with one of cutout (DeVries and
  Taylor 2017), mixup (Zhang et al. 2018, which FlexRes used at its best), CutMix (Yun et al. 2019)
  or TrivialAugment (Mueller and Hutter 2021). No flip where a mirror image shows something else.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas.architecture import Architecture
from nas.training.config import Augment, Task, TrainingConfig
from nas.training.optimizers import Optimizer
from nas.values import choices

_CALLED = {  # what may be tuned -> as the choice is called in a study
    "lr": "lr_factor",
    "optimizer": "optimizer",
    "batch-size": "batch_size",
    "augment": "augment",
}

TUNABLE = tuple(_CALLED)
"""What may be tuned, as a person calls it."""

REAL_VALUES = ("optimizer", "lr", "batch_size", "augment")
"""What a trial says of its recipe."""

Value = str | int | float

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_BATCHES = (0.25, 0.5, 1.0, 2.0)
_SMALLEST_BATCH = 8  # batch norm estimates a variance from it
_EXTRAS = (None, Augment.CUTOUT, Augment.MIXUP, Augment.CUTMIX, Augment.TRIVIAL)
_NO_AUGMENT = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """One training choice, as it is called in a study."""

    name: str
    values: tuple[Value, ...]
    default: Value  # the recipe's own


def training_choices(
    config: TrainingConfig, task: Task, names: Iterable[str]
) -> tuple[Choice, ...]:
    """The choices that these names of `TUNABLE` open around a recipe, in that order.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = check_names(names)
    return tuple(_choice(_CALLED[name], config, task) for name in wanted)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, in the order of `TUNABLE`.

    Raises:
        ValueError: a name is unknown.
    """
    given = list(names)
    for name in given:
        if name not in TUNABLE:
            raise ValueError(f"expected {choices(name, TUNABLE)}")
    return tuple(name for name in TUNABLE if name in given)


def names_of(choices: Iterable[str]) -> tuple[str, ...]:
    """The names of `TUNABLE` that open these choices, which are named as in a study."""
    opened = set(choices)
    return tuple(name for name, choice in _CALLED.items() if choice in opened)


def defaults(choices: Sequence[Choice]) -> dict[str, Value]:
    """The values that give the recipe itself."""
    return {choice.name: choice.default for choice in choices}


def tuned(config: TrainingConfig, values: Mapping[str, Value], task: Task) -> TrainingConfig:
    """The recipe of a trial: a value for each choice, the rest as in the recipe.

    Raises:
        ValueError: a choice is unknown, or a value cannot be used.
    """
    unknown = sorted(set(values) - set(_CALLED.values()))
    if unknown:
        raise ValueError(f"expected values of {', '.join(_CALLED.values())}, got {unknown[0]!r}")
    name = str(values.get("optimizer", config.optimizer))
    optimizer = Optimizer(name)  # type: ignore[arg-type]  # found by its name
    batch_size = int(values.get("batch_size", config.batch_size))
    lr = usual_rate(config, optimizer, batch_size) * float(values.get("lr_factor", 1.0))
    if lr != config.lr:
        lr = float(f"{lr:.4g}")  # what is shown is what is used
    ema = config.ema and 1 - min(0.5, (1 - config.ema) * batch_size / config.batch_size)
    momentum = config.momentum
    if optimizer.info.family != config.optimizer.info.family:
        momentum = optimizer.info.momentum or momentum
    config = dataclasses.replace(
        config, optimizer=optimizer, batch_size=batch_size, lr=lr, momentum=momentum, ema=ema
    )
    if "augment" not in values or values["augment"] == policy(config.augment):
        return config
    return with_augment(config, _policy_parts(str(values["augment"])), task)


def usual_rate(config: TrainingConfig, optimizer: Optimizer, batch_size: int) -> float:
    """The learning rate to expect of an optimizer at a batch size, from the recipe if that says.

    A rate found at one batch size is carried to another: in proportion for SGD (Goyal et al. 2017,
    arXiv:1706.02677), by the square root for those that divide by the size of the gradient
    (Malladi et al. 2022, arXiv:2205.10287).
    """
    info = optimizer.info
    known = config if info.family == config.optimizer.info.family else info
    ratio = batch_size / known.batch_size
    return known.lr * (ratio if info.proportional else math.sqrt(ratio))


def with_augment(
    config: TrainingConfig, augment: Sequence[str | Augment], task: Task
) -> TrainingConfig:
    """The recipe with other augmentation; sizes that it did not use before fit the images.

    4 pixels of crop and a cutout of 16 for 32-pixel images, as published for CIFAR.

    Raises:
        ValueError: a name is unknown, or two exclude each other.
    """
    changes: dict[str, object] = {"augment": tuple(augment)}
    if Augment.CROP not in config.augment:
        changes["crop_padding"] = task.scaled(4)
    if Augment.CUTOUT not in config.augment:
        changes["cutout_size"] = task.scaled(16)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def policy(augment: Sequence[Augment]) -> str:
    """The augmentation of a recipe as one name, such as ``crop+flip+mixup``, or ``none``."""
    return "+".join(augment) or _NO_AUGMENT


def real_values(config: TrainingConfig) -> dict[str, Value]:
    """What a trial's recipe comes to, by the names of `REAL_VALUES`."""
    return {
        "optimizer": config.optimizer.value,
        "lr": config.lr,
        "batch_size": config.batch_size,
        "augment": policy(config.augment),
    }


def trial_key(architecture: Architecture, values: Mapping[str, Value]) -> str:
    """Equal for two trials exactly when they train the same network in the same way.

    Without training choices it is the design's own key.
    """
    parts = [f"{name}={values[name]}" for name in _CALLED.values() if name in values]
    return " ".join([architecture.key, *parts])


def _choice(name: str, config: TrainingConfig, task: Task) -> Choice:
    match name:
        case "lr_factor":
            return Choice(name, _FACTORS, 1.0)
        case "optimizer":
            return Choice(name, tuple(o.value for o in Optimizer), config.optimizer.value)
        case "batch_size":
            sizes = {round(config.batch_size * factor) for factor in _BATCHES}
            fitting = {s for s in sizes if _SMALLEST_BATCH <= s <= task.train_images}
            fitting.add(config.batch_size)
            return Choice(name, tuple(sorted(fitting)), config.batch_size)
    policies = [_NO_AUGMENT, *(policy(_standard(config, task, extra)) for extra in _EXTRAS)]
    own = policy(config.augment)
    return Choice(name, tuple(dict.fromkeys([own, *policies])), own)


def _standard(config: TrainingConfig, task: Task, extra: Augment | None) -> tuple[Augment, ...]:
    """Crop and flip, the flip as in the recipe, and one more."""
    flip = (Augment.ALTERNATING_FLIP,) if Augment.ALTERNATING_FLIP in config.augment else task.flip
    return (Augment.CROP, *flip, *([extra] if extra else []))


def _policy_parts(name: str) -> tuple[str, ...]:
    return () if name == _NO_AUGMENT else tuple(name.split("+"))
