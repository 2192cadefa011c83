"""The search: opens the study and the images, and has designs trained until there are enough."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nas.architecture import Architecture
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.runtime.devices import (
    device_name,
    find_device,
    free_memory,
    is_out_of_memory,
    open_device,
)
from nas.runtime.signals import Interrupts
from nas.space import SearchSpace
from nas.study.crew import Crew
from nas.study.database import Database, open_database
from nas.study.disks import warning_for
from nas.study.estimate import expected_trial_seconds
from nas.study.location import StudyError, StudyLocation
from nas.study.observer import Observer, Opening
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.processes import worker_name
from nas.study.proposals import Proposals
from nas.study.pruners import make_pruner
from nas.study.records import StudyRecord, StudySettings
from nas.study.request import SearchRequest
from nas.study.samplers import make_sampler
from nas.study.storage import (
    STORAGE_ERRORS,
    begin_search,
    first_line,
    read_study,
    storage_errors,
    study_record,
)
from nas.study.team import posts_for, threads_of_each
from nas.study.trainer import make_checkpoints, make_trainer
from nas.study.worker import Worker
from nas.training.config import TrainingConfig, fast
from nas.training.loop import task_of
from nas.training.tuning import Choice, Value, real_values, training_choices, tuned

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

    Several processes may do so on one study at the same time; each returns when all are there.
    `request.workers` starts as many on this machine; from a program's main module that needs the
    usual ``if __name__ == "__main__"``. No test image is read.

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
    if request.workers == 1:
        return search_alone(request, observer, command=command, noted=True)
    return _search_with_crew(request, observer, command)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a request is about, once its images are read."""

    request: SearchRequest
    dataset: ImageDataset
    space: SearchSpace
    presets: Mapping[str, Architecture]
    config: TrainingConfig
    choices: Sequence[Choice]
    location: StudyLocation

    def begin(
        self,
        database: Database,
        interrupted: Callable[[], None],
        search: Mapping[str, object] | None,
    ) -> StudyRecord:
        """The study as it is found, made one of this request if it is new."""
        settings = study_settings(self.request, self.dataset, self.space, self.config)
        try:
            with storage_errors(self.location), database.claim(interrupted):
                begin_search(
                    database.study, self.location, settings, search=search, notes=self.dataset.notes
                )
        except StudyError as error:
            if self.request.dataset == "auto" and self.dataset.notes:
                raise StudyError(f"{error} ({self.dataset.notes[0]})") from error
            raise
        interrupted()
        with storage_errors(self.location):
            return study_record(database.study, self.location)

    def expected_trial_seconds(self) -> float | None:
        """Of a full run on the CPU, with the threads that one of the workers has.

        None for a design too large for this machine.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(threads_of_each(self.request.workers))
        try:
            return expected_trial_seconds(
                self.space, self.request.limits, self.dataset, self.config
            )
        except Exception as error:
            if is_out_of_memory(error):
                return None  # the search will say so
            raise
        finally:
            torch.set_num_threads(threads)


def _subject_of(request: SearchRequest, observer: Observer) -> _Subject:
    request.check()
    find_device(request.device)
    observer.loading(request)
    dataset = load_dataset(
        request.dataset,
        request.data_dir,
        split_seed=SPLIT_SEED,
        subset=request.subset,
        skip_broken=request.skip_broken,
        drop_duplicates=request.drop_duplicates,
    )
    config = search_recipe(dataset, request.epochs)
    subject = _Subject(
        request,
        dataset,
        request.space_for(dataset.input),
        request.presets_for(dataset.input),
        config,
        training_choices(config, task_of(dataset), request.tune),
        request.location_for(dataset.name),
    )
    if warning := warning_for(subject.location.path):
        observer.warned(warning)
    return subject


def _noted(request: SearchRequest, command: str | None, name: str) -> dict[str, object]:
    """What a study keeps of a search."""
    return {
        "command": command,
        "seed": request.seed,
        "sampler": request.sampler,
        "pruner": request.pruner,
        "objectives": list(request.objectives),
        "worker": name,
    }


def search_alone(
    request: SearchRequest, observer: Observer, *, command: str | None = None, noted: bool = False
) -> SearchResult:
    """`run_search` in this process alone.

    Args:
        request: what to search.
        observer: hears what happens.
        command: see there.
        noted: whether the study keeps a line about it; not for one of several workers.
    """
    subject = _subject_of(request, observer)
    dataset, config, location = subject.dataset, subject.config, subject.location
    device = open_device(request.device)

    def said_of_training(values: Mapping[str, Value]) -> Mapping[str, Value]:
        return real_values(tuned(config, values, task_of(dataset))) if subject.choices else {}

    with (
        Interrupts() as interrupts,
        worker_name() as name,
        open_database(location, interrupts.check) as database,
    ):
        observer.named(name)
        search = _noted(request, command, name) if noted else None
        found = subject.begin(database, interrupts.check, search)
        try:
            expected = None
            if device.type == "cpu" and found.trained < request.trials and noted:
                with interrupts.allowed():
                    expected = subject.expected_trial_seconds()
            observer.opened(
                Opening(found, location, dataset.test_images, device_name(device), expected)
            )
            images = dataset.to(device)
            proposals = Proposals(subject.space, request.limits, subject.choices)
            plan = Plan(
                trials=request.trials,
                proposals=proposals,
                epochs=config.epochs,
                seed=request.seed,
                sampler=make_sampler(request.sampler, seed=0, domain=proposals.domain),
                pruner=make_pruner(
                    request.pruner,
                    epochs=config.epochs,
                    size=request.objectives[1] if len(request.objectives) > 1 else None,
                ),
                train=make_trainer(images, config, seed=request.seed, device=device),
                checkpoint=make_checkpoints(
                    request.checkpoints_for(location),
                    dataset,
                    config,
                    seed=request.seed,
                    device=device,
                ),
                presets=subject.presets,
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


def _unended(study: StudyRecord) -> bool:
    """Whether a trial runs, or is left from a worker that is gone."""
    return any(t.outcome is None and t.worker is not None for t in study.trials)


def _search_with_crew(
    request: SearchRequest, observer: Observer, command: str | None
) -> SearchResult:
    """`run_search` with several workers, which find the study made and the images read."""
    posts_for(
        request.device, request.workers, request.per_gpu
    )  # or refuse, before anything is read
    subject = _subject_of(request, observer)
    location = subject.location
    with Interrupts() as interrupts, worker_name() as name:
        with open_database(location, interrupts.check) as database:
            search = {**_noted(request, command, name), "workers": request.workers}
            found = subject.begin(database, interrupts.check, search)
        left = max(1, request.trials - found.trained)  # more workers would only wait
        request = dataclasses.replace(request, workers=min(request.workers, left))
        expected = None
        device = find_device(request.device)
        if device.type == "cpu" and found.trained < request.trials:
            with interrupts.allowed():
                expected = subject.expected_trial_seconds()
        observer.opened(
            Opening(
                found,
                location,
                subject.dataset.test_images,
                f"{device_name(device)}, {request.workers} workers",
                expected,
                request.workers,
            )
        )
        told = frozenset(t.number for t in found.trials if t.outcome is not None)
        crew = Crew(request, observer, told)
        ending = None
        if found.trained < request.trials or _unended(found):
            ending = crew.run(interrupts)
        study = read_study(location)
        if study.trained >= request.trials:
            ending = SearchEnding.DONE
        if ending is None:
            raise SearchFailed(f"{crew.failure}; the same command continues")
        return SearchResult(study, location, ending, crew.newly_trained)


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
