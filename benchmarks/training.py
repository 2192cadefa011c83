"""Training against the loop people copy and against a strong one, on the same network.

Batches of 128 on a CPU (2-core Intel Xeon under other load, torch 2.15.0 on 2 threads): resnet20
1.78 times (a) and 1.07 times (b), flexres22-2 1.55 times (a) and 1.31 times (b), which other load
flatters: about 1.1 times is to be expected of an idle machine. What ours has over (b) there is that
malloc keeps its memory, see `nas.training.memory.keep_freed_memory`. On an H200 (torch 2.11.0, 16
cores) in batches of 512: resnet20 14.8 times (a) and 2.3 times (b), flexres22-2 7.4 and 1.3 times,
resnet18 7.7 and 1.3 times (docs/training.md).

- `ours`: `nas.training.loop.Run` with the recipe `pytorch-cifar`, as `nas train` runs it.
- `(a)`: what kuangliu/pytorch-cifar's main.py does, and with it much of the field: torchvision's
  dataset of PIL images, `DataLoader` with 2 workers, crop, flip, `ToTensor` and `Normalize` one
  image after another, float32, batches of 128, and `loss.item()` at every step.
- `(b)`: what a good engineer writes by hand: all pixels on the device, crop and flip of a batch at
  once, channels_last, bfloat16 on CUDA, foreach SGD, no wait for the device.

All three train the same network with the same augmentation and the same SGD. Each round times a
slice of an epoch of each in turn, so that whatever else the machine does touches all; shown is the
median over the rounds, for ratios that of the ratios within a round. Run::

    python benchmarks/training.py --check

With `--precision float32 bfloat16` it compares these precisions of our loop instead, in the same
way, and `--check` then demands what a search relies on: on a CPU with bfloat16 instructions
`LEAST_GAIN` times the speed of float32, on one without that `auto` takes float32 (there bfloat16 is
not even timed: it is emulated, many times slower). `--threads 1` is what one of many workers has::

    python benchmarks/training.py --precision float32 bfloat16 --threads 1 --check

Images are random bytes of CIFAR-10's shape, since speed does not depend on what they show;
`--data-dir` takes CIFAR-10 itself. Exit status 1 with `--check` when a goal is missed.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from machine import hardware, software
from nas.architecture import PRESETS, ImageInput
from nas.counting import count_mult_adds
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset, Images
from nas.model import ResNet, build
from nas.runtime.arithmetic import choose, supports
from nas.runtime.precision import AUTO, Precision
from nas.training.batches import TrainBatches
from nas.training.config import pytorch_cifar
from nas.training.loop import Run, task_of

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
COPIED_BATCH_SIZE = 128  # of (a), whatever the others take
WORKERS = 2  # of (a)
VALIDATION_IMAGES = 64  # judged between the slices, outside the timed part
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
PADDING = 4
CPU_STEPS = {"resnet20": 10, "flexres22-2": 2, "resnet18": 2}
CUDA_STEPS = 40  # at most an epoch of 50,000 images in batches of 1024

Slice = Callable[[], float]
"""Trains for a few steps and gives images per second."""


LOOPS = ("matmul", "batches", "ours", "copied", "strong")
LEAST_GAIN = 1.4  # of bfloat16 over float32, on a CPU that has the instructions


@dataclass(frozen=True, slots=True)
class Settings:
    """What every slice is sized to."""

    device: str
    batch_size: int  # of ours and (b)
    steps: int  # timed
    data_dir: Path | None  # of CIFAR-10; None for random images
    threads: int | None  # of the CPU; None for torch's own number

    def images(self) -> ImageDataset:
        """The data, on the device."""
        device = torch.device(self.device)
        return cifar10(self.data_dir, device) if self.data_dir else random_images(device)


@dataclass(frozen=True, slots=True)
class Goal:
    """What the project promises of a preset on a kind of device."""

    over_copied: float
    over_strong: float
    least_share_of_matmul: float = 0.0
    most_augmentation: float = 1.0


GOALS = {
    "cpu": {
        "resnet20": Goal(1.3, 1.0),
        "flexres22-2": Goal(1.3, 1.0),
    },
    "cuda": {
        "resnet20": Goal(10, 1.5, most_augmentation=0.05),
        "flexres22-2": Goal(10, 1.0, least_share_of_matmul=0.35, most_augmentation=0.05),
        "resnet18": Goal(10, 1.0, most_augmentation=0.05),
    },
}


@dataclass(frozen=True, slots=True)
class Timing:
    """One preset, one entry per round."""

    flops: int  # per image: forward, and twice that backward
    ours: list[float]  # images per second, as the next two
    copied: list[float]
    strong: list[float]
    batches: list[float]  # images per second made, not trained on
    matmul: list[float]  # floating-point operations per second

    @property
    def over_copied(self) -> float:
        """Speed of ours over (a)'s in the same round."""
        return median(o / c for o, c in zip(self.ours, self.copied, strict=True))

    @property
    def over_strong(self) -> float:
        """Speed of ours over (b)'s in the same round."""
        return median(o / s for o, s in zip(self.ours, self.strong, strict=True))

    @property
    def share_of_matmul(self) -> float:
        """Operations per second of ours over those of a matrix product in the same round."""
        return median(o * self.flops / m for o, m in zip(self.ours, self.matmul, strict=True))

    @property
    def augmentation(self) -> float:
        """Share of a step's time that making its batch takes."""
        return median(o / b for o, b in zip(self.ours, self.batches, strict=True))

    def misses(self, goal: Goal) -> list[str]:
        """The goals that are missed, in words."""
        checks = (
            (self.over_copied >= goal.over_copied, f"ours/(a) below {goal.over_copied:g}"),
            (self.over_strong >= goal.over_strong, f"ours/(b) below {goal.over_strong:g}"),
            (
                self.share_of_matmul >= goal.least_share_of_matmul,
                f"matmul share below {goal.least_share_of_matmul:.0%}",
            ),
            (
                self.augmentation <= goal.most_augmentation,
                f"augmentation above {goal.most_augmentation:.0%}",
            ),
        )
        return [words for met, words in checks if not met]


