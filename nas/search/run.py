"""The search: opens the study and the images, and has designs trained until there are enough."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
import torch

from nas.data.catalogue import DataError
from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.devices import device_name, find_device, free_memory, open_device
from nas.runtime.liveness import worker_name
from nas.runtime.pool import Report, WorkerError, check_is_no_import, slots_for
from nas.runtime.sharing import lock_of
from nas.runtime.verdicts import read_verdict
from nas.search.candidates import Candidates
from nas.search.continuing import of_search
from nas.search.events import Event, Loading, OnEvent, Opened, Waiting, Warned, WorkerNamed, ignore
from nas.search.plan import Plan, SearchEnding, SearchFailed
from nas.search.preparation import prepare
from nas.search.pruners import make_pruner
from nas.search.request import SearchRequest
from nas.search.samplers import make_sampler
from nas.search.trainer import make_checkpoints, make_trainer
from nas.search.worker import Worker
from nas.search.workers import WorkerDone, Workers, WorkerTask
from nas.study.location import OpenFile, StudyError, StudyGone, StudyLocation
from nas.study.reader import read_study, study_record
from nas.study.records import StudyRecord
from nas.study.storage import STORAGE_ERRORS, first_line
from nas.study.store import open_store
from nas.text import plural
from nas.training.loop import task_of
from nas.training.tuning import Value, real_values, tuned

__all__ = [
    "SearchEnding",
    "SearchFailed",
    "SearchResult",
    "run_search",
]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished search: the whole study, and why the search ended."""

    study: StudyRecord
    location: StudyLocation
    ending: SearchEnding
    newly_trained: int  # by this search
    trials: int  # that were to be trained in the study


def run_search(
    request: SearchRequest, on_event: OnEvent = ignore, *, command: str | None = None
) -> SearchResult:
    """Finds or continues the study and trains designs until it holds `request.trials` of them.

    With `request.additional` so many more than it holds as the search begins.

    Several processes may do so on one study at the same time; each returns when all are there.
    `request.workers` starts as many on this machine; from a program's main module that needs the
    usual ``if __name__ == "__main__"``. No test image is read.

    Args:
        request: what to search.
        on_event: gets what happens.
        command: how a person would repeat this; kept in the study.

    Returns:
        The study, whose `incumbent` is the best design within the limits.

    Raises:
        RequestError: no design can be within the limits, or the space or device cannot be used; or
            several workers need ``if __name__ == "__main__"`` in the program.
        DataError: the dataset cannot be had.
        StudyError: the study cannot be used, or was made with other settings.
        SearchFailed: training fails again and again, or the database does.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the trial that ran is queued again.
    """
    check_is_no_import()
    with signals.listening():
        if request.workers == 1:
            return search_alone(request, on_event, command=command, noted=True)
        return _search_with_workers(request, on_event, command)


def _noted(request: SearchRequest, command: str | None, name: str) -> dict[str, object]:
    """What a study keeps of a search."""
    return {"command": command, **of_search(request), "worker": name}


def _warn_of(device: torch.device, on_event: OnEvent) -> None:
    """Offers `nas doctor` on a GPU without a verdict, and warns of one that did not do well."""
    if device.type != "cuda":
        return
    verdict = read_verdict(device)
    if verdict is None:
        on_event(
            Warned(
                f"{device_name(device)} was not tried with this driver and torch: nas doctor "
                f"--device {device} shows in half a minute whether it trains right, and how fast"
            )
        )
    elif not verdict.good:
        on_event(
            Warned(
                f"{device_name(device)} did not do well on {verdict.checked}: nas doctor --device "
                f"{device} says why"
            )
        )


