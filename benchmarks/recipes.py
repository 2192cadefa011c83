r"""Variations of a recipe on the same images, designs and seeds: what each brings and takes.

A variation is a recipe of `nas.training.config` with changes, as one word::

    python benchmarks/recipes.py --dataset cifar10 --data-dir data --epochs 10 --seeds 3 \
        --designs B1,1,1:C64,128,256:P8 resnet20 \
        --variations fast fast/optimizer=muon/batch_size=512/lr=0.4/momentum=0.85 --out runs.jsonl

Every run is a line of JSON in `--out`, written when it ends, with the validation accuracy after
every epoch. Runs that are there are not done again, and one that was cut off resumes from its
checkpoint beside that file, so the same command continues. A file holds runs of one precision. At
the end a Markdown table: mean and deviation over the seeds of the accuracy after the last epoch,
mean seconds of a run (training and validation), and of one without the first epoch, which compiles
and captures ("later"). No test image is read, but with `--test`: then the last weights of each run
classify them once, in float32, for results of recipes that others published. Choose a recipe
without it.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import hardware
from nas.architecture import PRESETS, Architecture
from nas.data.loading import load_dataset, load_test
from nas.data.types import ImageDataset, Images
from nas.runtime.arithmetic import choose
from nas.runtime.devices import open_device
from nas.runtime.precision import Precision
from nas.search.request import SPLIT_SEED
from nas.statistics import Estimate, mean_accuracy
from nas.text import percent, percent_range
from nas.training.checkpoint import Checkpoint
from nas.training.config import RECIPES, TrainingConfig
from nas.training.evaluation import evaluate
from nas.training.loop import Diverged, Run, task_of
from nas.training.plan import RunPlan


def design(text: str) -> Architecture:
    """A preset by its name, or B1,1,1:C16,32,64:P8, where F and K are 3 and 1 if not given."""
    if text in PRESETS:
        return PRESETS[text]
    values = {part[0]: tuple(map(int, part[1:].split(","))) for part in text.split(":")}
    stages = len(values["B"])
    return Architecture(
        blocks=values["B"],
        channels=values["C"],
        kernels=values.get("F", (3,) * stages),
        shortcut_kernels=values.get("K", (1,) * stages),
        pool=values["P"][0],
    )


def variation(text: str, dataset: ImageDataset, device: torch.device) -> TrainingConfig:
    """A recipe by its name, with changes such as /lr=0.4/augment=crop,flip/ema=none."""
    name, *changes = text.split("/")
    config = RECIPES[name](task_of(dataset, device))
    given: dict[str, object] = {}
    for change in changes:
        field, value = change.split("=")
        old = getattr(config, field)
        if isinstance(old, tuple):
            given[field] = tuple(value.split(",")) if value else ()
        elif value == "none":
            given[field] = None
        elif isinstance(old, bool):
            given[field] = value == "true"
        else:
            kind = float if old is None else int if type(old) is int else type(old)
            given[field] = value if isinstance(old, str) else kind(value)
    return dataclasses.replace(config, **given)  # type: ignore[arg-type]  # it checks them


def train(
    plan: RunPlan, device: torch.device, checkpoint: Checkpoint, test: Images | None = None
) -> dict[str, object]:
    """One run: accuracies after each epoch, its seconds with and without the first epoch.

    With test images also its accuracy on them, which takes no part in the seconds.
    """
    run, reason = plan.begin(device), None
    checkpoint.restore(run)
    if run.history:
        print(f"resumes after epoch {len(run.history)}", file=sys.stderr, flush=True)
    while not run.finished:
        try:
            run.train_epoch()
        except Diverged as error:
            reason = str(error)
            break
        checkpoint.save(run)
    return tested(run, plan.dataset, None if reason else test) | {
        "accuracies": [round(epoch.val_accuracy, 4) for epoch in run.history],
        "seconds": round(sum(epoch.seconds for epoch in run.history), 2),
        "later_seconds": round(sum(epoch.seconds for epoch in run.history[1:]), 2),
        "images_per_second": round(run.history[-1].images_per_second) if run.history else 0,
        "note": reason or run.not_captured,
    }


def tested(run: Run, dataset: ImageDataset, test: Images | None) -> dict[str, object]:
    """How many test images the last weights classify rightly, of how many."""
    if test is None:
        return {}
    accuracy = evaluate(run.eval_model, test, dataset).accuracy
    return {"test_right": round(accuracy * len(test)), "test_images": len(test)}


def accuracy_on_test(runs: list[dict[str, Any]]) -> Estimate | None:
    """The mean over runs and its 95% interval, 0..1; None where test images were not read.

    Which images were right is not kept; the interval depends on how many alone.
    """
    if not all("test_right" in run for run in runs):  # without --test, or one diverged
        return None
    right_S1 = np.array([[run["test_right"]] for run in runs])
    return mean_accuracy(np.arange(runs[0]["test_images"]) < right_S1)


def table(rows: list[dict[str, object]], epochs: int) -> list[str]:
    """A line for each design and variation, in the order of the first runs."""
    groups: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rows:
        if row["epochs"] == epochs:
            groups.setdefault((str(row["design"]), str(row["variation"])), []).append(row)
    lines = [
        "| design | variation | seeds | accuracy, % | test | images/s | seconds | later |",
        "|---" * 8 + "|",
    ]
    for (name, what), runs in groups.items():
        last = [100 * r["accuracies"][-1] for r in runs if len(r["accuracies"]) == epochs]  # type: ignore[index,arg-type]
        spread = f" ± {np.std(last, ddof=1):.2f}" if len(last) > 1 else ""
        found = f"{np.mean(last):.2f}{spread}" if len(last) == len(runs) else "diverged"
        test = accuracy_on_test(runs)
        on_test = f"{percent(test.value)} ({percent_range(test.low, test.high)})" if test else ""
        speed = np.median([float(str(r["images_per_second"])) for r in runs])
        seconds, later = (
            np.mean([float(str(r[k])) for r in runs]) for k in ("seconds", "later_seconds")
        )
        lines.append(
            f"| {name} | {what} | {len(runs)} | {found} | {on_test} | {speed:,.0f} | {seconds:.1f} "
            f"| {later:.1f} |"
        )
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What any comparison of trainings is told: images, length, seeds and the machine."""
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--subset", type=float, default=1.0, help="share of the training part")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, help="of torch; 1 where other programs run")


