"""Rules that stop runs early, replayed on recorded learning curves.

A search is imitated by drawing 50 curves of a table in random order, without replacement, and
telling them to an Optuna study one epoch after another, where the pruner decides as it would in a
search. Over 1,000 such draws: the share of epochs saved, how often the design that is best at full
length (one of them, when several are) ran to its end, and how many points of accuracy the best
design that did is below it. Accuracies are those that `fast` judges, of averaged weights, and after
the last epoch of the weights themselves; or of one kind throughout with `--score`. The pruners are
those of Optuna itself and of `nas.search.pruners`::

    python benchmarks/pruning.py --curves benchmarks/tables/digits-half.csv

Intervals are 95% over the draws, which all come from one table: they do not say what another data
set would give. A run that diverged ends there, and is never the best. Prints a Markdown table.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean, stdev

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from nas.search.pruners import make_pruner
from nas.search.request import PRUNERS

SCORES = ("judged", "raw", "ema")
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Replay:
    """One imitated search."""

    saved: float  # share of the epochs
    kept: bool  # whether a best design ran to its end
    lost: float  # accuracy of the best design less that of the best one that ran to its end, 0..1


def pruners(epochs: int) -> dict[str, Callable[[], BasePruner]]:
    """What is compared, by the name it is shown under; those of `nas search` first."""

    def halving(least: int, factor: int) -> BasePruner:
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)

    def hyperband(least: int, factor: int) -> BasePruner:
        return HyperbandPruner(min_resource=least, max_resource=epochs, reduction_factor=factor)

    def median(warmup: int, startup: int) -> BasePruner:
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)

    def percentile(share: float, warmup: int) -> BasePruner:
        return PercentilePruner(share, n_startup_trials=5, n_warmup_steps=warmup)

    early, half = max(1, round(epochs * 0.3)), max(1, epochs // 2)
    found: dict[str, Callable[[], BasePruner]] = {
        f"`{name}`": partial(make_pruner, name, epochs=epochs) for name in PRUNERS
    }
    for warmup, startup in ((1, 5), (1, 10), (early, 5), (early, 10), (half, 10)):
        name = f"Median, from epoch {warmup}, after {startup} trials"
        found[name] = partial(median, warmup, startup)
    for share in (25, 75):
        name = f"Percentile {share}, from epoch {half}, after 5 trials"
        found[name] = partial(percentile, share, half)
    for least, factor in ((1, 2), (early, 2), (early, 3)):
        found[f"SuccessiveHalving, from epoch {least}, 1/{factor}"] = partial(
            halving, least, factor
        )
    for least in (1, early):
        found[f"Hyperband, from epoch {least}, 1/2"] = partial(hyperband, least, 2)
    return found


def replay(curves_TE: NDArray[np.float64], pruner: BasePruner, name: str) -> Replay:
    """T trials of E epochs in this order; NaN from where a run diverged."""
    epochs = curves_TE.shape[1]
    study = optuna.create_study(
        study_name=name,  # decides which trial Hyperband puts into which bracket
        direction="maximize",
        sampler=RandomSampler(seed=0),
        pruner=pruner,
    )
    done, kept = 0, []
    for curve_E in curves_TE:
        trial = study.ask()
        for epoch, accuracy in enumerate(curve_E.tolist(), start=1):
            done += 1
            if np.isnan(accuracy):
                break
            trial.report(accuracy, step=epoch)
            if epoch < epochs and trial.should_prune():
                break
        else:
            kept.append(accuracy)
            study.tell(trial, accuracy)
            continue
        study.tell(trial, state=TrialState.PRUNED)
    best = float(np.nanmax(curves_TE[:, -1]))
    found = max(kept, default=0.0)
    return Replay(1 - done / curves_TE.size, found == best, best - found)


def replays(
    curves_DE: NDArray[np.float64],
    make: Callable[[], BasePruner],
    *,
    resamplings: int,
    trials: int,
    seed: int,
) -> list[Replay]:
    """One replay per draw; the draws depend on the seed alone, so they are the same for all."""
    rng = np.random.default_rng(seed)
    return [
        replay(curves_DE[rng.permutation(len(curves_DE))[:trials]], make(), f"draw {i}")
        for i in range(resamplings)
    ]


def mean_interval(values: Iterable[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval."""
    found = list(values)
    return fmean(found), Z * stdev(found) / len(found) ** 0.5


def share_interval(hits: int, tries: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson)."""
    share, z2 = hits / tries, Z**2 / tries
    middle = (share + z2 / 2) / (1 + z2)
    half = Z * (share * (1 - share) / tries + z2 / (4 * tries)) ** 0.5 / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def line(name: str, found: list[Replay]) -> str:
    saved, saved_half = mean_interval(r.saved for r in found)
    lost, lost_half = mean_interval(100 * r.lost for r in found)
    hits = sum(r.kept for r in found)
    low, high = share_interval(hits, len(found))
    return (
        f"| {name} | {saved:.1%} ± {100 * saved_half:.1f} | {hits / len(found):.1%} "
        f"({100 * low:.1f}-{100 * high:.1f}) | {lost:.2f} ± {lost_half:.2f} |"
    )


def read_curves(path: Path, score: str) -> NDArray[np.float64]:
    """Designs x epochs: the accuracies of a table by one of `SCORES`."""
    table = pd.read_csv(path)
    columns = "raw" if score == "raw" else "ema"
    names = [c for c in table.columns if c.removeprefix(f"{columns}_").isdigit()]
    if score == "judged":
        names[-1] = f"raw_{len(names)}"
    return table[names].to_numpy(dtype=np.float64)


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--curves", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--score", choices=SCORES, nargs="+", default=["judged"])
    parser.add_argument("--pruners", nargs="+", metavar="NAME", help="of the table (default: all)")
    parser.add_argument("--resamplings", type=int, default=1_000)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for score in options.score:
        curves_DE = read_curves(options.curves, score)
        print(
            f"\n{options.curves.name}, {score}: {len(curves_DE)} designs, "
            f"{curves_DE.shape[1]} epochs; {options.resamplings:,} draws of {options.trials}\n"
        )
        print("| pruner | epochs saved | best design kept | points lost |\n|---|---|---|---|")
        for name, make in pruners(curves_DE.shape[1]).items():
            if options.pruners and name.strip("`") not in options.pruners:
                continue
            found = replays(
                curves_DE,
                make,
                resamplings=options.resamplings,
                trials=options.trials,
                seed=options.seed,
            )
            print(line(name, found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
