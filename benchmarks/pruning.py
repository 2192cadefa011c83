"""What pruners save and what they lose, replayed on recorded learning curves.

A search is imitated by drawing designs of a table in random order, without replacement, and
telling them to an Optuna study one epoch after another, where the pruner decides as it would in a
search (`nas.search.replay`). Over 1,000 such draws: the share of epochs saved, how often the design
that is best at full length (one of them, when several are) ran to its end, and how many points of
accuracy the best design that did is below it. The pruners are those of Optuna itself and of
`nas.search.pruners`::

    python benchmarks/pruning.py --curves benchmarks/tables/*.csv

Of our own tables accuracies are those that `fast` judges, of averaged weights, and after the last
epoch of the weights themselves; or of one kind throughout with `--score`. Tables of others are
those of three public repositories: MITAutoML/accelerating_nas (`data/*.csv`), talcs/NAAP-440
(`naap440.csv`), and hoshiraku/dlfinal (the folder `data/final_project`).

Intervals are 95% over the draws, which all come from one table: they do not say what another data
set would give. Of several tables, means and the worst are at the end. A run that diverged ends
there, and is never the best. Prints Markdown tables.

With `--risks`, `evidence` is replayed with each, and each table scored with the risk that the
others would choose: the largest with which the best is kept in 98% of their draws on average.
"""

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

from nas.search.evidence import EvidencePruner
from nas.search.pruners import CHECKS, epochs_at, make_pruner
from nas.search.replay import Replay, replay
from nas.search.request import PRUNERS

SCORES = ("judged", "raw", "ema")
Z = NormalDist().inv_cdf(0.975)


