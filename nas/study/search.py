"""The search: propose, refuse or train, record; until the asked number of designs is trained."""

import contextlib
import dataclasses
import gc
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from nas.architecture import Architecture
from nas.counting import Count, count
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.model import build
from nas.space import SearchSpace
from nas.study.estimate import expected_trial_seconds
from nas.study.interrupts import Interrupts
from nas.study.location import StudyLocation
from nas.study.proposals import (
    derived_seed,
    enqueue_unseen,
    has_unseen,
    make_sampler,
    mark_excess,
    suggest,
)
from nas.study.pruners import make_pruner
from nas.study.records import (
    DIED,
    INTERRUPTED,
    QUEUED_AGAIN,
    Outcome,
    StudyRecord,
    StudySettings,
    TrialRecord,
)
from nas.study.request import RequestError, SearchRequest
from nas.study.storage import (
    STORAGE_ERRORS,
    first_line,
    open_or_create,
    study_record,
    trial_record,
)
from nas.training.config import TrainingConfig, fast
from nas.training.loop import Ending, EpochResult, TrainingResult, task_of, train

SPLIT_SEED = 0  # fixed: the validation part must not change with the seed of a search

_DUPLICATES = 3  # in a row before a design is drawn instead
_REJECTIONS = 30  # over budget or duplicate in a row before a design is drawn instead
_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up


class SearchFailed(RuntimeError):
    """Training fails again and again, or the database is gone; the message says why."""


class SearchEnding(StrEnum):
    """Why a search returned."""

    DONE = "done"  # the asked number of designs is trained
    EXHAUSTED = "exhausted"  # every design of the space within the limits has been tried
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished search: the whole study, and why the search ended."""

    study: StudyRecord
    location: StudyLocation
    ending: SearchEnding
    newly_trained: int  # by this search


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known when the trials begin."""

    study: StudyRecord  # as it was found
    location: StudyLocation
    test_images: int  # none of them is read
    device: str
    trial_seconds: float | None  # expected of a full run; on a GPU the first trial tells sooner


class Observer:
    """Hears what a search does; every method may be overridden."""

    def loading(self, request: SearchRequest) -> None:
        """Images are about to be read, which may take a while."""

    def opened(self, opening: Opening) -> None:
        """The study is open and its images are there; now the trials begin."""

    def trial_started(self, number: int, architecture: Architecture, cost: Count) -> None:
        """A design is about to be trained."""

    def epoch_ended(self, number: int, result: EpochResult) -> None:
        """A trial has done an epoch."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has its outcome, of whatever kind."""


def run_search(
    request: SearchRequest, observer: Observer | None = None, *, command: str | None = None
) -> SearchResult:
    """Finds or continues the study and trains designs until it holds `request.trials` of them.

    No test image is read.

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
    config = search_recipe(dataset, request.epochs)
    location = request.location_for(dataset.name)
    settings = study_settings(request, dataset, space, config)
    with location.lock(), Interrupts() as interrupts:
        study = open_or_create(
            location, settings, seed=request.seed, notes=dataset.notes, command=command
        )
        interrupts.check()
        try:
            found = study_record(study, location)
            expected = None
            if device.type == "cpu" and found.trained < request.trials:
                with interrupts.allowed():
                    expected = _expected_trial_seconds(request, space, dataset, config)
            observer.opened(
                Opening(found, location, dataset.test_images, device_name(device), expected)
            )
            loop = _Loop(
                study, request, dataset.to(device), space, config, device, observer, interrupts
            )
            ending = loop.run()
            return SearchResult(study_record(study, location), location, ending, loop.newly_trained)
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
        if _no_memory(error):
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
    )


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a study stands between two trials; all that decides what comes next."""

    trained: int
    finished: int  # trials that ended for good; numbers the next proposal
    seen: frozenset[str]  # keys of designs that were or are being trained
    duplicates: int  # the last trials in a row that were duplicates
    rejected: int  # the last trials in a row that were duplicates or over budget
    failures: tuple[str, ...]  # reasons of the last trials in a row that could not be trained


