"""What a search is about: its images, its designs and its recipe, and what these take in time."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from nas.architecture import Architecture
from nas.counting import count
from nas.data.catalogue import OWN_FOLDER
from nas.data.loading import load_dataset, reduced
from nas.data.types import ImageDataset
from nas.runtime.arithmetic import choose
from nas.runtime.devices import find_device
from nas.runtime.disks import warning_for
from nas.runtime.machine import Share
from nas.runtime.precision import AUTO, Precision
from nas.search.estimate import measure, typical_mult_adds
from nas.search.events import Loading, OnEvent, Warned
from nas.search.measuring import likely_limits
from nas.search.presets import designs_like
from nas.search.recipe import search_choices, search_recipe
from nas.search.request import SPLIT_SEED, SearchRequest
from nas.search.sizing import Size, Sized, Speed, Work, size
from nas.search.workers import share_for
from nas.space import Limits, SearchSpace
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study, trained_in
from nas.study.records import StudySettings
from nas.study.storage import storage_errors
from nas.study.store import Store
from nas.training.config import TrainingConfig
from nas.training.tuning import Choice

if TYPE_CHECKING:  # of an extra
    from nas.export.timing import Stopwatch


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

    @property
    def _as_given(self) -> Size:
        """What holds without a limit of time."""
        most = self.request.limits.get("mult_adds")
        return Size(self.config.epochs, self.dataset.subset, most)

    def left_open(self, size: Size) -> dict[str, Any]:
        """The parts of a size that were not given."""
        parts = dataclasses.asdict(size)
        if self.request.space is not None:
            del parts["max_mult_adds"]  # its choices are to stay
        return {n: value for n, value in parts.items() if getattr(self.request, n) is None}

    def with_values(self, settings: StudySettings | None = None, **values: Any) -> Self:
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

    def sized(self, precision: Precision, share: Share, seconds: float) -> Sized | None:
        """The size of which all trials fit the time; None where nothing is left open or known."""
        open_parts = self.left_open(self._as_given)
        if seconds == math.inf or not open_parts:
            return None
        speed = self.speed(precision, share.threads)
        if speed is None:
            return None
        given = {part.name for part in dataclasses.fields(Size)} - set(open_parts)
        trials, start = self.request.trials, self._as_given
        return size(speed, seconds, trials, share.workers, self._work, start, given)

    @functools.cached_property
    def _work(self) -> Work:
        space, limits, dataset = self.space, self.likely, self.dataset
        smallest = space.smallest(limits, by="mult_adds")
        named = [d for name, d in self.presets.items() if name in self.request.enqueue]
        return Work(
            train_images=round(len(dataset.train) / dataset.subset),
            validation_images=len(dataset.validation),
            smallest=count(smallest, space.input).mult_adds,
            typical=typical_mult_adds(space, limits),
            named=max((count(d, space.input).mult_adds for d in named), default=0),
            stops_early=self.request.pruner != "none",
        )

    def trial_seconds(self, precision: Precision, threads: int) -> float | None:
        """Seconds expected of a trial on average; None for designs too large for this machine."""
        speed = self.speed(precision, threads)
        return self._work.trial_seconds(speed, self._as_given) if speed else None

    def run_seconds(self, precision: Precision, threads: int) -> float | None:
        """Seconds of a full run of a typical design; None for one too large for this machine."""
        speed = self.speed(precision, threads)
        return self._work.run_seconds(speed, self._as_given) if speed else None


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
