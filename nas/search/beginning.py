"""The study of a search: it is found, or made with all that its request leaves open."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import torch

from nas.counting import COSTS
from nas.runtime import signals
from nas.runtime.arithmetic import ChosenPrecision, choose, supports
from nas.runtime.devices import device_name
from nas.runtime.machine import Share
from nas.runtime.precision import AUTO
from nas.search.deadline import searched_seconds
from nas.search.events import OnEvent, TimeSized, Warned
from nas.search.preparation import Preparation
from nas.search.recipe import study_settings
from nas.search.request import PRUNERS, SearchRequest
from nas.search.sizing import Size, Sized
from nas.search.stale import fail_all_stale
from nas.study.creation import begin_search, kept_settings
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import study_record, trained_in
from nas.study.records import StudyRecord, StudySettings
from nas.study.storage import storage_errors
from nas.study.store import Store
from nas.training.config import TrainingConfig
from nas.values import NO_LIMIT, typed

_TOO_LONG = 3600.0  # seconds of a search that nobody waits for
_TIME = "30m"  # that such a search has instead


@dataclass(frozen=True, slots=True)
class Begun:
    """A study that is open for a search."""

    prepared: Preparation  # with all that its time left open
    study: StudyRecord  # as it was found, or is now if it is new
    trials: int  # that it is to hold trained when the search ends
    precision: ChosenPrecision
    config: TrainingConfig  # the recipe, in that precision
    seconds_left: float = math.inf  # of the time that the study is searched

    @property
    def ended(self) -> frozenset[int]:
        """Numbers of the trials that had ended."""
        return frozenset(t.number for t in self.study.trials if t.outcome is not None)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What a search of a study is about, with nothing left open."""

    prepared: Preparation
    precision: ChosenPrecision
    sized: Sized | None = None  # of a new study, by its time
    otherwise: float | None = None  # seconds without the limit, where nobody asked for it


def begin(
    prepared: Preparation,
    store: Store,
    device: torch.device,
    share: Share,
    search: Mapping[str, object],
    on_event: OnEvent,
) -> Begun:
    """The study as it is found, made one of this request if it is new.

    Of several searches that make it at once, the first one decides what none was asked for: the
    precision, and what fits the time.

    Args:
        prepared: what was asked for.
        store: open.
        device: that is trained on.
        share: of each worker.
        search: what is kept of this search.
        on_event: hears what was chosen by the time.

    Raises:
        StudyError: it was made with other settings, or this device lacks its precision.
    """
    asked, location = prepared.request, prepared.location

    def of_study() -> _Decided | None:
        settings = kept_settings(store.study, location)
        if settings is None:
            return None
        like = _like(prepared, settings, store.study.user_attrs.get("searches", ()))
        if asked.precision != AUTO:  # as it was asked for
            return _Decided(like, choose(asked.precision, device))
        return _Decided(like, _as_made(location, settings, device))

    try:
        with storage_errors(location):
            decided = of_study()
        if decided is None:  # timed without the lock, for which others may wait
            decided = _decided(prepared, device, share)
        with storage_errors(location), store.allocation_lock():
            decided = of_study() or decided
            complete, precision = decided.prepared, decided.precision
            request, dataset = complete.request, complete.dataset
            config = dataclasses.replace(complete.config, precision=precision.precision)
            trials = request.trials
            if request.additional:
                trials += trained_in(store.study)
            begin_search(
                store.study,
                location,
                study_settings(
                    dataset,
                    complete.space,
                    request.limits,
                    request.latency,
                    config,
                    complete.choices,
                ),
                search={
                    **search,
                    "time": request.time,
                    "pruner": request.pruner,
                    "trials": trials,
                    "workers": share.workers,
                    "chance": dataset.validation.largest_share,
                },
                notes=dataset.notes,
            )
            study = study_record(store.study, location)
            fail_all_stale(store, request.grace)
            trials_now = store.study.get_trials(deepcopy=False)
    except StudyError as error:
        if asked.dataset == "auto" and prepared.dataset.notes:
            error.add_note(prepared.dataset.notes[0])
        raise
    signals.check()
    if decided.sized:
        on_event(_announcement(prepared, decided, search.get("command")))
    if left_out := [name for name in prepared.presets if name not in complete.presets]:
        most = COSTS["mult_adds"].exactly(request.limits["mult_adds"])
        on_event(
            Warned(
                f"the study's limit of {most} excludes {', '.join(left_out)}; a new study with a "
                "higher --max-mult-adds admits them"
            )
        )
    left = request.search_seconds - searched_seconds(trials_now, datetime.now())
    return Begun(complete, study, trials, precision, config, left)


