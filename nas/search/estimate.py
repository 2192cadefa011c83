"""How long a search will take, from this machine's own speed."""

import random
import statistics
import time

import torch
from torch.nn import functional as F

from nas.counting import count
from nas.data.types import ImageDataset
from nas.model import build
from nas.runtime import signals
from nas.runtime.arithmetic import arithmetic
from nas.runtime.devices import is_out_of_memory
from nas.space import Limits, SearchSpace
from nas.training.config import TrainingConfig

_DRAWS = 64
_MULT_ADDS = 5e9  # of the forward pass that is timed


def expected_trial_seconds(
    space: SearchSpace,
    limits: Limits,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    threads: int,
) -> float | None:
    """Seconds of one full run of a typical design on the CPU, measured in about a second.

    The mean mult-adds of designs drawn within the limits, over the rate at which the median one of
    them trains here, in the recipe's precision. Forward and backward pass cost three forward passes
    (Hobbhahn and Sevilla 2021, "What's the backward-forward FLOP ratio").

    Args:
        space: of the designs.
        limits: of the designs.
        dataset: the images.
        config: the recipe.
        threads: of the CPU, that the run will have.

    Returns:
        The seconds; None for a design too large for this machine.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _trial_seconds(space, limits, dataset, config)
    except Exception as error:
        if is_out_of_memory(error):
            return None  # the search will say so
        raise
    finally:
        torch.set_num_threads(threads_before)


def _trial_seconds(
    space: SearchSpace, limits: Limits, dataset: ImageDataset, config: TrainingConfig
) -> float:
    rng = random.Random(0)
    drawn = [space.architecture(*space.draw(limits, rng)) for _ in range(_DRAWS)]
    costs = {design: count(design, dataset.input).mult_adds for design in drawn}
    median = sorted(costs, key=lambda design: costs[design])[len(costs) // 2]
    model = build(median, dataset.input, generator=torch.Generator().manual_seed(0))
    model.to(memory_format=torch.channels_last)
    images_at_once = int(min(max(_MULT_ADDS / costs[median], 8), config.batch_size))
    shape = (images_at_once, dataset.input.channels, dataset.input.height, dataset.input.width)
    images = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(images_at_once, dtype=torch.long)
    seconds = []
    for _ in range(4):  # the first one warms up
        signals.check()
        started = time.perf_counter()
        with arithmetic(images.device, config.precision):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - started)
    rate = 3 * costs[median] * images_at_once / min(seconds)
    passes = 3 * len(dataset.train) + len(dataset.validation)
    return config.epochs * passes * statistics.fmean(costs.values()) / rate


class Pace:
    """Time left, from the trials of this search; from an estimate until the first is done.

    Args:
        estimate: seconds of a trial; None when unknown.
        workers: how many trials are trained at the same time.
    """

    def __init__(self, estimate: float | None, workers: int = 1) -> None:
        self._estimate = estimate
        self._workers = workers
        self._started = time.monotonic()
        self._last_end = self._started
        self._done = 0

    def trial_done(self) -> None:
        """One more design is trained."""
        self._done += 1
        self._last_end = time.monotonic()

    def seconds_left(self, trials: int) -> float | None:
        """Seconds until this many more designs are trained; None when nothing is known yet."""
        if self._done:
            begun = (self._workers - 1) / 2  # those of the other workers are half done, on average
            each = (self._last_end - self._started) / (self._done + begun)
        elif self._estimate is not None:
            each = self._estimate / self._workers
        else:
            return None
        return max(0.0, trials * each - (time.monotonic() - self._last_end))
