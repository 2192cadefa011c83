"""What a teacher brings: a design trained with and without one, on the validation images.

It is trained with every seed in several ways::

    python benchmarks/distillation.py --dataset cifar10 --preset resnet20 --epochs 40 --out runs/kd

- `plain`: with the recipe alone.
- `longer`: the same for twice as many epochs, which cost about as much as a teacher.
- `ensemble`: from the mean probabilities of the plain runs of all seeds.
- `larger`: from the design with twice the channels, trained with the same recipe and the first
  seed.

Prints a row of a Markdown table after each way: the accuracy of what was learned from, the mean
accuracy, how far that is above the plain runs on the same images, both with 95% intervals for
further seeds and images, and the seconds of a run. Every run has a folder in `--out`, from which it
goes on when the same command is repeated; `results.jsonl` there has a line for each. No test image
is read.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from machine import hardware, software
from nas.architecture import Architecture
from nas.commands.arguments import whole_numbers
from nas.commands.design import add_design_options, design_of
from nas.counting import count
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.final.distilling import widened
from nas.final.request import TRAIN
from nas.final.runs import Run, RunEnded, RunEvent, RunFolder, train_runs
from nas.runtime.arithmetic import choose
from nas.runtime.devices import open_device
from nas.runtime.precision import AUTO, PRECISIONS
from nas.search.request import SPLIT_SEED
from nas.statistics import Correct, Estimate, difference, mean_accuracy
from nas.training.config import RECIPES, TrainingConfig
from nas.training.evaluation import predict
from nas.training.loop import task_of
from nas.training.teacher import Distillation, Teacher

WAYS = ("plain", "longer", "ensemble", "larger")


def percent(estimate: Estimate, sign: str = "") -> str:
    """As in `91.25 (90.80 to 91.70)`."""
    value, low, high = (format(100 * v, f"{sign}.2f") for v in dataclasses.astuple(estimate))
    return f"{value} ({low} to {high})"


@dataclass
class Comparison:
    """One design, trained in several ways."""

    design: Architecture
    dataset: ImageDataset  # on the device
    config: TrainingConfig
    seeds: Sequence[int]
    device: torch.device
    out: Path
    plain_SI: Correct | None = field(default=None, init=False)  # of the plain runs

    def trained(
        self,
        name: str,
        design: Architecture,
        seeds: Sequence[int],
        *,
        teacher: Teacher | None = None,
        times: int = 1,
    ) -> list[RunFolder]:
        """The runs of a way, trained as far as they are not.

        Raises:
            RuntimeError: a run failed.
        """
        config = dataclasses.replace(self.config, epochs=times * self.config.epochs)
        runs = [Run(name, design, seed, TRAIN) for seed in seeds]
        folders = [RunFolder(self.out, run, self.dataset, config, teacher) for run in runs]
        left = [folder for folder in folders if folder.result() is None]
        train_runs(left, device=self.device, on_event=self._tell)
        for folder in folders:
            result = folder.result()
            if result is None or result.failed:
                raise RuntimeError(f"{folder.path}: {result and result.failed}")
        return folders

    def _tell(self, event: RunEvent) -> None:
        if isinstance(event, RunEnded):
            run = event.run
            line = {
                "way": run.name,
                "design": str(run.architecture),
                "seed": run.seed,
                "val_accuracy": event.val_accuracy,
                "seconds": event.seconds,
            }
            with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), file=sys.stderr, flush=True)

    def teacher(self, folders: Sequence[RunFolder], how: Distillation) -> Teacher:
        """What the networks of those runs teach."""
        return Teacher([folder.network() for folder in folders], how).to(self.device)

    def accuracy_of(self, teacher: Teacher) -> float:
        """Of the mean probabilities, on the validation images."""
        images = self.dataset.validation
        probabilities_NK = predict(teacher, images, self.dataset)
        return (probabilities_NK.argmax(dim=1) == images.labels_N).float().mean().item()

    def row(self, name: str, folders: Sequence[RunFolder], teacher: Teacher | None = None) -> str:
        """A row of the table."""
        labels_I = self.dataset.validation.labels_N
        results = [result for folder in folders if (result := folder.result()) is not None]
        correct_SI = np.stack([result.correct(labels_I) for result in results])
        if self.plain_SI is None:
            self.plain_SI, less = correct_SI, "-"
        else:
            less = percent(difference(correct_SI, self.plain_SI), "+")
        cells = (
            name,
            "-" if teacher is None else f"{100 * self.accuracy_of(teacher):.2f}",
            percent(mean_accuracy(correct_SI)),
            less,
            f"{fmean(result.seconds for result in results):.0f}",
        )
        return f"| {' | '.join(cells)} |"

    def run(self, ways: Sequence[str], hows: Sequence[Distillation]) -> None:
        """Trains all ways and prints their rows."""
        plain = self.trained("plain", self.design, self.seeds)
        print(self.row("plain", plain), flush=True)
        if "longer" in ways:
            longer = self.trained("longer", self.design, self.seeds, times=2)
            print(self.row("longer", longer), flush=True)
        teachers = {"ensemble": plain}
        if "larger" in ways:
            wide = widened(self.design)
            teachers["larger"] = self.trained("teacher", wide, self.seeds[:1])
        for way, networks in teachers.items():
            for how in hows if way in ways else ():
                name = f"{way}, T {how.temperature:g}, weight {how.weight:g}"
                teacher = self.teacher(networks, how)
                students = self.trained(name, self.design, self.seeds, teacher=teacher)
                print(self.row(name, students, teacher), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    add_design_options(parser)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--subset", type=float, default=1.0, help="share of the training images")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="fast")
    parser.add_argument("--epochs", type=int, help="as in the recipe if left out")
    parser.add_argument("--seeds", type=whole_numbers, default=(1, 2, 3), metavar="LIST")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0], metavar="T")
    parser.add_argument("--weight", type=float, nargs="+", default=[0.9], metavar="W")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", choices=PRECISIONS, default=AUTO)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    options = parser.parse_args(arguments)
    design = design_of(options)
    device = open_device(options.device, options.threads)
    images = load_dataset(
        options.dataset, options.data_dir, split_seed=SPLIT_SEED, subset=options.subset
    )
    recipe = RECIPES[options.recipe](task_of(images, device))
    config = dataclasses.replace(
        recipe,
        epochs=options.epochs or recipe.epochs,
        precision=choose(options.precision, device).precision,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{hardware(device)}; {software('torch')}\n")
    print(
        f"`{design}`, {count(design, images.input).parameters:,} parameters, {images.name}: "
        f"{len(images.train):,} and {len(images.validation):,} images, recipe `{options.recipe}`, "
        f"{config.epochs} epochs, {config.precision}, seeds {','.join(map(str, options.seeds))}\n"
    )
    print("| way | teacher | accuracy, % | above plain, points | seconds a run |")
    print("|---|---|---|---|---|", flush=True)
    hows = [
        Distillation(temperature=temperature, weight=weight)
        for temperature in options.temperature
        for weight in options.weight
    ]
    comparison = Comparison(design, images.to(device), config, options.seeds, device, options.out)
    comparison.run(options.ways, hows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
