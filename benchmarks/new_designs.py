"""What a GPU run pays for designs that it has not seen, by how many kernels cuDNN may try.

cuDNN searches for the fastest kernel of each new shape, and almost every design of a search has new
shapes. `torch.backends.cudnn.benchmark_limit` says how many kernels it tries of each (torch: 10; 0:
all). A process for each limit trains the same random designs of the search space, one after the
other: `first` is the time of the first 8 steps of a design, its build, its search for kernels and
its capture included; `again` that of the same steps in a new run, when all shapes are known; then
the speed of 40 more steps. Run on a GPU::

    python benchmarks/new_designs.py --limits off 1 4 10

Images are random bytes of CIFAR-10's shape.
"""

import argparse
import dataclasses
import multiprocessing
import shlex
import sys
import time
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection
from statistics import median

import torch

from machine import hardware, software
from make_table import draw_designs
from nas.architecture import PRESETS, Architecture
from nas.data.types import ImageDataset
from nas.model import build
from nas.runtime.arithmetic import choose
from nas.runtime.devices import free_memory, open_device
from nas.runtime.precision import AUTO
from nas.space import Limits, default_space
from nas.training.config import fast
from nas.training.loop import Run, task_of
from training import CIFAR10, first, random_images

FIRST_STEPS, TIMED_STEPS = 8, 40
OFF = "off"  # no search at all: cuDNN's own guess

Times = tuple[float, float, float]
"""Seconds of the first steps, of the same again, and images per second."""


@cache
def cached_images() -> ImageDataset:
    return random_images(torch.device("cpu"))


def run_of(design: Architecture, device: torch.device, batch_size: int, steps: int) -> Run:
    """A run whose epochs have this many steps."""
    dataset = cached_images()
    few = dataclasses.replace(dataset, train=first(dataset.train, steps * batch_size)).to(device)
    config = dataclasses.replace(
        fast(task_of(few, device)), batch_size=batch_size, precision=choose(AUTO, device).precision
    )
    model = build(design, CIFAR10, generator=torch.Generator().manual_seed(0))
    return Run(model, few, config, seed=0, device=device)


def seconds_of_first_steps(design: Architecture, device: torch.device, batch_size: int) -> float:
    started = time.perf_counter()
    run_of(design, device, batch_size, FIRST_STEPS).train_epoch()  # waits for the device
    return time.perf_counter() - started


def measure(design: Architecture, device: torch.device, batch_size: int) -> Times:
    cached_images()
    new, again = (seconds_of_first_steps(design, device, batch_size) for _ in range(2))
    run = run_of(design, device, batch_size, TIMED_STEPS)
    run.train_epoch()
    speed = run.train_epoch().images_per_second
    del run
    free_memory(device)
    return new, again, speed


def serve(
    limit: str,
    designs: list[Architecture],
    device_name: str,
    batch_size: int,
    connection: "Connection[Times, None]",
) -> None:
    device = open_device(device_name)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = limit != OFF
        torch.backends.cudnn.benchmark_limit = 10 if limit == OFF else int(limit)
    measure(PRESETS["resnet20"], device, batch_size)  # the first of a process loads the libraries
    for design in designs:
        connection.send(measure(design, device, batch_size))


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--limits", nargs="+", default=[OFF, "1", "4", "10"], metavar="N")
    parser.add_argument("--designs", type=int, default=5)
    parser.add_argument("--budget", type=float, default=5e6, help="most parameters of a design")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of designs")
    args = parser.parse_args()
    device = open_device(args.device)
    designs = list(
        islice(
            draw_designs(
                default_space(CIFAR10), Limits(max_parameters=int(args.budget)), seed=args.seed
            ),
            args.designs,
        )
    )
    print(hardware(device))
    print(software("torch"))
    print(f"python {shlex.join(sys.argv)}")
    print(f"\n{'limit':<7}{'first':>8}{'again':>8}{'images/s':>12}   first of each design")
    context = multiprocessing.get_context("spawn")
    for limit in args.limits:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=serve, args=(limit, designs, args.device, args.batch_size, theirs)
        )
        process.start()
        theirs.close()  # so that a process that fails ends the wait for it
        firsts, agains, speeds = zip(*(ours.recv() for _ in designs), strict=True)
        process.join()
        each = " ".join(f"{seconds:.2f}" for seconds in firsts)
        found = f"{median(firsts):>8.2f}{median(agains):>8.2f}{median(speeds):>12,.0f}"
        print(f"{limit:<7}{found}   {each}", flush=True)
    print(f"\nmedians over {args.designs} designs; seconds of {FIRST_STEPS} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