def pruners(epochs: int, risks: Iterable[float]) -> dict[str, Callable[[], BasePruner] | None]:
    """What is compared, by the name it is shown under; those of `nas search` first."""

    def halving(least: int, factor: int) -> BasePruner:
        return SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)

    def hyperband(least: int, factor: int) -> BasePruner:
        return HyperbandPruner(min_resource=least, max_resource=epochs, reduction_factor=factor)

    def median(warmup: int, startup: int) -> BasePruner:
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)

    def percentile(share: float, warmup: int) -> BasePruner:
        return PercentilePruner(share, n_startup_trials=5, n_warmup_steps=warmup)

    def at(epoch: int) -> str:
        return {1: "epoch 1", early: "three tenths", half: "the middle"}[epoch]

    def patient(patience: int) -> BasePruner:
        return PatientPruner(None, patience=patience)

    def evidence(risk: float) -> BasePruner:
        return EvidencePruner(epochs_at(CHECKS, epochs), risk=risk)

    early, half = max(1, round(epochs * 0.3)), max(1, epochs // 2)
    found: dict[str, Callable[[], BasePruner] | None] = {
        f"`{name}`": partial(make_pruner, name, epochs=epochs) for name in PRUNERS
    }
    for risk in risks:
        found[risk_name(risk)] = partial(evidence, risk)
    found["i-epoch, a third of the epochs, then the best 10"] = None
    for share in (0.1, 0.3):
        patience = max(1, round(share * epochs))
        found[f"Patience, {share:.0%} of the epochs"] = partial(patient, patience)
    for warmup, startup in ((1, 5), (1, 10), (early, 5), (early, 10), (half, 10)):
        name = f"Median, from {at(warmup)}, after {startup} trials"
        found[name] = partial(median, warmup, startup)
    for share in (25, 75):
        name = f"Percentile {share}, from {at(half)}, after 5 trials"
        found[name] = partial(percentile, share, half)
    for least, factor in ((1, 2), (early, 2), (early, 3)):
        found[f"SuccessiveHalving, from {at(least)}, 1/{factor}"] = partial(halving, least, factor)
    for least in (1, early):
        found[f"Hyperband, from {at(least)}, 1/2"] = partial(hyperband, least, 2)
    return found


def i_epoch(curves_TE: NDArray[np.float64]) -> Replay:
    """All runs for a third of their epochs, and the ten that are best there to their end."""
    runs, epochs = curves_TE.shape
    third = max(1, round(epochs / 3))
    going = np.argsort(-np.nan_to_num(curves_TE[:, third - 1]), kind="stable")[:10]
    best, found = np.nanmax(curves_TE[:, -1]), np.nanmax(curves_TE[going, -1])
    saved = (1 - len(going) / runs) * (1 - third / epochs)
    return Replay(saved, bool(found == best), float(best - found))


def replays(
    curves_DE: NDArray[np.float64],
    make: Callable[[], BasePruner] | None,
    *,
    resamplings: int,
    trials: int,
    seed: int,
) -> list[Replay]:
    """One replay per draw; the draws depend on the seed alone, so they are the same for all.

    Without a pruner it is that of `i_epoch`, which is none: it decides on all runs at once.
    """
    rng = np.random.default_rng(seed)
    drawn = (curves_DE[rng.permutation(len(curves_DE))[:trials]] for _ in range(resamplings))
    if make is None:
        return [i_epoch(curves_TE) for curves_TE in drawn]
    return [replay(curves_TE, make(), f"draw {i}") for i, curves_TE in enumerate(drawn)]


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


def risk_name(risk: float) -> str:
    return f"`evidence`, risk {risk:g}"


def read_curves(path: Path, score: str) -> NDArray[np.float64]:
    """Designs x epochs: the accuracies of a table, of our own by one of `SCORES`.

    A folder is one of learning curves in JSON, of errors. Perplexities come back as negatives.
    """
    if path.is_dir():
        files = sorted(path.glob("config_*.json"), key=lambda file: int(file.stem.split("_")[1]))
        errors = [json.loads(file.read_text())["learning_curve"] for file in files]
        return 1 - np.array(errors, dtype=np.float64)
    table = pd.read_csv(path)
    perplexities = [name for name in table.columns if re.fullmatch(r"ep_\d+", name)]
    if perplexities:
        return -table[perplexities].to_numpy(dtype=np.float64)
    others = [name for name in table.columns if re.fullmatch(r"acc_\d+|e\d+Accuracy", name)]
    if others:
        return table[others].to_numpy(dtype=np.float64)
    columns = "raw" if score == "raw" else "ema"
    names = [c for c in table.columns if c.removeprefix(f"{columns}_").isdigit()]
    if score == "judged":
        names[-1] = f"raw_{len(names)}"
    return table[names].to_numpy(dtype=np.float64)


def means(found: Mapping[str, Mapping[str, Sequence[Replay]]]) -> Iterator[str]:
    """Lines of all pruners, over tables: by table, then by pruner."""
    tables = list(found)
    yield f"| pruner | {' | '.join(tables)} | mean | worst kept |"
    yield "|---" * (len(tables) + 3) + "|"
    for name in found[tables[0]]:
        saved = [100 * fmean(r.saved for r in found[table][name]) for table in tables]
        kept = [100 * fmean(r.kept for r in found[table][name]) for table in tables]
        cells = [f"{s:.1f} / {k:.1f}" for s, k in zip(saved, kept, strict=True)]
        mean = f"{fmean(saved):.1f} / {fmean(kept):.1f}"
        yield f"| {name} | {' | '.join(cells)} | {mean} | {min(kept):.1f} |"


def choices(
    found: Mapping[str, Mapping[str, Sequence[Replay]]], risks: Sequence[float]
) -> Iterator[str]:
    """Lines of all tables: the risk that the others choose, and what it saves and keeps."""

    def kept(table: str, risk: float) -> float:
        return fmean(r.kept for r in found[table][risk_name(risk)])

    yield "| table | risk chosen by the others | saved / kept |"
    yield "|---|---|---|"
    chosen = {}
    for table in found:
        others = [other for other in found if other != table]
        good = [risk for risk in risks if fmean(kept(other, risk) for other in others) >= 0.98]
        risk = max(good, default=min(risks))
        replayed = found[table][risk_name(risk)]
        chosen[table] = 100 * fmean(r.saved for r in replayed), 100 * kept(table, risk)
        yield f"| {table} | {risk:g} | {chosen[table][0]:.1f} / {chosen[table][1]:.1f} |"
    saved, hits = zip(*chosen.values(), strict=True)
    yield f"| mean | | {fmean(saved):.1f} / {fmean(hits):.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--curves", type=Path, nargs="+", required=True, metavar="TABLE")
    parser.add_argument("--score", choices=SCORES, default="judged")
    parser.add_argument("--pruners", nargs="+", metavar="NAME", help="of the table (default: all)")
    parser.add_argument("--risks", nargs="+", type=float, default=[], metavar="R")
    parser.add_argument("--resamplings", type=int, default=1_000)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    found: dict[str, dict[str, list[Replay]]] = {}
    for path in options.curves:
        curves_DE = read_curves(path, options.score)
        print(
            f"\n{path.stem}, {options.score}: {len(curves_DE)} designs, "
            f"{curves_DE.shape[1]} epochs; {options.resamplings:,} draws of {options.trials}\n"
        )
        print("| pruner | epochs saved | best design kept | points lost |\n|---|---|---|---|")
        found[path.stem] = {}
        for name, make in pruners(curves_DE.shape[1], options.risks).items():
            words = name.replace("`", "")
            if options.pruners and not any(words.startswith(asked) for asked in options.pruners):
                continue
            replayed = replays(
                curves_DE,
                make,
                resamplings=options.resamplings,
                trials=options.trials,
                seed=options.seed,
            )
            found[path.stem][name] = replayed
            print(line(name, replayed), flush=True)
    print(
        "\nEpochs saved / draws with the best design kept, in percent:\n", *means(found), sep="\n"
    )
    if options.risks and len(found) > 1:
        print("\nThe risk, chosen on other tables:\n", *choices(found, options.risks), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