class _Loop:
    """One worker's trials, one after another."""

    def __init__(
        self,
        study: optuna.Study,
        request: SearchRequest,
        dataset: ImageDataset,
        space: SearchSpace,
        config: TrainingConfig,
        device: torch.device,
        observer: Observer,
        interrupts: Interrupts,
    ) -> None:
        self._study = study
        self._request = request
        self._limits = request.limits
        self._dataset = dataset
        self._space = space
        self._config = config
        self._device = device
        self._observer = observer
        self._interrupts = interrupts
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._study.pruner = make_pruner(request.pruner, epochs=config.epochs)
        self.newly_trained = 0

    def run(self) -> SearchEnding:
        """Trials until the study has enough of them, or there is nothing or no time left."""
        deadline = time.monotonic() + (self._request.timeout or float("inf"))
        self._take_over_abandoned()
        failed_before = len(self._standing().failures)
        while (standing := self._standing()).trained < self._request.trials:
            self._interrupts.check()
            if time.monotonic() >= deadline:
                return SearchEnding.TIMEOUT
            if len(standing.failures) - failed_before >= _FAILURES:
                raise SearchFailed(
                    f"{_FAILURES} designs in a row could not be trained; "
                    f"the last one: {standing.failures[-1]}"
                )
            if not has_unseen(self._space, self._limits, standing.seen):
                return SearchEnding.EXHAUSTED
            if standing.duplicates >= _DUPLICATES or standing.rejected >= _REJECTIONS:
                rng = random.Random(derived_seed(self._request.seed, "draw", standing.finished))
                enqueue_unseen(self._study, self._space, self._limits, standing.seen, rng)
            trial = self._one_trial(standing)
            self._observer.trial_ended(trial)
            assert trial.outcome is not None
            if trial.outcome.counts:
                self.newly_trained += 1
                failed_before = 0
        return SearchEnding.DONE

    def _standing(self) -> _Standing:
        trained = finished = duplicates = rejected = 0
        seen = set()
        failures: list[str] = []
        for trial in self._study.get_trials(deepcopy=False):
            attributes = trial.user_attrs
            if trial.state is TrialState.WAITING or attributes.get("reason") in QUEUED_AGAIN:
                continue
            outcome = Outcome(attributes["outcome"]) if "outcome" in attributes else None
            if outcome not in (Outcome.OVER_BUDGET, Outcome.DUPLICATE) and "key" in attributes:
                seen.add(attributes["key"])
            if outcome is None:
                continue  # another process is at it
            finished += 1
            trained += outcome.counts
            duplicates = duplicates + 1 if outcome is Outcome.DUPLICATE else 0
            if outcome in (Outcome.OVER_BUDGET, Outcome.DUPLICATE):
                rejected += 1
                continue
            rejected = 0
            if outcome.counts:
                failures.clear()
            else:
                failures.append(f"trial {trial.number}: {outcome}: {attributes.get('reason')}")
        return _Standing(trained, finished, frozenset(seen), duplicates, rejected, tuple(failures))

    def _one_trial(self, standing: _Standing) -> TrialRecord:
        # A sampler of its own for every trial: a search that was stopped and continued proposes
        # what one that ran through would have.
        self._study.sampler = make_sampler(
            self._request.sampler, seed=derived_seed(self._request.seed, standing.finished)
        )
        trial = self._study.ask()
        try:
            return self._carry_out(trial, standing)
        except KeyboardInterrupt:
            self._tell(trial, Outcome.FAILED, reason=INTERRUPTED)
            self._study.enqueue_trial(trial.params)
            raise
        except BaseException as error:  # of ours or the database's: the search ends
            with contextlib.suppress(*STORAGE_ERRORS):
                self._tell(trial, Outcome.FAILED, reason=_one_line(error))
            raise

    def _carry_out(self, trial: optuna.Trial, standing: _Standing) -> TrialRecord:
        trial.set_user_attr("worker", self._worker)
        architecture = suggest(trial, self._space)
        cost = count(architecture, self._dataset.input)
        _describe(trial, architecture, cost)
        if not mark_excess(trial, cost, self._limits):
            return self._tell(trial, Outcome.OVER_BUDGET)
        if architecture.key in standing.seen:
            return self._tell(trial, Outcome.DUPLICATE)
        self._observer.trial_started(trial.number, architecture, cost)
        try:
            with self._interrupts.allowed():
                result = self._train(trial, architecture)
        except STORAGE_ERRORS:
            raise
        except Exception as error:
            outcome = Outcome.OUT_OF_MEMORY if _no_memory(error) else Outcome.FAILED
            return self._tell(trial, outcome, reason=_one_line(error))
        finally:
            self._free_memory()
        return self._tell_result(trial, result)

    def _train(self, trial: optuna.Trial, architecture: Architecture) -> TrainingResult:
        seed = self._request.seed
        model = build(
            architecture,
            self._dataset.input,
            generator=torch.Generator().manual_seed(seed),
            zero_last_gamma=self._config.zero_last_gamma,
        )

        def on_epoch(result: EpochResult) -> bool:
            self._interrupts.hold()
            trial.report(result.val_accuracy, step=result.epoch)
            stop = trial.should_prune()
            self._observer.epoch_ended(trial.number, result)
            if not stop and result.epoch < self._config.epochs:
                self._interrupts.release()  # else the run is over, and is recorded first
            return stop

        return train(
            model, self._dataset, self._config, seed=seed, device=self._device, on_epoch=on_epoch
        )

    def _tell_result(self, trial: optuna.Trial, result: TrainingResult) -> TrialRecord:
        trial.set_user_attr("epochs", len(result.epochs))
        trial.set_user_attr("seconds", round(result.seconds, 3))
        trial.set_user_attr("images_per_second", result.images_per_second)
        trial.set_user_attr("device", device_name(self._device))
        if result.ending is Ending.DIVERGED:
            return self._tell(trial, Outcome.DIVERGED, reason=result.reason)
        if result.ending is Ending.STOPPED:
            return self._tell(trial, Outcome.STOPPED_EARLY)
        return self._tell(trial, Outcome.TRAINED, value=result.val_accuracy)

    def _tell(
        self,
        trial: optuna.Trial,
        outcome: Outcome,
        *,
        value: float | None = None,
        reason: str | None = None,
    ) -> TrialRecord:
        if reason is not None:
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("outcome", outcome.value)
        return trial_record(self._study.tell(trial, value, state=_STATES[outcome]))

    def _take_over_abandoned(self) -> None:
        """Ends trials whose process is gone, and queues each design again, but only once."""
        deaths = Counter(
            trial.user_attrs.get("key")
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("reason") == DIED
        )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _is_alive(trial.user_attrs.get("worker")):
                continue
            key = trial.user_attrs.get("key")
            reason = DIED if deaths[key] == 0 else f"{DIED} twice on this design"
            for name, value in (("reason", reason), ("outcome", Outcome.FAILED.value)):
                self._study._storage.set_trial_user_attr(trial._trial_id, name, value)
            self._study.tell(trial.number, state=TrialState.FAIL)
            if key is not None and deaths[key] == 0:
                self._study.enqueue_trial(trial.params)

    def _free_memory(self) -> None:
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


