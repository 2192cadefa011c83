"""What a search is about: its images, its recipe and its study, which is made or found."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from nas.architecture import Architecture, ImageInput
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.runtime import signals
from nas.runtime.arithmetic import Chosen, choose, supports
from nas.runtime.devices import device_name, find_device
from nas.runtime.disks import warning_for
from nas.runtime.machine import Share, free_bytes, usable_cores, workers_for
from nas.runtime.precision import AUTO, Precision
from nas.search.estimate import expected_trial_seconds
from nas.search.events import Loading, OnEvent, Warned
from nas.search.presets import designs_like
from nas.search.request import OWN_FOLDER, PRUNERS, SPLIT_SEED, SearchRequest
from nas.space import SearchSpace
from nas.study.creation import begin_search, kept_settings
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study, study_record, trained_in
from nas.study.records import StudyRecord, StudySettings
from nas.study.storage import storage_errors
from nas.study.store import Store
from nas.training.config import TrainingConfig, fast
from nas.training.loop import task_of
from nas.training.tuning import Choice, training_choices

_IN_TURN = 5  # designs for each worker, by default, so that what is proposed is learnt from others


@dataclass(frozen=True, slots=True)
class Begun:
    """A study that is open for a search."""

    study: StudyRecord  # as it was found, or is now if it is new
    trials: int  # that it is to hold trained when the search ends
    precision: Chosen
    config: TrainingConfig  # the recipe, in that precision
    pruner: str

    @property
    def ended(self) -> frozenset[int]:
        """Numbers of the trials that had ended."""
        return frozenset(t.number for t in self.study.trials if t.outcome is not None)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a request is about, once its images are read."""

    request: SearchRequest
    dataset: ImageDataset
    space: SearchSpace
    presets: Mapping[str, Architecture]
    config: TrainingConfig  # whose precision is not chosen yet
    choices: Sequence[Choice]
    location: StudyLocation
    trial_seconds: Callable[[Precision, int], float | None]
    """Of a full run on so many threads of the CPU; timed once each."""

    def share(self, store: Store, device: torch.device) -> Share:
        """How many workers this search has, and on how many threads each.

        Raises:
            StudyError: the study cannot be read.
        """
        left = self.request.trials
        if not self.request.additional:
            with storage_errors(self.location):
                left -= trained_in(store.study)
        images = len(self.dataset.train) + len(self.dataset.validation)
        return share_for(self.request, self.dataset.input, images, device, left)

    def begin(
        self,
        store: Store,
        device: torch.device,
        share: Share,
        search: Mapping[str, object],
    ) -> Begun:
        """The study as it is found, made one of this request if it is new.

        Of several searches that make it at once, the first one decides in which precision.

        Args:
            store: open.
            device: that is trained on.
            share: of each worker.
            search: what is kept of this search.

        Raises:
            StudyError: it was made with other settings, or this device lacks its precision.
        """

        def of_study() -> Chosen | None:
            if self.request.precision != AUTO:
                return None  # as it was asked for
            settings = kept_settings(store.study, self.location)
            return self._as_made(settings, device) if settings else None

        try:
            with storage_errors(self.location):
                precision = of_study()
            if precision is None:  # timed without the lock, for which others may wait
                precision = choose(
                    self.request.precision,
                    device,
                    lambda precision: self.trial_seconds(precision, share.threads),
                )
            with storage_errors(self.location), store.allocation_lock():
                precision = of_study() or precision
                config = dataclasses.replace(self.config, precision=precision.precision)
                settings = study_settings(self.request, self.dataset, self.space, config)
                trials = self.request.trials
                if self.request.additional:
                    trials += trained_in(store.study)
                pruner = self.request.pruner or self._pruner_of(store)
                begin_search(
                    store.study,
                    self.location,
                    settings,
                    search={
                        **search,
                        "trials": trials,
                        "workers": share.workers,
                        "pruner": pruner,
                    },
                    notes=self.dataset.notes,
                )
        except StudyError as error:
            if self.request.dataset == "auto" and self.dataset.notes:
                error.add_note(self.dataset.notes[0])
            raise
        signals.check()
        with storage_errors(self.location):
            study = study_record(store.study, self.location)
        return Begun(study, trials, precision, config, pruner)

    def joined(self, store: Store, device: torch.device) -> Begun:
        """The study for one of several workers, whose parent has begun the search.

        Raises:
            StudyError: this device lacks its precision.
        """
        with storage_errors(self.location):
            study = study_record(store.study, self.location)
        precision = self._as_made(study.settings, device)
        config = dataclasses.replace(self.config, precision=precision.precision)
        pruner = self.request.pruner
        assert pruner is not None  # the parent has chosen it
        return Begun(study, self.request.trials, precision, config, pruner)

    def _pruner_of(self, store: Store) -> str:
        """That of the study's last search; in a new study the default.

        Raises:
            RequestError: it cannot be that of this request.
        """
        new = kept_settings(store.study, self.location) is None
        searches = store.study.user_attrs.get("searches", ())
        pruner: str = PRUNERS[0] if new or not searches else searches[-1].get("pruner", PRUNERS[0])
        dataclasses.replace(self.request, pruner=pruner)  # or refuse
        return pruner

    def _as_made(self, settings: StudySettings, device: torch.device) -> Chosen:
        """The precision of a study that is there."""
        if not supports(device, settings.precision):
            raise StudyError(
                f"{self.location}: expected a device with {settings.precision} instructions, since "
                f"the study is trained in {settings.precision}, got {device_name(device)}; "
                "continue it on one that has them, or take another name with --study"
            )
        return Chosen(settings.precision, "as the study was made")