def join(prepared: Preparation, store: Store, device: torch.device) -> Begun:
    """The study for one of several workers, whose parent has begun the search.

    Raises:
        StudyError: this device lacks its precision.
    """
    with storage_errors(prepared.location):
        study = study_record(store.study, prepared.location)
    prepared = prepared.with_values(study.settings)
    precision = _as_made(prepared.location, study.settings, device)
    config = dataclasses.replace(prepared.config, precision=precision.precision)
    return Begun(prepared, study, prepared.request.trials, precision, config)


def _as_made(
    location: StudyLocation, settings: StudySettings, device: torch.device
) -> ChosenPrecision:
    """The precision of a study that is there."""
    if not supports(device, settings.precision):
        raise StudyError(
            f"{location}: expected a device with {settings.precision} instructions, "
            f"since the study is trained in {settings.precision}, got {device_name(device)}; "
            "continue it on one that has them, or choose another name with --study"
        )
    return ChosenPrecision(settings.precision, "as in the study")


def _like(
    prepared: Preparation, settings: StudySettings, searches: Sequence[Mapping[str, object]]
) -> Preparation:
    """For a study that is there: what was not asked for is as in the study.

    Raises:
        RequestError: its pruner cannot be that of this request.
    """
    times = [str(search.get("time", NO_LIMIT)) for search in searches]
    time, pruner = prepared.request.time, prepared.request.pruner
    if time == AUTO:
        time = times[-1] if times else NO_LIMIT
    if pruner is None:
        pruner = str(searches[-1].get("pruner", PRUNERS[0]) if searches else PRUNERS[0])
    values: dict[str, Any] = {"time": time, "pruner": pruner}
    if any(limit != NO_LIMIT for limit in (time, *times)):
        made = Size(settings.epochs, settings.subset, settings.limits.get("mult_adds"))
        values |= prepared.left_open(made)
    return prepared.with_values(settings, **values)


def _decided(prepared: Preparation, device: torch.device, share: Share) -> _Decided:
    """For a new study, by this machine's speed."""
    request = prepared.request
    precision = choose(
        request.precision,
        device,
        lambda precision: prepared.run_seconds(precision, share.threads),
    )
    time, otherwise = request.time, None
    if time == AUTO:
        time = NO_LIMIT
        if device.type == "cpu" and _may_be_limited(request):
            each = prepared.trial_seconds(precision.precision, share.threads)
            otherwise = (each or 0) * request.trials / share.workers
            if otherwise > _TOO_LONG:
                time = _TIME
    timed = prepared.with_values(time=time, pruner=request.pruner or PRUNERS[0])
    sized = prepared.sized(precision.precision, share, timed.request.search_seconds)
    if sized is None:
        return _Decided(timed, precision)
    complete = timed.with_values(**prepared.left_open(sized.size))
    return _Decided(complete, precision, sized, otherwise)


def _may_be_limited(request: SearchRequest) -> bool:
    given = (request.epochs, request.subset, request.max_mult_adds, request.space)
    return all(value is None for value in (*given, request.timeout))


def _announcement(prepared: Preparation, decided: _Decided, command: object) -> TimeSized:
    sized, request = decided.sized, decided.prepared.request
    assert sized is not None
    options = prepared.left_open(sized.size)
    if prepared.request.time == AUTO:
        options["time"] = request.time
    words = [f"--{n.replace('_', '-')} {typed(value)}" for n, value in options.items()]
    return TimeSized(
        request.time,
        sized.size,
        sized.trial_seconds,
        sized.trials,
        request.trials,
        decided.otherwise,
        " ".join([str(command or "nas search"), *words]),
    )
