"""What a search is about: its images, its recipe and its study, which is made or found."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import torch

from nas.architecture import Architecture
from nas.counting import COSTS, count
from nas.data.catalogue import OWN_FOLDER
from nas.data.loading import load_dataset, reduced
from nas.data.types import ImageDataset
from nas.runtime import signals
from nas.runtime.arithmetic import Chosen, choose, supports
from nas.runtime.devices import device_name, find_device
from nas.runtime.disks import warning_for
from nas.runtime.machine import Share
from nas.runtime.precision import AUTO, Precision
from nas.search.deadline import searched_seconds
from nas.search.estimate import measure, typical_mult_adds
from nas.search.events import Loading, OnEvent, TimeSized, Warned
from nas.search.measuring import likely_limits
from nas.search.presets import designs_like
from nas.search.recipe import search_choices, search_recipe, study_settings
from nas.search.request import PRUNERS, SPLIT_SEED, SearchRequest
from nas.search.sizing import Size, Sized, Speed, Work, size
from nas.search.stale import fail_all_stale
from nas.search.workers import share_for
from nas.space import Limits, SearchSpace
from nas.study.creation import begin_search, kept_settings
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study, study_record, trained_in
from nas.study.records import StudyRecord, StudySettings
from nas.study.storage import storage_errors
from nas.study.store import Store
from nas.training.config import TrainingConfig
from nas.training.tuning import Choice
from nas.values import NO_LIMIT, typed

if TYPE_CHECKING:  # of an extra
    from nas.export.timing import Stopwatch

_TOO_LONG = 3600.0  # seconds of a search that nobody waits for
_TIME = "30m"  # that such a search has instead


@dataclass(frozen=True, slots=True)
class Begun:
    """A study that is open for a search."""

    prepared: "Preparation"  # with all that its time left open
    study: StudyRecord  # as it was found, or is now if it is new
    trials: int  # that it is to hold trained when the search ends
    precision: Chosen
    config: TrainingConfig  # the recipe, in that precision
    seconds_left: float = math.inf  # of the time that the study is searched

    @property
    def ended(self) -> frozenset[int]:
        """Numbers of the trials that had ended."""
        return frozenset(t.number for t in self.study.trials if t.outcome is not None)


@dataclass(frozen=True)  # without slots, for what is computed once
class Preparation:
    """What a request is about, once its images are read."""

    request: SearchRequest
    dataset: ImageDataset
    space: SearchSpace
    presets: Mapping[str, Architecture]
    config: TrainingConfig  # whose precision is not chosen yet
    choices: Sequence[Choice]
    location: StudyLocation
    likely: Limits
    """What designs will cost at most: less than the limits, where their latency has one."""
    speed: Callable[[Precision, int], Speed | None]
    """Of a worker on this device, with so many threads; measured once each."""

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
        on_event: OnEvent,
    ) -> Begun:
        """The study as it is found, made one of this request if it is new.

        Of several searches that make it at once, the first one decides what none was asked for: the
        precision, and what fits the time.

        Args:
            store: open.
            device: that is trained on.
            share: of each worker.
            search: what is kept of this search.
            on_event: hears what was chosen by the time.

        Raises:
            StudyError: it was made with other settings, or this device lacks its precision.
        """

        def of_study() -> _Decided | None:
            settings = kept_settings(store.study, self.location)
            if settings is None:
                return None
            like = self._like(settings, store.study.user_attrs.get("searches", ()))
            if self.request.precision != AUTO:  # as it was asked for
                return _Decided(like, choose(self.request.precision, device))
            return _Decided(like, self._as_made(settings, device))

        try:
            with storage_errors(self.location):
                decided = of_study()
            if decided is None:  # timed without the lock, for which others may wait
                decided = self._decided(device, share)
            with storage_errors(self.location), store.allocation_lock():
                decided = of_study() or decided
                prepared, precision = decided.prepared, decided.precision
                request, dataset = prepared.request, prepared.dataset
                config = dataclasses.replace(prepared.config, precision=precision.precision)
                trials = request.trials
                if request.additional:
                    trials += trained_in(store.study)
                begin_search(
                    store.study,
                    self.location,
                    study_settings(
                        dataset,
                        prepared.space,
                        request.limits,
                        request.latency,
                        config,
                        prepared.choices,
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
                study = study_record(store.study, self.location)
                fail_all_stale(store, request.grace)
                trials_now = store.study.get_trials(deepcopy=False)
        except StudyError as error:
            if self.request.dataset == "auto" and self.dataset.notes:
                error.add_note(self.dataset.notes[0])
            raise
        signals.check()
        if decided.sized:
            on_event(self._announcement(decided, search.get("command")))
        if left_out := [name for name in self.presets if name not in prepared.presets]:
            most = COSTS["mult_adds"].exactly(prepared.request.limits["mult_adds"])
            on_event(
                Warned(
                    f"the study's limit of {most}, chosen for its --time, excludes "
                    f"{', '.join(left_out)}; a new study with a higher --max-mult-adds admits them"
                )
            )
        left = request.search_seconds - searched_seconds(trials_now, datetime.now())
        return Begun(prepared, study, trials, precision, config, left)

    def joined(self, store: Store, device: torch.device) -> Begun:
        """The study for one of several workers, whose parent has begun the search.

        Raises:
            StudyError: this device lacks its precision.
        """
        with storage_errors(self.location):
            study = study_record(store.study, self.location)
        prepared = self._with(study.settings)
        precision = self._as_made(study.settings, device)
        config = dataclasses.replace(prepared.config, precision=precision.precision)
        return Begun(prepared, study, self.request.trials, precision, config)

    def _as_made(self, settings: StudySettings, device: torch.device) -> Chosen:
        """The precision of a study that is there."""
        if not supports(device, settings.precision):
            raise StudyError(
                f"{self.location}: expected a device with {settings.precision} instructions, "
                f"since the study is trained in {settings.precision}, got {device_name(device)}; "
                "continue it on one that has them, or choose another name with --study"
            )
        return Chosen(settings.precision, "as in the study")

    def _like(self, settings: StudySettings, searches: Sequence[Mapping[str, object]]) -> Self:
        """For a study that is there: what was not asked for is as in the study.

        Raises:
            RequestError: its pruner cannot be that of this request.
        """
        times = [str(search.get("time", NO_LIMIT)) for search in searches]
        time, pruner = self.request.time, self.request.pruner
        if time == AUTO:
            time = times[-1] if times else NO_LIMIT
        if pruner is None:
            pruner = str(searches[-1].get("pruner", PRUNERS[0]) if searches else PRUNERS[0])
        values: dict[str, Any] = {"time": time, "pruner": pruner}
        if any(limit != NO_LIMIT for limit in (time, *times)):
            made = Size(settings.epochs, settings.subset, settings.limits.get("mult_adds"))
            values |= self._left_open(made)
        return self._with(settings, **values)

    def _decided(self, device: torch.device, share: Share) -> "_Decided":
        """For a new study, by this machine's speed."""
        request = self.request
        precision = choose(
            request.precision,
            device,
            lambda precision: self._run_seconds(precision, share.threads),
        )
        time, otherwise = request.time, None
        if time == AUTO:
            time = NO_LIMIT
            if device.type == "cpu" and self._may_be_limited:
                each = self.trial_seconds(precision.precision, share.threads)
                otherwise = (each or 0) * request.trials / share.workers
                if otherwise > _TOO_LONG:
                    time = _TIME
        prepared = self._with(time=time, pruner=request.pruner or PRUNERS[0])
        seconds = prepared.request.search_seconds
        as_given = self._as_given
        open_parts = self._left_open(as_given)
        if seconds == math.inf or not open_parts:
            return _Decided(prepared, precision)
        speed = self.speed(precision.precision, share.threads)
        if speed is None:
            return _Decided(prepared, precision)
        given = {part.name for part in dataclasses.fields(Size)} - set(open_parts)
        sized = size(speed, seconds, request.trials, share.workers, self._work, as_given, given)
        return _Decided(prepared._with(**self._left_open(sized.size)), precision, sized, otherwise)

    @property
    def _may_be_limited(self) -> bool:
        request = self.request
        given = (request.epochs, request.subset, request.max_mult_adds, request.space)
        return all(value is None for value in (*given, request.timeout))

    @property
    def _as_given(self) -> Size:
        """What holds without a limit of time."""
        most = self.request.limits.get("mult_adds")
        return Size(self.config.epochs, self.dataset.subset, most)

    def _left_open(self, size: Size) -> dict[str, Any]:
        """The parts of a size that were not given."""
        parts = dataclasses.asdict(size)
        if self.request.space is not None:
            del parts["max_mult_adds"]  # its choices are to stay
        return {n: value for n, value in parts.items() if getattr(self.request, n) is None}

    def _with(self, settings: StudySettings | None = None, **values: Any) -> Self:
        """The same for a request with other values; with the recipe of a study's settings."""
        request = dataclasses.replace(self.request, **values)
        dataset = self.dataset
        if dataset.subset == 1:
            dataset = reduced(dataset, request.subset or 1.0)
        device = find_device(request.device)
        config = search_recipe(dataset, device, request.epochs, settings)
        choices = search_choices(config, dataset, device, request.tune, settings)
        return dataclasses.replace(
            self,
            request=request,
            dataset=dataset,
            presets={
                name: design
                for name, design in self.presets.items()
                if request.limits.allow(count(design, dataset.input))
            },
            config=config,
            choices=choices,
        )

    @functools.cached_property
    def _work(self) -> Work:
        space, limits, dataset = self.space, self.likely, self.dataset
        smallest = space.smallest(limits, by="mult_adds")
        named = self.request.presets_for(space.input)
        return Work(
            train_images=round(len(dataset.train) / dataset.subset),
            validation_images=len(dataset.validation),
            smallest=count(smallest, space.input).mult_adds,
            typical=typical_mult_adds(space, limits),
            named=max((count(d, space.input).mult_adds for d in named.values()), default=0),
            stops_early=self.request.pruner != "none",
        )

    def trial_seconds(self, precision: Precision, threads: int) -> float | None:
        """Seconds expected of a trial on average; None for designs too large for this machine."""
        speed = self.speed(precision, threads)
        return self._work.trial_seconds(speed, self._as_given) if speed else None

    def _run_seconds(self, precision: Precision, threads: int) -> float | None:
        """Seconds of a full run of a typical design; None for one too large for this machine."""
        speed = self.speed(precision, threads)
        return self._work.run_seconds(speed, self._as_given) if speed else None

    def _announcement(self, decided: "_Decided", command: object) -> TimeSized:
        sized, request = decided.sized, decided.prepared.request
        assert sized is not None
        options = self._left_open(sized.size)
        if self.request.time == AUTO:
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