def prepare(request: SearchRequest, on_event: OnEvent) -> Preparation:
    """What a request is about.

    Raises:
        RequestError: no design can be within the limits, or the space, the device or its precision
            cannot be used.
        StudyError: the study's place cannot be used.
        DataError: the dataset cannot be had.
    """
    request.check()
    device = find_device(request.device)
    like = request.location_like()
    earlier = like and read_study(like)
    if request.precision != AUTO:
        choose(request.precision, device)  # or refuse, before anything is read
    on_event(Loading())
    dataset = load_dataset(
        request.dataset,
        request.data_dir,
        split_seed=SPLIT_SEED,
        subset=request.subset,
        skip_broken=request.skip_broken,
        drop_duplicates=request.drop_duplicates,
    )
    config = search_recipe(dataset, request.epochs)
    space = request.space_for(dataset.input)

    @functools.cache
    def trial_seconds(precision: Precision, threads: int) -> float | None:
        return expected_trial_seconds(
            space,
            request.limits,
            dataset,
            dataclasses.replace(config, precision=precision),
            threads=threads,
        )

    presets = request.presets_for(dataset.input)
    if earlier is not None:
        presets |= designs_like(earlier, space, request.limits)
    prepared = Preparation(
        request,
        dataset,
        space,
        presets,
        config,
        training_choices(config, task_of(dataset), request.tune),
        _location(request, dataset),
        trial_seconds,
    )
    if warning := warning_for(prepared.location.path):
        on_event(Warned(warning))
    return prepared


def _location(request: SearchRequest, dataset: ImageDataset) -> StudyLocation:
    """Where the study is; one of these images that has the name from before keeps it."""
    if request.study is None and dataset.name == OWN_FOLDER:
        before = request.location_before()
        with suppress(StudyError):  # there is none, or it cannot be read
            if read_study(before).settings.dataset_digest == dataset.digest:
                return before
    return request.location_for(dataset.name)


def share_for(
    request: SearchRequest, input: ImageInput, images: int, device: torch.device, designs: int
) -> Share:
    """How many workers a search on so many images has for so many designs, and their threads."""
    asked = request.workers
    return workers_for(
        asked if isinstance(asked, str) else min(asked, max(1, designs)),  # more would only wait
        request.threads,
        device=device,
        input=input,
        images=images,
        useful=designs // _IN_TURN,
        cores=usable_cores(),
        free=free_bytes(),
    )


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
