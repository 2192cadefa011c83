"""How long threads wait busily: briefly (GOMP_SPINCOUNT, as in commands), or as OpenMP has it.

Each round trains two small networks on random images in a process of its own, once with each
number of turns, alone and then beside busy loops, one for each core. Threads that wait busily for
one that has no processor keep the processor from it. Never to wait busily
(OMP_WAIT_POLICY=passive) takes a third off the speed of the thin one alone. On 2 cores of an AMD
EPYC, torch 2.14.1: alone 1.07 and 0.96 times as fast, beside two busy loops 8.3 and 1.5 times::

    python benchmarks/threads.py --rounds 3 --check

Shown are images per second, the median of the rounds. Exit status 1 with `--check` when waiting
briefly is slower than `LEAST_ALONE` times OpenMP's own way on an idle machine, or than
`LEAST_BESIDE` times beside other load. More than one core is needed, and torch with GNU's OpenMP.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from machine import hardware, load, software

LEAST_ALONE = 0.9
LEAST_BESIDE = 1.2
NETWORKS = {  # blocks, channels, kernels, side of the images, batch size, steps
    "thin": ((1,), (24,), (5,), 8, 64, 30),
    "resnet20": ((3, 3, 3), (16, 32, 64), (3, 3, 3), 32, 128, 4),
}
TRAIN = """
import sys, time, torch
from torch.nn import functional as F
from nas.architecture import Architecture, ImageInput
from nas.model import build
blocks, channels, kernels, side, batch, steps = eval(sys.argv[1])
input = ImageInput(channels=3, height=side, width=side, classes=10)
design = Architecture(
    blocks=blocks, channels=channels, kernels=kernels, shortcut_kernels=(1,) * len(blocks), pool=1
)
model = build(design, input).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
labels = torch.randint(0, 10, (batch,))
for step in range(steps + 2):
    if step == 2:
        begun = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
print(batch * steps / (time.perf_counter() - begun))
"""


def speed(network: str, *, briefly: bool) -> float:
    """Images per second."""
    turns = {"GOMP_SPINCOUNT": "10000"} if briefly else {}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, repr(NETWORKS[network])],
        env={k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | turns,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


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
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    options = parser.parse_args(argv)
    print(f"{hardware()}; {software('torch')}; {load()} before it began")
    missed = False
    for beside, least in ((0, LEAST_ALONE), (os.cpu_count() or 1, LEAST_BESIDE)):
        for network in NETWORKS:
            with busy_loops(beside):
                pairs = [
                    (speed(network, briefly=True), speed(network, briefly=False))
                    for _ in range(options.rounds)
                ]
            brief, own = (median(values) for values in zip(*pairs, strict=True))
            ratio = median(a / b for a, b in pairs)
            missed = missed or ratio < least
            print(
                f"{network:>9}, {beside} busy loops: briefly {brief:>7,.0f} images/s, "
                f"OpenMP's way {own:>7,.0f}, ratio {ratio:.2f} (least {least})"
            )
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