def search_alone(
    request: SearchRequest,
    on_event: OnEvent,
    *,
    command: str | None = None,
    noted: bool = False,
    file: OpenFile | None = None,
) -> SearchResult:
    """`run_search` in this process alone.

    Args:
        request: what to search.
        on_event: gets what happens.
        command: how a person would repeat this; kept in the study.
        noted: whether the study keeps a line about it; not for one of several workers.
        file: of an SQLite study, for one of several workers.
    """
    prepared = prepare(request, on_event)
    dataset, location = prepared.dataset, prepared.location
    device = open_device(request.device)

    def training_attributes(values: Mapping[str, Value]) -> Mapping[str, Value]:
        return real_values(tuned(config, values, task_of(dataset))) if prepared.choices else {}

    with _file_must_stay(), worker_name() as name, open_store(location, file) as store:
        on_event(WorkerNamed(name))
        search = _noted(request, command, name) if noted else None
        begun = prepared.begin(store, device, search)
        found, config = begun.study, begun.config
        try:
            expected = None
            if device.type == "cpu" and found.trained < begun.trials and noted:
                expected = prepared.trial_seconds(config.precision)
            _warn_of(device, on_event)
            if noted and found.doubts:
                on_event(Warned(found.doubts))
            on_event(
                Opened(
                    found,
                    location,
                    begun.trials,
                    dataset.test_images,
                    device_name(device),
                    str(begun.precision),
                    expected,
                )
            )
            images = dataset.to(device)
            candidates = Candidates(prepared.space, request.limits, prepared.choices)
            sampler = make_sampler(request.sampler, seed=0, domain=candidates.domain)
            plan = Plan(
                trials=begun.trials,
                candidates=candidates,
                epochs=config.epochs,
                seed=request.seed,
                pruner=make_pruner(
                    request.pruner,
                    epochs=config.epochs,
                    size=request.objectives[1] if len(request.objectives) > 1 else None,
                ),
                train=make_trainer(
                    images,
                    config,
                    seed=request.seed,
                    device=device,
                    lock=lock_of(device, request.per_gpu),
                ),
                checkpoint=make_checkpoints(
                    request.checkpoints_for(location),
                    dataset,
                    config,
                    seed=request.seed,
                    device=device,
                ),
                presets=prepared.presets,
                objectives=request.objectives,
                training_attributes=training_attributes,
                clean_up=lambda: free_memory(device),
                device=device_name(device),
                timeout=request.timeout,
            )
            known = frozenset(t.number for t in found.trials if t.outcome is not None)
            worker = Worker(name, store, plan, sampler, on_event, known, request.grace)
            ending = worker.run()
            study = study_record(store.study, location)
            return SearchResult(study, location, ending, worker.newly_trained, begun.trials)
        except StudyGone:
            raise
        except STORAGE_ERRORS as error:
            raise SearchFailed(
                f"{location}: the study can no longer be read or written: {first_line(error)}; "
                "what it holds is kept, and the same command continues"
            ) from error


@contextmanager
def _file_must_stay() -> Iterator[None]:
    """A block that ends as a failed search where the study's file is gone."""
    try:
        yield
    except StudyGone as error:
        raise SearchFailed(str(error)) from error


def _unended(study: StudyRecord) -> bool:
    """Whether a trial runs, or is left from a worker that is gone."""
    return any(t.outcome is None and t.worker is not None for t in study.trials)


def _search_with_workers(
    request: SearchRequest, on_event: OnEvent, command: str | None
) -> SearchResult:
    """`run_search` with several workers, which find the study made and the images read."""
    slots_for(
        request.device, request.workers, request.per_gpu
    )  # or refuse, before anything is read
    prepared = prepare(request, on_event)
    location, device = prepared.location, find_device(request.device)
    with _file_must_stay(), worker_name() as name:
        with open_store(location) as store:
            file = store.file
            search = {**_noted(request, command, name), "workers": request.workers}
            begun = prepared.begin(store, device, search)
        found, trials = begun.study, begun.trials
        left = max(1, trials - found.trained)  # more workers would only wait
        request = dataclasses.replace(
            request, trials=trials, additional=False, workers=min(request.workers, left)
        )
        expected = None
        if device.type == "cpu" and found.trained < trials:
            expected = prepared.trial_seconds(begun.config.precision)
        _warn_of(device, on_event)
        if found.doubts:
            on_event(Warned(found.doubts))
        on_event(
            Opened(
                found,
                location,
                trials,
                prepared.dataset.test_images,
                f"{device_name(device)}, {plural(request.workers, 'worker')}",
                str(begun.precision),
                expected,
                request.workers,
            )
        )
        known = frozenset(t.number for t in found.trials if t.outcome is not None)
        workers = Workers(_work, request, on_event, known, file)
        ending = None
        if found.trained < trials or _unended(found):
            ending = workers.run()
        if file is not None:
            file.check()
        study = read_study(location)
        if study.trained >= trials:
            ending = SearchEnding.DONE
        if ending is None:
            raise SearchFailed(f"{workers.failure}; the same command continues")
        return SearchResult(study, location, ending, workers.newly_trained, trials)


def _work(task: WorkerTask, report: Report) -> None:
    """What a worker's process does."""

    def on_event(event: Event) -> None:
        if not isinstance(event, Loading | Opened | Warned | Waiting):  # the parent has its own
            report(event)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        report(WorkerDone(search_alone(task.request, on_event, file=task.file).ending))
    except (RequestError, StudyError, DataError, SearchFailed) as error:
        if not isinstance(error.__cause__, StudyGone):  # the parent reports that once for all
            reason = "; ".join([str(error), *getattr(error, "__notes__", ())])
            report(WorkerError(f"failed: {reason}"))
