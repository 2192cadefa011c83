"""Learning curves of random designs, recorded once so that rules can be judged on them for ever.

Draws distinct designs of the search space within the budget, trains each with the search's recipe
and writes the validation accuracy after every epoch, of the weights as they are (`raw_1`, `raw_2`,
...) and of averaged weights (`ema_1`, ...), which do not change the run they are averaged over, and
likewise the validation losses (`raw_loss_1`, ...)::

    python benchmarks/make_table.py --dataset digits --budget 5e6 --out benchmarks/tables/X.csv

One row per design and seed, in the order of the draw; `pandas.read_csv` reads it as it is. Beside
it lies `X.json`: recipe, space, versions, hardware and command. Every row is written as soon as it
is there, so a run that was killed goes on when it is started again, and a finished one can be made
longer with a larger `--designs`. Except for `seconds`, the same options give the same table on the
same machine. No test image is read.
"""

import argparse
import csv
import dataclasses
import io
import json
import platform
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import optuna
import torch

from machine import hardware
from nas.architecture import Architecture
from nas.counting import count
from nas.data.loading import load_dataset
from nas.data.split import Purpose, draw
from nas.data.types import ImageDataset, Images
from nas.files import replacing
from nas.runtime.arithmetic import choose
from nas.runtime.devices import open_device
from nas.runtime.precision import AUTO
from nas.search.recipe import search_recipe
from nas.search.request import SPLIT_SEED
from nas.space import Limits, SearchSpace, default_space, load_space
from nas.training.config import DEFAULTS, TrainingConfig
from nas.training.evaluation import evaluate
from nas.training.loop import Diverged
from nas.training.plan import RunPlan

Row = dict[str, str]


def draw_designs(space: SearchSpace, limits: Limits, *, seed: int) -> Iterator[Architecture]:
    """Distinct designs within the limits, for ever; a space without enough of them hangs."""
    rng = random.Random(seed)
    seen = set()
    while True:
        design = space.architecture(*space.draw(limits, rng))
        if design.key not in seen:
            seen.add(design.key)
            yield design


def record(
    design: Architecture,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
) -> Row:
    """Trains the design and gives its row; the curves of a run that diverged end early."""
    plan = RunPlan(architecture=design, dataset=dataset, config=config, seed=seed)
    run = plan.begin(device)
    cost = count(design, dataset.input)
    curves = {}
    started = time.perf_counter()
    while not run.finished:
        try:
            averaged = run.train_epoch()
        except Diverged:
            break
        raw = evaluate(run.model, dataset.validation, dataset)
        curves[f"raw_{averaged.epoch}"] = f"{raw.accuracy:.4f}"
        curves[f"ema_{averaged.epoch}"] = f"{averaged.val_accuracy:.4f}"
        curves[f"raw_loss_{averaged.epoch}"] = f"{raw.loss:.4f}"
        curves[f"ema_loss_{averaged.epoch}"] = f"{averaged.val_loss:.4f}"
    return {
        **identity(design, seed),
        "parameters": str(cost.parameters),
        "mult_adds": str(cost.mult_adds),
        "seconds": f"{time.perf_counter() - started:.2f}",
        **curves,
    }


def identity(design: Architecture, seed: int) -> Row:
    """What makes a row another row; values of stages joined as in 2-1-1."""
    names = ("blocks", "channels", "kernels", "shortcut_kernels")
    fields = {name: "-".join(map(str, getattr(design, name))) for name in names}
    return {**fields, "pool": str(design.pool), "seed": str(seed)}


def columns(epochs: int) -> list[str]:
    kinds = ("raw", "ema", "raw_loss", "ema_loss")
    curves = [f"{kind}_{epoch}" for kind in kinds for epoch in range(1, epochs + 1)]
    fields = ["blocks", "channels", "kernels", "shortcut_kernels", "pool", "seed"]
    return [*fields, "parameters", "mult_adds", "seconds", *curves]


def part_of(images: Images, share: float) -> Images:
    """That share of each class, always the same images."""
    chosen_N = torch.from_numpy(
        draw(images.labels_N.numpy(), share, seed=SPLIT_SEED, purpose=Purpose.VALIDATION)
    )
    return Images(images.pixels_NHWC[chosen_N], images.labels_N[chosen_N])


