"""The search: opens the study and the images, and has designs trained until there are enough."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.space import SearchSpace
from nas.study.database import open_database
from nas.study.devices import device_name, find_device, free_memory, is_out_of_memory
from nas.study.estimate import expected_trial_seconds
from nas.study.interrupts import Interrupts
from nas.study.location import StudyLocation
from nas.study.observer import Observer, Opening
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.processes import worker_name
from nas.study.proposals import Proposals
from nas.study.pruners import make_pruner, no_larger
from nas.study.records import StudyRecord, StudySettings
from nas.study.request import SearchRequest
from nas.study.samplers import make_sampler
from nas.study.storage import (
    STORAGE_ERRORS,
    begin_search,
    first_line,
    storage_errors,
    study_record,
)
from nas.study.trainer import make_checkpoints, make_trainer
from nas.study.worker import Worker
from nas.training.config import TrainingConfig, fast
from nas.training.loop import task_of
from nas.training.tuning import Value, real_values, training_choices, tuned

__all__ = [
    "SPLIT_SEED",
    "Observer",
    "Opening",
    "SearchEnding",
    "SearchFailed",
    "SearchResult",
    "run_search",
    "search_recipe",
    "study_settings",
]

SPLIT_SEED = 0  # fixed: the validation part must not change with the seed of a search


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished search: the whole study, and why the search ended."""

    study: StudyRecord
    location: StudyLocation
    ending: SearchEnding
    newly_trained: int  # by this search


def run_search(
    request: SearchRequest, observer: Observer | None = None, *, command: str | None = None
) -> SearchResult:
    """Finds or continues the study and trains designs until it holds `request.trials` of them.

    Several processes may do so on one study at the same time; each returns when all are there. No
    test image is read.

    Args:
        request: what to search.
        observer: hears what happens.
        command: how a person would repeat this; kept in the study.

    Returns:
        The study, whose `incumbent` is the best design within the limits.

    Raises:
        RequestError: no design can be within the limits, or the space or device cannot be used.
        DataError: the dataset cannot be had.
        StudyError: the study cannot be used, or was made with other settings.
        SearchFailed: training fails again and again, or the database does.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the trial that ran is queued again.
    """
    observer = observer or Observer()
    request.check()
    device = find_device(request.device)
    observer.loading(request)
    dataset = load_dataset(
        request.dataset, request.data_dir, split_seed=SPLIT_SEED, subset=request.subset
    )
    space = request.space_for(dataset.input)
    presets = request.presets_for(dataset.input)
    config = search_recipe(dataset, request.epochs)
    choices = training_choices(config, task_of(dataset), request.tune)

    def said_of_training(values: Mapping[str, Value]) -> Mapping[str, Value]:
        return real_values(tuned(config, values, task_of(dataset))) if choices else {}

    location = request.location_for(dataset.name)
    settings = study_settings(request, dataset, space, config)
    with (
        Interrupts() as interrupts,
        worker_name() as name,
        open_database(location, interrupts.check) as database,
    ):
        with storage_errors(location), database.claim(interrupts.check):
            search = {
                "command": command,
                "seed": request.seed,
                "sampler": request.sampler,
                "pruner": request.pruner,
                "worker": name,
            }
            begin_search(database.study, location, settings, search=search, notes=dataset.notes)
        interrupts.check()
        try:
            found = study_record(database.study, location)
            expected = None
            if device.type == "cpu" and found.trained < request.trials:
                with interrupts.allowed():
                    expected = _expected_trial_seconds(request, space, dataset, config)
            observer.opened(
                Opening(found, location, dataset.test_images, device_name(device), expected)
            )
            images = dataset.to(device)
            proposals = Proposals(space, request.limits, choices)
            plan = Plan(
                trials=request.trials,
                proposals=proposals,
                epochs=config.epochs,
                seed=request.seed,
                sampler=make_sampler(request.sampler, seed=0, domain=proposals.domain),
                pruner=make_pruner(
                    request.pruner,
                    epochs=config.epochs,
                    comparable=no_larger(request.objectives[1])
                    if len(request.objectives) > 1
                    else None,
                ),
                train=make_trainer(images, config, seed=request.seed, device=device),
                checkpoint=make_checkpoints(
                    request.checkpoints_for(location),
                    dataset,
                    config,
                    seed=request.seed,
                    device=device,
                ),
                presets=presets,
                objectives=request.objectives,
                said_of_training=said_of_training,
                clean_up=lambda: free_memory(device),
                device=device_name(device),
                timeout=request.timeout,
            )
            told = frozenset(t.number for t in found.trials if t.outcome is not None)
            worker = Worker(name, database, plan, observer, interrupts, told, request.grace)
            ending = worker.run()
            return SearchResult(
                study_record(database.study, location), location, ending, worker.newly_trained
            )
        except STORAGE_ERRORS as error:
            raise SearchFailed(
                f"{location}: the study can no longer be read or written: {first_line(error)}; "
                "what it holds is kept, and the same command continues"
            ) from error


def _expected_trial_seconds(
    request: SearchRequest, space: SearchSpace, dataset: ImageDataset, config: TrainingConfig
) -> float | None:
    try:
        return expected_trial_seconds(space, request.limits, dataset, config)
    except Exception as error:
        if is_out_of_memory(error):
            return None  # a design too large for this machine; the search will say so
        raise


def search_recipe(dataset: ImageDataset, epochs: int | None = None) -> TrainingConfig:
    """The recipe of a search on this dataset: `fast`, of its own length or another."""
    config = fast(task_of(dataset))
    return dataclasses.replace(config, epochs=epochs) if epochs else config


def study_settings(
    request: SearchRequest, dataset: ImageDataset, space: SearchSpace, config: TrainingConfig
) -> StudySettings:
    """What makes accuracies of a study comparable, for this request on these images."""
    return StudySettings(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        input=dataset.input,
        train_images=len(dataset.train),
        validation_images=len(dataset.validation),
        subset=dataset.subset,
        split_seed=dataset.split_seed,
        limits=request.limits,
        space=space.to_dict(),
        recipe=config.to_dict(),
        tuning={
            choice.name: list(choice.values)
            for choice in training_choices(config, task_of(dataset), request.tune)
        },
    )