class Clock:
    """Seconds since it was made, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = self._now()

    def seconds(self) -> float:
        """Waits for the device."""
        return self._now() - self._started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def our_slice(
    model: ResNet, dataset: ImageDataset, batch_size: int, steps: int, precision: str = AUTO
) -> Slice:
    """An epoch of as many images as the steps take, as `Run` itself times it."""
    device = dataset.train.pixels_NHWC.device
    few = dataclasses.replace(dataset, train=first(dataset.train, steps * batch_size))
    config = dataclasses.replace(
        pytorch_cifar(task_of(few, device)),
        batch_size=batch_size,
        precision=choose(precision, device).precision,
    )
    run = Run(model, few, config, seed=0, device=device)

    def train() -> float:
        return run.train_epoch().images_per_second

    return train


def batches_slice(dataset: ImageDataset, batch_size: int, steps: int) -> Slice:
    """Our batches, not trained on."""
    device = dataset.train.pixels_NHWC.device
    few = dataclasses.replace(dataset, train=first(dataset.train, steps * batch_size))
    config = dataclasses.replace(pytorch_cifar(task_of(few, device)), batch_size=batch_size)
    batches = TrainBatches(few, config, seed=0)
    epochs = itertools.count(1)

    def make() -> float:
        clock = Clock(device)
        for _ in batches.epoch(next(epochs)):
            pass
        return steps * batch_size / clock.seconds()

    return make


class PilImages(Dataset[tuple[Tensor, int]]):
    """Like torchvision's CIFAR10: an array in memory, an image of PIL's for each look."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        self._pixels_NHWC: NDArray[np.uint8] = images.pixels_NHWC.cpu().numpy()
        self._labels: list[int] = images.labels_N.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._pixels_NHWC[index])
        return self._transform(image), self._labels[index]