@dataclass(frozen=True, slots=True)
class _Decided:
    """What a search of a study is about, with nothing left open."""

    prepared: Preparation
    precision: Chosen
    sized: Sized | None = None  # of a new study, by its time
    otherwise: float | None = None  # seconds without the limit, where nobody asked for it


def prepare(
    request: SearchRequest, on_event: OnEvent, clock: "Stopwatch | None" = None
) -> Preparation:
    """What a request is about.

    Args:
        request: of the search.
        on_event: hears that images are read.
        clock: measures latencies, where a design is to be shown that is within their limit.

    Raises:
        RequestError: no design can be within the limits, or the space, the device or its precision
            cannot be used.
        StudyError: the study's place cannot be used.
        DataError: the dataset cannot be had.
    """
    request.check()
    device = find_device(request.device)
    like = request.location_like()
    try:
        earlier = None if like is None else read_study(like)
    except StudyError as error:
        raise StudyError(f"--like: {error}") from error
    if request.precision != AUTO:
        choose(request.precision, device)  # or refuse, before anything is read
    on_event(Loading())
    dataset = load_dataset(
        request.dataset,
        request.data_dir,
        split_seed=SPLIT_SEED,
        subset=request.subset or 1.0,
        skip_broken=request.skip_broken,
        drop_duplicates=request.drop_duplicates,
    )
    config = search_recipe(dataset, device, request.epochs)
    space = request.space_for(dataset.input)

    likely = request.limits
    if clock is not None:
        likely = likely_limits(clock, space, request.limits)

    @functools.cache
    def speed(precision: Precision, threads: int) -> Speed | None:
        return measure(
            space,
            likely,
            dataset,
            dataclasses.replace(config, precision=precision),
            threads=threads,
            device=device,
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
        search_choices(config, dataset, device, request.tune),
        _location(request, dataset),
        likely,
        speed,
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
