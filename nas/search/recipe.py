"""The recipe that all trials of a study are trained with: `fast`, or what an older study has."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from nas.data.types import ImageDataset
from nas.latency import LatencyLimit
from nas.space import Limits, SearchSpace
from nas.study.records import StudySettings
from nas.training.config import Task, TrainingConfig, fast, recipe_of
from nas.training.loop import task_of
from nas.training.tuning import Choice, training_choices, tuned


def search_recipe(
    dataset: ImageDataset,
    device: torch.device,
    epochs: int | None = None,
    settings: StudySettings | None = None,
) -> TrainingConfig:
    """The recipe of a search, of its own length or another.

    Args:
        dataset: what it is sized to.
        device: what it is sized to, too.
        epochs: its length, if it is given.
        settings: of a study that is continued, which keeps its recipe if this version knows it.
    """
    config = recipe_of(settings.recipe) if settings else None
    config = config or fast(task_of(dataset, device))
    return dataclasses.replace(config, epochs=epochs) if epochs else config


def trial_recipe(settings: StudySettings, training: Mapping[str, object]) -> TrainingConfig | None:
    """The recipe that a trial was trained with; None where this version does not know it.

    Args:
        settings: of its study.
        training: what was tuned, as the trial has it.
    """
    config = recipe_of(settings.recipe)
    if config is None or not training:
        return config
    task = Task(settings.input, settings.train_images, horizontal_flip=False)  # flips are named
    values = {name: training[name] for name in ("optimizer", "batch_size", "augment")}
    config = tuned(config, values, task)  # type: ignore[arg-type]  # it checks them
    return dataclasses.replace(config, lr=training["lr"])  # type: ignore[arg-type]


def search_choices(
    config: TrainingConfig,
    dataset: ImageDataset,
    device: torch.device,
    names: tuple[str, ...],
    settings: StudySettings | None = None,
) -> tuple[Choice, ...]:
    """The training choices of a search around its recipe; a study keeps those it has."""
    choices = training_choices(config, task_of(dataset, device), names)
    kept = settings.tuning if settings else {}
    return tuple(
        dataclasses.replace(choice, values=tuple(kept[choice.name]))  # type: ignore[arg-type]
        if choice.name in kept
        else choice
        for choice in choices
    )


def study_settings(
    dataset: ImageDataset,
    space: SearchSpace,
    limits: Limits,
    latency: LatencyLimit | None,
    config: TrainingConfig,
    choices: Sequence[Choice],
) -> StudySettings:
    """What makes accuracies of a study comparable: images, designs, and how these are trained."""
    return StudySettings(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        input=dataset.input,
        train_images=len(dataset.train),
        validation_images=len(dataset.validation),
        subset=dataset.subset,
        split_seed=dataset.split_seed,
        limits=limits,
        latency=latency,
        space=space.to_dict(),
        recipe=config.to_dict(),
        tuning={choice.name: list(choice.values) for choice in choices},
    )