def copied_slice(model: nn.Module, dataset: ImageDataset, steps: int) -> Slice:
    """(a), in the words of main.py."""
    device = dataset.train.pixels_NHWC.device
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(dataset.mean, dataset.std),
        ]
    )
    trainloader = DataLoader(
        PilImages(dataset.train, transform),
        batch_size=COPIED_BATCH_SIZE,
        shuffle=True,
        num_workers=WORKERS,
        multiprocessing_context="fork",  # as by default on Linux, but in a spawned process
    )
    net = model.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    # Steps before the clock starts: the workers must be up, and on a GPU, which they cannot keep
    # busy, the two batches that each made ahead must be used up. A CPU never uses them up.
    ahead = 2 * WORKERS + 1 if device.type == "cuda" else 1

    def train() -> float:
        net.train()
        train_loss = 0.0
        correct = total = 0
        clock = Clock(device)
        for step, (inputs, targets) in enumerate(trainloader):
            if step == ahead:
                clock = Clock(device)
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, targets)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
            _, predicted = outputs.max(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
            if step == ahead + steps - 1:
                break
        return steps * COPIED_BATCH_SIZE / clock.seconds()

    return train


def strong_slice(model: nn.Module, dataset: ImageDataset, batch_size: int, steps: int) -> Slice:
    """(b); knows nothing of `nas.training`."""
    device = dataset.train.pixels_NHWC.device
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.backends.cudnn.benchmark = True
    net = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        foreach=True,
    )
    images = first(dataset.train, steps * batch_size)
    labels = images.labels_N
    padded = F.pad(images.pixels_NHWC, [0, 0] + [PADDING] * 4)
    mean = torch.tensor(dataset.mean, device=device).mul(255)
    std = torch.tensor(dataset.std, device=device).mul(255)
    size, padded_size = images.pixels_NHWC.shape[1], padded.shape[1]
    flat = padded.view(-1, padded.shape[3])
    offsets = torch.arange(size, device=device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(labels), device=device)
        for chosen in torch.split(order, batch_size):
            top, left = torch.randint(2 * PADDING + 1, (2, batch_size, 1), device=device)
            flip = torch.rand(batch_size, 1, device=device) < 0.5
            rows = top + offsets
            columns = left + torch.where(flip, size - 1 - offsets, offsets)
            rows = chosen[:, None] * padded_size + rows
            index = rows[:, :, None] * padded_size + columns[:, None, :]
            pixels = flat.index_select(0, index.flatten()).view(batch_size, size, size, -1)
            yield pixels.sub(mean).div_(std).permute(0, 3, 1, 2), labels[chosen]

    def train() -> float:
        net.train()
        losses = torch.zeros((), device=device)
        clock = Clock(device)
        for inputs, targets in batches():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_cuda):
                loss = F.cross_entropy(net(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses += loss.detach()
        return steps * batch_size / clock.seconds()

    return train


def first(images: Images, number: int) -> Images:
    return Images(images.pixels_NHWC[:number], images.labels_N[:number])


def matmul_slice(device: torch.device) -> Slice:
    """Floating-point operations per second of a matrix product: the most there is to have."""
    size, repeats, dtype = (
        (8192, 20, torch.bfloat16) if device.type == "cuda" else (2048, 4, torch.float32)
    )
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    out = torch.empty_like(left)

    def multiply() -> float:
        clock = Clock(device)
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        return repeats * 2 * size**3 / clock.seconds()

    return multiply


def network(preset: str) -> ResNet:
    return build(PRESETS[preset], CIFAR10, generator=torch.Generator().manual_seed(0))


def make_slice(loop: str, preset: str, settings: Settings) -> Slice:
    dataset, batch_size, steps = settings.images(), settings.batch_size, settings.steps
    match loop:
        case "matmul":
            return matmul_slice(dataset.train.pixels_NHWC.device)
        case "batches":
            return batches_slice(dataset, batch_size, steps)
        case "ours":
            return our_slice(network(preset), dataset, batch_size, steps)
        case "copied":
            return copied_slice(network(preset), dataset, steps)
        case "strong":
            return strong_slice(network(preset), dataset, batch_size, steps)
    return our_slice(network(preset), dataset, batch_size, steps, Precision(loop))


def serve(
    loop: str, preset: str, settings: Settings, connection: "Connection[float, bool]"
) -> None:
    """Answers every True with the speed of a slice; ends with False."""
    torch.manual_seed(0)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    run = make_slice(loop, preset, settings)
    while connection.recv():
        connection.send(run())


def measure(
    preset: str, settings: Settings, rounds: int, loops: Sequence[str]
) -> dict[str, list[float]]:
    """The speed of every loop in every round, the loops interleaved.

    Each has a process of its own, so that what it sets there touches no other.

    Args:
        preset: the network.
        settings: of the slices.
        rounds: how many.
        loops: some of `LOOPS`, or precisions, which are of our loop.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection[bool, float]] = {}
    processes = []
    for loop in loops:
        connections[loop], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(loop, preset, settings, other)))
        processes[-1].start()
        other.close()  # so that a process that fails ends the wait for it

    def run(loop: str) -> float:
        connections[loop].send(True)
        return connections[loop].recv()

    try:
        for loop in loops:  # warms up
            run(loop)
        speeds: dict[str, list[float]] = {loop: [] for loop in loops}
        for round in range(rounds):
            turn = round % len(loops)  # none always comes after the same one
            for loop in (*loops[turn:], *loops[:turn]):
                speeds[loop].append(run(loop))
    finally:
        for connection in connections.values():
            with suppress(OSError):
                connection.send(False)
        for process in processes:
            process.join()
    return speeds


def random_images(device: torch.device) -> ImageDataset:
    generator = torch.Generator().manual_seed(0)

    def images(number: int) -> Images:
        shape = (number, CIFAR10.channels, CIFAR10.height, CIFAR10.width)
        pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.randint(CIFAR10.classes, (number,), generator=generator))

    return ImageDataset(
        name="random bytes",
        input=CIFAR10,
        classes=tuple("0123456789"),
        train=images(50_000),
        validation=images(VALIDATION_IMAGES),
        test_images=0,
        mean=(0.5, 0.5, 0.5),
        std=(0.29, 0.29, 0.29),
        horizontal_flip=True,
        digest="0" * 16,
        subset=1.0,
        split_seed=0,
    ).to(device)


def cifar10(data_dir: Path, device: torch.device) -> ImageDataset:
    dataset = load_dataset("cifar10", data_dir)
    few = first(dataset.validation, VALIDATION_IMAGES)
    return dataclasses.replace(dataset, validation=few).to(device)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Images per second of three training loops."
    )
    parser.add_argument(
        "--presets",
        nargs="+",
        choices=PRESETS,
        default=("resnet20", "flexres22-2", "resnet18"),
        metavar="NAME",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="timed steps of a slice")
    parser.add_argument(
        "--batch-size", type=int, default=128, help="of ours and (b); (a) keeps its 128"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's)")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=tuple(Precision),
        help="compare these precisions of our loop, and no other loop",
    )
    parser.add_argument("--data-dir", type=Path, help="CIFAR-10 in place of random images")
    parser.add_argument("--check", action="store_true", help="exit status 1 for a missed goal")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    device = torch.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(hardware(device))
    print(software("torch", "torchvision"))
    print(f"python {shlex.join(sys.argv)}")
    print(
        f"{'CIFAR-10' if args.data_dir else 'random images of its shape'}; batches of "
        f"{args.batch_size}, (a) {COPIED_BATCH_SIZE}; median of {args.rounds} interleaved rounds"
    )
    print()
    missed = compare_precisions(args, device) if args.precision else compare_loops(args, device)
    print("\n".join(missed) if missed else f"no goal for {device.type} is missed")
    return 1 if args.check and missed else 0


def settings_of(args: argparse.Namespace, preset: str) -> Settings:
    steps = CPU_STEPS.get(preset, 2) if args.device == "cpu" else CUDA_STEPS
    return Settings(args.device, args.batch_size, args.steps or steps, args.data_dir, args.threads)


def compare_loops(args: argparse.Namespace, device: torch.device) -> list[str]:
    """Prints a line per preset; returns the goals that are missed."""
    goals = GOALS[device.type]
    print(
        f"{'preset':<14}{'steps':>6}{'ours':>10}{'(a)':>9}{'(b)':>10}{'ours/(a)':>10}"
        f"{'ours/(b)':>10}{'augment':>9}{'GFLOP/s':>10}{'matmul':>10}{'share':>7}"
    )
    missed = []
    for name in args.presets:
        settings = settings_of(args, name)
        flops = 3 * 2 * count_mult_adds(PRESETS[name], CIFAR10)
        timing = Timing(flops=flops, **measure(name, settings, args.rounds, LOOPS))
        ours = median(timing.ours)
        print(
            f"{name:<14}{settings.steps:>6}{ours:>10,.1f}{median(timing.copied):>9,.1f}"
            f"{median(timing.strong):>10,.1f}{timing.over_copied:>10.2f}"
            f"{timing.over_strong:>10.2f}{timing.augmentation:>9.2%}"
            f"{ours * timing.flops / 1e9:>10,.0f}{median(timing.matmul) / 1e9:>10,.0f}"
            f"{timing.share_of_matmul:>7.1%}",
            flush=True,
        )
        if name in goals:
            missed += [f"{name}: {words}" for words in timing.misses(goals[name])]
    print()
    print("images per second; augment and share are of ours: time of a step, rate of a matmul")
    return missed


def compare_precisions(args: argparse.Namespace, device: torch.device) -> list[str]:
    """Prints a line per preset; returns the goals that are missed."""
    wanted = [Precision(name) for name in dict.fromkeys(args.precision)]
    able = [precision for precision in wanted if supports(device, precision)]
    if len(able) < len(wanted):
        print("bfloat16 is left out: there are no instructions for it here\n")
    print(f"{'preset':<14}{'steps':>6}" + "".join(f"{name:>10}" for name in able) + "  auto")
    missed = []
    for preset in args.presets:
        settings = settings_of(args, preset)
        speeds = measure(preset, settings, args.rounds, able)
        seconds = {precision: 1 / median(speeds[precision]) for precision in able}
        # One that was not asked for would be wrongly seen as one that cannot be timed.
        whole = all(precision in able for precision in Precision if supports(device, precision))
        auto = choose(AUTO, device, seconds.get) if whole else None
        print(
            f"{preset:<14}{settings.steps:>6}"
            + "".join(f"{median(speeds[precision]):>10,.1f}" for precision in able)
            + f"  {auto or '-'}",
            flush=True,
        )
        if device.type == "cpu" and len(able) == len(Precision):
            pairs = zip(speeds[Precision.BFLOAT16], speeds[Precision.FLOAT32], strict=True)
            if median(fast / slow for fast, slow in pairs) < LEAST_GAIN:
                missed.append(f"{preset}: bfloat16 below {LEAST_GAIN:g} times float32")
        if auto and not supports(device, auto.precision):
            missed.append(f"{preset}: auto takes {auto} without instructions for it")
    print("\nimages per second of our loop")
    return missed


if __name__ == "__main__":
    sys.exit(main())
