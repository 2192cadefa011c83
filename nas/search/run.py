"""The search: opens the study and the images, and has designs trained until there are enough."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch

from nas.data.catalogue import DataError
from nas.errors import RequestError
from nas.files import remove_unfinished
from nas.runtime import signals
from nas.runtime.devices import device_name, find_device, free_memory, in_words, open_device
from nas.runtime.liveness import worker_name
from nas.runtime.load import is_busy
from nas.runtime.machine import Share
from nas.runtime.pool import Report, WorkerError, check_is_no_import, check_workers
from nas.runtime.sharing import lock_of
from nas.runtime.verdicts import read_verdict
from nas.search.beginning import Begun, begin, join
from nas.search.candidates import Candidates
from nas.search.continuing import of_search
from nas.search.events import MeasuringLatency, OnEvent, Opened, Warned, ignore
from nas.search.latency import LatencyTable
from nas.search.measuring import (
    Latencies,
    begin_latencies,
    check_machine,
    make_clock,
)
from nas.search.plan import Plan, SearchEnding, SearchFailed
from nas.search.preparation import prepare
from nas.search.pruners import make_pruner, warning_of_warmup
from nas.search.remaining import mean_seconds
from nas.search.request import SearchRequest
from nas.search.samplers import make_sampler
from nas.search.trainer import CandidateTraining
from nas.search.worker import Worker
from nas.search.workers import WorkerDone, WorkerNamed, Workers, WorkerTask
from nas.study.chance import noise_in_words
from nas.study.location import OpenFile, StudyError, StudyGone, StudyLocation
from nas.study.reader import read_study, study_record
from nas.study.records import StudyRecord
from nas.study.storage import STORAGE_ERRORS, first_line
from nas.study.store import Store, open_store
from nas.training.loop import task_of
from nas.training.tuning import Value, real_values, tuned

__all__ = [
    "SearchEnding",
    "SearchFailed",
    "SearchResult",
    "run_search",
]


_BUSY = (
    "other programs compute on this machine: latencies come out too long, and others than next time"
)


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
        check_workers(request.device, request.workers, request.per_gpu, useful=request.trials)
        clock = None if request.latency is None else make_clock(request.latency)
        prepared = prepare(request, on_event, clock)
        location = prepared.location
        device = find_device(request.device)
        checkpoints = request.checkpoints_for(location)
        with _must_stay(location), _removed_if_empty(checkpoints), worker_name() as name:
            search = {"command": command, **of_search(request), "worker": name}
            with open_store(location) as store:
                share = prepared.share(store, device)
                if share.workers == 1:
                    open_device(request.device, share.threads)
                if clock is not None:
                    check_machine(store, location, clock, anew=request.latency_anew)
                begun = begin(prepared, store, device, share, search, on_event)
                if clock is not None:
                    on_event(MeasuringLatency(clock.machine))
                    if is_busy():
                        on_event(Warned(_BUSY))
                    begin_latencies(
                        store, clock, prepared.space, request.limits, anew=request.latency_anew
                    )
                if share.workers == 1:
                    _announce(begun, device, share, on_event)
                    worker = _make_worker(begun, device, store, name, on_event)
                    ending = worker.run()
                    study = study_record(store.study, location)
                    return SearchResult(study, location, ending, worker.newly_trained, begun.trials)
                file = store.file
            return _search_with_workers(begun, device, share, file, on_event)


def _warning_of(device: torch.device) -> str | None:
    """Offers `nas doctor` on a GPU without a verdict, and warns of one that did not do well."""
    if device.type != "cuda":
        return None
    verdict = read_verdict(device)
    if verdict is None:
        return (
            f"{device_name(device)} was not checked with this driver and torch: nas doctor "
            f"--device {device} shows in half a minute whether it trains correctly, and how fast"
        )
    if not verdict.good:
        return (
            f"{device_name(device)} failed its check on {verdict.checked}: nas doctor --device "
            f"{device} says why"
        )
    return None


def _announce(begun: Begun, device: torch.device, share: Share, on_event: OnEvent) -> None:
    """Says what is about to be searched, and then what to keep in mind."""
    prepared, study = begun.prepared, begun.study
    request, expected = prepared.request, None
    assert request.pruner is not None, "chosen as the study was begun"
    warnings = [_warning_of(device), study.doubts]
    if request.dataset == "auto" and study.settings.dataset == "digits":
        why, *_ = prepared.dataset.notes  # CIFAR-10 is not there
        warnings.append(why if why not in study.notes else None)
    if study.trained < begun.trials:
        expected = mean_seconds(study, in_words(device, Share(1, share.threads)))
        limited = begun.seconds_left < math.inf  # then its own trials say how long they take
        if expected is None and device.type == "cpu" and not limited:  # a GPU soon shows it
            expected = prepared.trial_seconds(begun.config.precision, share.threads)
        warnings += [noise_in_words(study), warning_of_warmup(request.pruner, begun.config)]
    time_left, timeout = max(0.0, begun.seconds_left), request.timeout or math.inf
    on_event(
        Opened(
            study,
            prepared.location,
            begun.trials,
            prepared.dataset.test_images,
            in_words(device, share),
            str(begun.precision),
            expected,
            workers=share.workers,
            seconds_left=min(time_left, timeout),
            ended_by="--timeout" if timeout < time_left else "--time",
            pruner=request.pruner if begun.config.epochs > 1 else "none",
            threads=share.computing(device),
        )
    )
    for warning in filter(None, warnings):
        on_event(Warned(warning))


def _make_worker(
    begun: Begun,
    device: torch.device,
    store: Store,
    name: str,
    on_event: OnEvent,
) -> Worker:
    """A worker of this process."""
    prepared, config = begun.prepared, begun.config
    request, dataset = prepared.request, prepared.dataset
    assert request.pruner is not None, "chosen when the study was started"

    def training_attributes(values: Mapping[str, Value]) -> Mapping[str, Value]:
        if not prepared.choices:
            return {}
        return real_values(tuned(config, values, task_of(dataset, device)))

    training = CandidateTraining(
        dataset=dataset.to(device),
        config=config,
        seed=request.seed,
        device=device,
        lock=lock_of(device, request.per_gpu),
    )
    checkpoints = request.checkpoints_for(prepared.location)
    remove_unfinished(checkpoints)
    latencies = table = None
    if request.latency is not None:
        table = LatencyTable(request.latency.max_ms, dataset.input)
        latencies = Latencies(store, table, make_clock(request.latency))
    candidates = Candidates(prepared.space, request.limits, prepared.choices, table)
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
        train=training.train,
        checkpoint=lambda candidate: training.checkpoint_in(checkpoints, candidate),
        presets=prepared.presets,
        objectives=request.objectives,
        latencies=latencies,
        training_attributes=training_attributes,
        clean_up=lambda: free_memory(device),
        device=device_name(device),
        timeout=request.timeout,
        time_limit=request.search_seconds,
    )
    sampler = make_sampler(request.sampler, seed=0, domain=candidates.domain)
    return Worker(name, store, plan, sampler, on_event, begun.ended, request.grace)


@contextmanager
def _removed_if_empty(checkpoints: Path) -> Iterator[None]:
    """Folders that were made for checkpoints go when the block ends, if nothing is in them."""
    try:
        yield
    finally:
        with suppress(OSError):
            checkpoints.rmdir()
            checkpoints.parent.rmdir()


@contextmanager
def _must_stay(location: StudyLocation) -> Iterator[None]:
    """A block that ends as a failed search where the study's database is gone."""
    try:
        yield
    except StudyGone as error:
        raise SearchFailed(str(error)) from error
    except STORAGE_ERRORS as error:
        raise SearchFailed(
            f"{location}: the study can no longer be read or written: {first_line(error)}; "
            "what it holds is kept, and the same command continues"
        ) from error


