"""One thread and all, which wait for each other actively or passively, alone and beside others.

Trains three small networks on random images, each in turn in a process for each way, for a part of
a second: alone, and beside one and two busy loops. Threads that wait actively for one that has no
core keep the core from it; passive ones sleep, which `nas` chooses (`nas.runtime.waiting`)::

    python benchmarks/threads.py --rounds 5 --check

Shown is the median of the rounds: images per second of one thread, and the speed of the other ways
as shares of it. Exit status 1 with `--check` when passive threads beside busy loops are slower than
`LEAST_BESIDE` times one thread. More than one core is needed, and torch with GNU's OpenMP; with
`--precision bfloat16` a processor with instructions for it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

import torch

from machine import hardware, load, software
from nas.runtime.arithmetic import supports
from nas.runtime.precision import Precision

LEAST_BESIDE = 0.5
NETWORKS = {  # blocks, channels, kernels, side of the images, batch size
    "thin": ((1,), (24,), (5,), 8, 64),
    "resnet20": ((3, 3, 3), (16, 32, 64), (3, 3, 3), 32, 128),
    "wide": ((1, 1, 1), (32, 64, 128), (3, 3, 3), 32, 128),
}
WAYS = {  # what OpenMP is told; all threads where nothing is said of their number
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "active": {},  # as it waits by itself
    "briefly": {"GOMP_SPINCOUNT": "10000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
TRAIN = """
import sys, time, torch
from torch.nn import functional as F
from nas.architecture import Architecture, ImageInput
from nas.model import build

def stepper(blocks, channels, kernels, side, batch, precision):
    input = ImageInput(channels=3, height=side, width=side, classes=10)
    shortcuts = (1,) * len(blocks)
    design = Architecture(
        blocks=blocks, channels=channels, kernels=kernels, shortcut_kernels=shortcuts, pool=1
    )
    model = build(design, input).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return batch
    return step

seconds = float(sys.argv[2])
steppers = {name: stepper(*sizes, sys.argv[3]) for name, sizes in eval(sys.argv[1]).items()}
print("ready", flush=True)
for line in sys.stdin:
    step = steppers[line.strip()]
    step()
    begun, images = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        images += step()
    print(images / passed, flush=True)
"""


@contextmanager
def trainer(way: str, seconds: float, precision: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains this way for so long, whenever it is told the name of a network."""
    told = {name for variables in WAYS.values() for name in variables}
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, repr(NETWORKS), str(seconds), precision],
        env={k: v for k, v in os.environ.items() if k not in told} | WAYS[way],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def speed(process: "subprocess.Popen[str]", network: str) -> float:
    """Images per second."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(network, file=process.stdin, flush=True)
    return float(process.stdout.readline())


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """A block beside which so many processes compute."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument(
        "--precision", choices=[*map(str, Precision)], default=str(Precision.FLOAT32)
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    options = parser.parse_args(argv)
    if not supports(torch.device("cpu"), Precision(options.precision)):
        parser.error(f"expected a processor with instructions for {options.precision}, got none")
    print(f"{hardware()}; {software('torch')}; {options.precision}; {load()} before it began")
    missed = False
    with ExitStack() as open_trainers:
        trainers = {
            way: open_trainers.enter_context(trainer(way, options.seconds, options.precision))
            for way in WAYS
        }
        for beside in (0, 1, 2):
            with busy_loops(beside):
                for network in NETWORKS:
                    rounds = [
                        {way: speed(process, network) for way, process in trainers.items()}
                        for _ in range(options.rounds)
                    ]
                    one = median(each["1 thread"] for each in rounds)
                    shares = {
                        way: median(each[way] / each["1 thread"] for each in rounds)
                        for way in WAYS
                        if way != "1 thread"
                    }
                    missed = missed or (beside > 0 and shares["passive"] < LEAST_BESIDE)
                    others = ", ".join(f"{way} {share:.2f}" for way, share in shares.items())
                    print(
                        f"{network:>9} beside {beside} busy loops: one thread {one:>7,.0f} "
                        f"images/s; all threads, as shares of it: {others}",
                        flush=True,
                    )
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