def opened(options: argparse.Namespace) -> tuple[torch.device, Precision, ImageDataset]:
    """The device, the arithmetic of training, and the images on the device."""
    device = open_device(options.device, options.threads)
    precision = choose(options.precision, device).precision
    dataset = load_dataset(
        options.dataset, options.data_dir, split_seed=SPLIT_SEED, subset=options.subset
    )
    return device, precision, dataset.to(device)


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--designs", nargs="+", required=True)
    parser.add_argument("--variations", nargs="+", required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="read the test images after each run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    options = parser.parse_args()
    device, precision, dataset = opened(options)
    test = None
    if options.test:
        part = load_test(options.dataset, options.data_dir, split_seed=SPLIT_SEED)
        test = part.images.to(device)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    keys = ("design", "variation", "epochs", "seed", "train_images")
    if options.test and not all("test_right" in row for row in rows):
        parser.error(
            f"--test: {options.out} has runs that read no test image; choose another --out"
        )
    if others := {row["recipe"]["precision"] for row in rows} - {precision}:
        parser.error(
            f"{options.out} has runs in {others.pop()}, these are in {precision}; choose another "
            "--out"
        )
    done = {tuple(row[k] for k in keys) for row in rows}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for what in options.variations:
            for name in options.designs:
                key = (name, what, options.epochs, seed, len(dataset.train))
                if key in done:
                    continue
                config = dataclasses.replace(
                    variation(what, dataset, device), epochs=options.epochs, precision=precision
                )
                plan = RunPlan(architecture=design(name), dataset=dataset, config=config, seed=seed)
                checkpoint = plan.checkpoint(options.out.with_suffix(".pt"), device)
                found = train(plan, device, checkpoint, test)
                row = dict(zip(keys, key, strict=True)) | found
                rows.append(row)
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row | {"recipe": config.to_dict()}) + "\n")
                checkpoint.remove()
                last = (found["accuracies"] or [None])[-1]  # type: ignore[index]
                print(f"{name} {what} seed {seed}: {last}, {found}", file=sys.stderr, flush=True)
    print(json.dumps({"hardware": hardware(device), "torch": torch.__version__}))
    print("\n".join(table(rows, options.epochs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
