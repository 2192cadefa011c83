"""The closed forms of `arena` and `flash` against files that TensorFlow Lite Micro runs.

Of 74 designs: arena 0.0% to 1.5% above the smallest one, file 0.2% below to 0.8% above its size,
peak of live tensors exact on all (x86-64, Python 3.11, torch 2.14.1, tflite-micro 0.dev20261023).

For each of 60 random designs (images of 8 to 96 pixels, odd sizes too, kernels 1 to 7, strides 1 to
3) and each preset that fits: the int8 file of `nas.export.tflite`, its size, and the smallest arena
in which the interpreter of the package `tflite-micro` runs it, by bisection to 16 bytes. That runs
on this machine's kernels, which need no scratch buffers, unlike those of a microcontroller; so the
arena is compared without them. Run::

    python benchmarks/device_costs.py [--designs 60]

Exit status 1 when an arena is off by more than 3%, a file by more than 1%, or either is
underestimated by more than 1%.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from tflite_micro.python.tflite_micro import runtime  # type: ignore[import-untyped,unused-ignore]

from machine import hardware, software
from nas.architecture import PRESETS, Architecture, ImageInput, head_size
from nas.counting import count
from nas.export.int8 import quantize
from nas.export.memory import bound, lifetimes
from nas.export.spec import ModelSpec
from nas.export.tflite import tflite
from nas.model import build

_CLASSES = (2, 3, 10, 10, 10, 37, 100)
_LARGEST = 64 << 20  # bytes of an arena
_MOST_PARAMETERS = 600_000  # of a random design: larger ones take long to run


@dataclass(frozen=True, slots=True)
class Row:
    """One design: what was computed and what was measured, in bytes."""

    name: str
    arena: int  # of the closed form, without scratch buffers
    smallest: int  # in which it runs
    bound: int  # of live tensors, in the file's plan
    peak_ram: int  # of the closed form
    flash: int
    size: int  # of the file
    scratch: int  # more on a device

    @property
    def arena_error(self) -> float:
        """How far the closed form is above, as a share."""
        return self.arena / self.smallest - 1

    @property
    def flash_error(self) -> float:
        """How far the closed form is above, as a share."""
        return self.flash / self.size - 1


def random_designs(number: int) -> Iterator[tuple[str, Architecture, ImageInput]]:
    rng = random.Random(0)
    while number:
        stages = rng.choice((1, 2, 3, 4))
        side = rng.randrange(8, 97)
        input = ImageInput(
            channels=rng.choice((1, 3, 3)),
            height=side,
            width=rng.choice((side, side, rng.randrange(8, 97))),
            classes=rng.choice(_CLASSES),
        )
        widths = [rng.choice((4, 8, 12, 16, 24, 33))]
        for _ in range(stages - 1):
            widths.append(max(1, int(widths[-1] * rng.choice((0.5, 1, 1.5, 2, 2)))))
        design = Architecture(
            blocks=tuple(rng.choice((1, 1, 2, 3)) for _ in range(stages)),
            channels=tuple(widths),
            kernels=tuple(rng.choice((1, 3, 3, 3, 5, 7)) for _ in range(stages)),
            shortcut_kernels=tuple(rng.choice((1, 1, 3, 5, 7)) for _ in range(stages)),
            pool=rng.choice((1, 2, 3, 4, 8)),
            strides=tuple(rng.choice((1, 2, 2, 3)) for _ in range(stages)),
            stem_channels=rng.choice((0, 0, 8)),
        )
        try:
            head_size(design, input)
        except ValueError:
            continue
        if count(design, input).parameters <= _MOST_PARAMETERS:
            number -= 1
            yield f"{design} for {input}", design, input


def measured(name: str, design: Architecture, input: ImageInput) -> Row:
    network = build(design, input, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.randint(
        0, 256, (2, input.channels, input.height, input.width), dtype=torch.uint8
    )
    spec = ModelSpec(
        architecture=design,
        input=input,
        classes=tuple(f"class {i}" for i in range(input.classes)),
        mean=(0.5,) * input.channels,
        std=(0.25,) * input.channels,
    )
    network8 = quantize(network, spec, images)
    content = tflite(network8)
    cost, here = count(design, input), count(design, input, scratch=False)
    return Row(
        name=name,
        arena=here.arena,
        smallest=smallest_arena(content),
        bound=bound(lifetimes(network8.operators)),
        peak_ram=cost.peak_ram,
        flash=cost.flash,
        size=len(content),
        scratch=cost.arena - here.arena,
    )


def smallest_arena(content: bytes) -> int:
    """Bytes of the smallest arena in which the file runs; far too small ones crash."""
    least, most = 0, _LARGEST
    assert runs(content, most), "the file runs in no arena"
    while most - least > 16:
        middle = (least + most) // 2 // 16 * 16
        least, most = (least, middle) if runs(content, middle) else (middle, most)
    return most


def runs(content: bytes, arena: int) -> bool:
    with silent():
        try:
            interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena)
            shape = interpreter.get_input_details(0)["shape"]
            interpreter.set_input(np.zeros(shape, np.int8), 0)
            interpreter.invoke()
        except Exception:  # of what kind depends on what no longer fits
            return False
    return True


@contextmanager
def silent() -> Iterator[None]:
    """Without what the interpreter writes to file descriptor 2 when its arena is too small."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--designs", type=int, default=60)
    options = parser.parse_args()
    cifar10 = ImageInput(channels=3, height=32, width=32, classes=10)
    cases = [(name, design, cifar10) for name, design in PRESETS.items()]
    rows = [measured(*case) for case in (*cases, *random_designs(options.designs))]
    print(hardware())
    print(software("torch", "tflite-micro"))
    print()
    print(f"{'smallest':>9} {'closed':>9} {'error':>7} {'scratch':>8} {'file':>9} {'error':>7}")
    for row in rows:
        print(
            f"{row.smallest:>9,} {row.arena:>9,} {row.arena_error:>+7.2%} {row.scratch:>8,} "
            f"{row.size:>9,} {row.flash_error:>+7.2%}  {row.name}"
        )
    arena = [row.arena_error for row in rows]
    flash = [row.flash_error for row in rows]
    exact = sum(row.bound == row.peak_ram for row in rows)
    print()
    print(f"arena {min(arena):+.2%} to {max(arena):+.2%} (at least -1%, at most 3%)")
    print(f"file {min(flash):+.2%} to {max(flash):+.2%} (at least -1%, at most 1%)")
    print(f"peak of live tensors exact on {exact} of {len(rows)}")
    good = min(arena) >= -0.01 and max(arena) <= 0.03 and min(flash) >= -0.01 and max(flash) <= 0.01
    return 0 if good and exact == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
