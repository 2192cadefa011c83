"""How fast this machine trains."""

import dataclasses
import random
import time

import torch

from nas.architecture import Architecture
from nas.counting import count
from nas.data.types import ImageDataset, Images
from nas.model import build
from nas.runtime.devices import is_out_of_memory
from nas.search.sizing import Speed
from nas.space import Limits, SearchSpace
from nas.training.config import TrainingConfig
from nas.training.loop import Run
from nas.training.memory import give_back_memory

_DRAWS = 64
_MULT_ADDS = {"cpu": 4e9, "cuda": 4e11}  # of the forward passes of an epoch that is timed
# Images in it, at least: a step costs something in itself (Muon's Newton-Schulz iteration does), so
# that steps must be as large as those of a trial. On a CPU a large design would take many seconds
# for more than 64; of its steps that cost is a small part.
_FEWEST_IMAGES = {"cpu": 64, "cuda": 512}
_EPOCHS = 3  # the first one warms up
_LONGEST = 1.5  # seconds after which no other one is begun
_SMALL = 8  # times the mult-adds of the smallest design


def typical_mult_adds(space: SearchSpace, limits: Limits) -> int:
    """The mean mult-adds of designs drawn within the limits."""
    costs = [count(design, space.input).mult_adds for design in _drawn(space, limits)]
    return round(sum(costs) / len(costs))


def measure(
    space: SearchSpace,
    limits: Limits,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    threads: int,
    device: torch.device,
) -> Speed | None:
    """Seconds per image of training on this device, measured in a few seconds.

    The smallest design, a small and a typical one are each trained as a trial would be, on a few
    images.

    Args:
        space: of the designs.
        limits: of the designs.
        dataset: the images.
        config: the recipe, in the precision that is asked about.
        threads: of the CPU, that a worker will have.
        device: where.

    Returns:
        The speed of one worker; None where such designs are too large for this machine.
    """
    smallest = space.smallest(limits, by="mult_adds")
    least = count(smallest, space.input).mult_adds
    small = limits.lowered("mult_adds", _SMALL * least)
    designs = {smallest, _median(space, small), _median(space, limits)}
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return Speed.of(
            (count(design, space.input).mult_adds, _image_seconds(design, dataset, config, device))
            for design in designs
        )
    except Exception as error:
        if is_out_of_memory(error):
            return None  # the search will say so
        raise
    finally:
        torch.set_num_threads(threads_before)
        give_back_memory()


def _drawn(space: SearchSpace, limits: Limits) -> list[Architecture]:
    rng = random.Random(0)
    return [space.architecture(*space.draw(limits, rng)) for _ in range(_DRAWS)]


def _median(space: SearchSpace, limits: Limits) -> Architecture:
    drawn = _drawn(space, limits)
    return sorted(drawn, key=lambda design: count(design, space.input).mult_adds)[_DRAWS // 2]


def _image_seconds(
    design: Architecture, dataset: ImageDataset, config: TrainingConfig, device: torch.device
) -> float:
    """Seconds per image of a few epochs on the first images."""
    images = int(_MULT_ADDS[device.type] / count(design, dataset.input).mult_adds)
    images = max(images, min(config.batch_size, _FEWEST_IMAGES[device.type]))
    images = min(images, len(dataset.train))
    part = dataclasses.replace(
        dataset, train=_first(dataset.train, images), validation=_first(dataset.validation, 1)
    )
    model = build(design, dataset.input, generator=torch.Generator().manual_seed(0))
    # Nothing is learnt, and a rate this low keeps every loss finite.
    config = dataclasses.replace(config, epochs=_EPOCHS, lr=1e-6)
    run = Run(model, part.to(device), config, seed=0, device=device)
    started = time.monotonic()
    while not run.finished and time.monotonic() - started < _LONGEST:
        run.train_epoch()
    timed = run.history[1:] or run.history
    return min(1 / result.images_per_second for result in timed)


def _first(images: Images, number: int) -> Images:
    return Images(images.pixels_NHWC[:number], images.labels_N[:number])
