"""Settings of a study as JSON values, and what differs between two of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nas.architecture import LETTERS, ImageInput
from nas.counting import LIMITED
from nas.shapes import check_fields, from_json
from nas.study.records import StudySettings
from nas.training.config import DEFAULTS, precision_of

# Field of StudySettings -> what a person calls it, with the option that sets it.
_CALLED = {
    "dataset": "dataset (--dataset)",
    "dataset_digest": "training images (--data-dir, --skip-broken, --drop-duplicates)",
    "input": "image shape or classes",
    "train_images": "number of training images",
    "validation_images": "number of validation images",
    "subset": "subset (--subset)",
    "split_seed": "split",
    **{f"limits.{cost.maximum}": f"{cost.limit} ({cost.option})" for cost in LIMITED.values()},
    "latency.max_ms": "limit of latency in ms (--max-latency)",
    "latency.of": "network that is timed (--latency-of)",
    "latency.threads": "threads that it is timed with (--latency-threads)",
    "recipe.epochs": "epochs (--epochs)",
    "recipe.precision": "precision (--precision)",
    **{f"space.{name}": f"choices for {letter} (--space)" for name, letter in LETTERS.items()},
    "tuning.lr_factor": "choices of the learning rate (--tune lr)",
    "tuning.optimizer": "choices of the optimizer (--tune optimizer)",
    "tuning.batch_size": "choices of the batch size (--tune batch-size)",
    "tuning.augment": "choices of augmentation (--tune augment)",
}

_COUNTS = ("train_images", "validation_images")  # follow from dataset and subset


def settings_to_json(settings: StudySettings) -> dict[str, Any]:
    """The settings as values that JSON keeps as they are."""
    values = dataclasses.asdict(settings)
    if not settings.input.name_bytes:
        del values["input"]["name_bytes"]  # which studies made before do not have
    return values


def settings_from_json(values: Mapping[str, Any]) -> StudySettings:
    """The settings that `settings_to_json` gave.

    Raises:
        ValueError: a value is missing or unknown, as in a study of another version.
    """
    try:
        settings: StudySettings = from_json(StudySettings, values)
        check_fields(settings)
        if not settings.limits and settings.latency is None:
            raise ValueError("expected a limit, got none")
        epochs = settings.recipe["epochs"]
        if type(epochs) is not int or epochs < 1:
            raise TypeError(f"epochs is {epochs!r}")
        precision_of(settings.recipe)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"settings of another version: {error}") from error
    return settings


def changes(before: StudySettings, now: StudySettings) -> dict[str, tuple[object, object]]:
    """The settings that differ, by their names with dots: what each was before, and is now.

    What the recipe of an earlier version does not hold has its default; inputs are equal whatever
    the names of their classes, which such a study does not hold either.
    """
    old, new = (
        {
            **flat(settings_to_json(dataclasses.replace(s, recipe={**DEFAULTS, **s.recipe}))),
            "input": s.input,
        }
        for s in (before, now)
    )
    return {
        name: (old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def differences(before: StudySettings, now: StudySettings) -> list[str]:
    """Each setting that was otherwise before, in one line; empty when none."""
    changed = changes(before, now)
    named = [name for name in _CALLED if name in changed]  # the rest follows from these
    shown = [name for name in named if name not in _COUNTS] or named or changed
    return [
        f"{_CALLED.get(name, _of_version(name))}: the study has {_shown(changed[name][0])}, "
        f"this search {_shown(changed[name][1])}"
        for name in shown
    ]


def called(name: str) -> str:
    """What a person calls a setting that has an option or belongs to the images."""
    return _CALLED[name].partition(" (")[0]


def _of_version(name: str) -> str:
    """What no option sets differs only between versions."""
    return f"{name} (set by the version of nas)" if name.startswith("recipe.") else name


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as one level, with dots between the names; the shape of images stays whole."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "input":
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _shown(value: object) -> str:
    if isinstance(value, ImageInput):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.12g}"
    if isinstance(value, list):
        return ", ".join(f"({_shown(v)})" if isinstance(v, list) else str(v) for v in value)
    return "none" if value is None else str(value)
