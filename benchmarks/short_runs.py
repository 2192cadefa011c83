"""How well short runs rank designs: tables of `make_table.py` of the same designs, compared.

The first table holds the long runs that decide what is right, the others shorter ones: fewer
epochs, fewer images, or both::

    python benchmarks/short_runs.py LONG.csv SHORT.csv ...

Prints a Markdown table: seconds of a run (mean over the designs), Spearman's rank correlation of
its final validation accuracy with that of the long run, the same among the better half of designs,
and where the short runs' best design stands among the long ones (1 is the best). Designs that a
table lacks, or that diverged in it, are left out. Intervals are 95%, from 2,000 resamplings of the
designs.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

_DESIGN = ["blocks", "channels", "kernels", "shortcut_kernels", "pool"]
_RESAMPLINGS = 2_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Runs:
    """A table, with the mean over seeds of each design's final accuracy."""

    name: str
    epochs: int
    images: int  # that were trained on
    seconds: float
    final: pd.Series  # by design


def read(path: Path) -> Runs:
    """A table and the JSON file beside it."""
    table = pd.read_csv(path, dtype=dict.fromkeys(_DESIGN, str))
    settings = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["settings"]
    epochs = settings["recipe"]["epochs"]
    means = table.groupby(_DESIGN)[[f"raw_{epochs}", "seconds"]].mean().dropna()
    return Runs(
        path.stem,
        epochs,
        settings["train_images"],
        float(means["seconds"].mean()),
        means[f"raw_{epochs}"],
    )


def correlation(short_D: Floats, long_D: Floats) -> str:
    """Spearman's, with its interval."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(long_D), size=len(long_D)) for _ in range(_RESAMPLINGS)]
    found = [
        spearmanr(short_D[i], long_D[i]).statistic
        for i in drawn
        if np.ptp(short_D[i]) > 0 and np.ptp(long_D[i]) > 0
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return f"{spearmanr(short_D, long_D).statistic:.2f} ({low:.2f} to {high:.2f})"


def row(short: Runs, long: Runs) -> str:
    """One line of the Markdown table."""
    both = pd.concat([short.final, long.final], axis=1, join="inner", keys=["short", "long"])
    short_D, long_D = both["short"].to_numpy(), both["long"].to_numpy()
    better = long_D >= np.median(long_D)
    place = 1 + int((long_D > long_D[short_D.argmax()]).sum())
    cells = (
        short.name,
        short.epochs,
        f"{short.images:,}",
        f"{short.seconds:.0f}",
        len(both),
        correlation(short_D, long_D),
        correlation(short_D[better], long_D[better]),
        place,
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("long", type=Path, metavar="LONG.csv")
    parser.add_argument("short", type=Path, nargs="+", metavar="SHORT.csv")
    options = parser.parse_args()
    long = read(options.long)
    head = ("table", "epochs", "images", "seconds", "designs", "rank correlation")
    print(f"| {' | '.join(head)} | of the better half | best one's place |")
    print("|---" * (len(head) + 2) + "|")
    for path in (options.long, *options.short):
        print(row(read(path), long))
    return 0


if __name__ == "__main__":
    sys.exit(main())