def read_rows(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows of a table by what identifies them; none where there is no table yet."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(islice(row.values(), 6)): row for row in csv.DictReader(file)}


def write_rows(path: Path, rows: list[Row], epochs: int) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(epochs), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--budget", type=float, default=5e6, help="most parameters of a design")
    parser.add_argument("--max-mult-adds", type=float, help="most mult-adds of a design")
    parser.add_argument("--designs", type=int, default=300)
    parser.add_argument("--subset", type=float, default=1.0, help="share of the training part")
    parser.add_argument("--validation", type=float, default=1.0, help="share of that part")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--lr", type=float, help="peak rate; default: the recipe's")
    parser.add_argument("--ema", type=float, help="decay per step; default: the recipe's")
    parser.add_argument("--space", type=Path, help="a TOML file; default: by the image size")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of designs")
    parser.add_argument("--first-seed", type=int, help="of the first training; default: --seed")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each design")
    parser.add_argument("--precision", default=AUTO, help="auto, float32 or bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--note", default="", help="why these settings; kept in the JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    return parser.parse_args()


def command(options: argparse.Namespace) -> str:
    """How to make the table again, wherever the data lies."""
    elsewhere = ("data_dir", "device", "note", "out")
    given = {k: v for k, v in vars(options).items() if v not in (None, AUTO) and k not in elsewhere}
    words = [
        f"--{name.replace('_', '-')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in given.items()
    ]
    return f"python benchmarks/make_table.py {' '.join(words)} --out FILE.csv"


def main() -> int:
    options = parsed()
    device = open_device(options.device)
    dataset = load_dataset(
        options.dataset, options.data_dir, split_seed=SPLIT_SEED, subset=options.subset
    )
    if options.validation < 1:
        dataset = dataclasses.replace(
            dataset, validation=part_of(dataset.validation, options.validation)
        )
    space = (
        load_space(options.space, dataset.input) if options.space else default_space(dataset.input)
    )
    limits = Limits(
        max_parameters=int(options.budget),
        max_mult_adds=int(options.max_mult_adds) if options.max_mult_adds else None,
    )
    recipe = search_recipe(dataset, device, options.epochs)
    config = dataclasses.replace(
        recipe,
        lr=options.lr or recipe.lr,
        ema=options.ema or recipe.ema,
        ema_at_end=True,
        precision=choose(options.precision, device).precision,
    )
    if config.ema is None:
        print("error: the recipe averages no weights: give --ema, such as 0.95", file=sys.stderr)
        return 2
    settings = {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "train_images": len(dataset.train),
        "validation_images": len(dataset.validation),
        "subset": dataset.subset,
        "split_seed": dataset.split_seed,
        "max_parameters": limits.max_parameters,
        "max_mult_adds": limits.max_mult_adds,
        "seed": options.seed,
        "recipe": config.to_dict(),
        "space": space.to_dict(),
    }
    sidecar = options.out.with_suffix(".json")
    rows = read_rows(options.out)
    found = json.loads(sidecar.read_text(encoding="utf-8")) if rows and sidecar.exists() else {}
    if found:  # tables may be older than a setting with a default
        found["settings"]["recipe"] = {**DEFAULTS, **found["settings"]["recipe"]}
    if found.get("settings", settings) != json.loads(json.dumps(settings)):
        print(f"error: {sidecar} has other settings: choose another --out", file=sys.stderr)
        return 2
    designs = list(islice(draw_designs(space, limits, seed=options.seed), options.designs))
    made = {
        "note": options.note or found.get("note", ""),
        "command": command(options),
        "hardware": hardware(device),
        "versions": versions(),
        "settings": settings,
    }
    write_text(sidecar, json.dumps(made, indent=1) + "\n")
    dataset = dataset.to(device)
    first = options.seed if options.first_seed is None else options.first_seed
    wanted = {
        tuple(identity(design, seed).values()): (design, seed)
        for design in designs
        for seed in range(first, first + options.seeds)
    }
    for number, (key, (design, seed)) in enumerate(wanted.items(), start=1):
        if key not in rows:
            rows[key] = record(design, dataset, config, seed=seed, device=device)
            done = [k for k in wanted if k in rows] + [k for k in rows if k not in wanted]
            write_rows(options.out, [rows[k] for k in done], config.epochs)
            shown = rows[key].get(f"raw_{config.epochs}", "diverged")
            print(f"{number}/{len(wanted)}: {design}, seed {seed}: {shown}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