_STATES = {
    Outcome.TRAINED: TrialState.COMPLETE,
    Outcome.STOPPED_EARLY: TrialState.PRUNED,
    Outcome.OVER_BUDGET: TrialState.PRUNED,
    Outcome.DUPLICATE: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}


def device_name(device: torch.device) -> str:
    """The device in words, such as ``cpu (2 threads)`` or ``NVIDIA H200``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Raises:
        RequestError: this machine has no such device.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if devices else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= devices:
        raise RequestError(
            f"--device: expected auto, cpu or a CUDA device of this machine, which has {devices}, "
            f"got {name!r}"
        )
    return device


def _describe(trial: optuna.Trial, architecture: Architecture, cost: Count) -> None:
    attributes: dict[str, Any] = {
        "key": architecture.key,
        "parameters": cost.parameters,
        "mult_adds": cost.mult_adds,
        "blocks": architecture.blocks,
        "channels": architecture.channels,
        "kernels": architecture.kernels,
        "shortcut_kernels": architecture.shortcut_kernels,
        "pool": architecture.pool,
    }
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def _is_alive(worker: str | None) -> bool:
    """Whether a trial's process may still run; one on another machine may."""
    if worker is None:
        return False
    host, _, process = worker.rpartition(":")
    if host != socket.gethostname():
        return True
    if int(process) == os.getpid():  # an earlier search of this process, or of its number
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _no_memory(error: Exception) -> bool:
    """Whether a design needed more memory than there is, on a GPU or in the main memory."""
    return isinstance(
        error, (torch.OutOfMemoryError, MemoryError)
    ) or "can't allocate memory" in str(error)


def _one_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