def _search_with_workers(
    begun: Begun,
    device: torch.device,
    share: Share,
    file: OpenFile | None,
    on_event: OnEvent,
) -> SearchResult:
    """Searches with several processes, which find the study made and the images read."""
    request, location, trials = begun.prepared.request, begun.prepared.location, begun.trials
    _announce(begun, device, share, on_event)
    each = dataclasses.replace(
        request,
        study=location.name,
        trials=trials,
        additional=False,
        enqueue=(),
        like=None,
        latency_anew=False,
        workers=1,
        threads=share.threads,
    )
    presets = begun.prepared.presets
    workers = Workers(_work, each, presets, share.workers, on_event, begun.ended, file)
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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        prepared = prepare(task.request, ignore)  # the parent has shown it
        prepared = dataclasses.replace(prepared, presets=task.presets)
        device = open_device(task.request.device, task.request.threads)
        with (
            _must_stay(prepared.location),
            worker_name() as name,
            open_store(prepared.location, task.file) as store,
        ):
            report(WorkerNamed(name))
            begun = join(prepared, store, device)
            worker = _make_worker(begun, device, store, name, report)
            report(WorkerDone(worker.run()))
    except (RequestError, StudyError, DataError, SearchFailed) as error:
        if not isinstance(error.__cause__, StudyGone):  # the parent reports that once for all
            reason = "; ".join([str(error), *getattr(error, "__notes__", ())])
            report(WorkerError(f"failed: {reason}"))
