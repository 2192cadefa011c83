"""What a search has found after equal training time, replayed on recorded learning curves.

Each way of searching is a sampler with a pruner. It chooses among the designs of a table of
`make_table.py`, pays for each epoch what that took (`seconds`), and sees the recorded curve. What
counts is the best design that ran to its end, against the best one of the table::

    python benchmarks/equal_time.py --table benchmarks/tables/cifar10-small.csv

Time is counted in full trainings of a mean design. All ways have the same seeds, so the last
column compares them pair by pair with the first. `gp-per-cost` takes the largest expected
improvement per mult-add, and `gp-per-root` per square root of mult-adds: what a training costs is
known before it begins.
"""

import argparse
import csv
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from unittest.mock import patch

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.stats import t as student

from machine import processor, software
from nas.search import samplers
from nas.search.candidates import Candidates
from nas.search.domain import Domain, Params
from nas.search.pruners import make_pruner
from nas.search.samplers import make_sampler
from search_surrogate import read_recorded

PER_COST = {"gp-per-cost": 1.0, "gp-per-root": 0.5}  # exponents of mult-adds
WAYS = (
    "gp/evidence",
    "gp/rungs",
    "gp/none",
    "tpe/evidence",
    "random/evidence",
    "random/none",
    "gp-per-cost/evidence",
    "gp-per-root/evidence",
)
TIMES = (5, 10, 20, 40)  # full trainings of a mean design


@dataclass(frozen=True)
class Table:
    """Designs that were trained, as what a search may propose."""

    candidates: Candidates  # of the whole space
    domain: Domain  # these designs alone
    curves: Mapping[str, NDArray[np.float64]]  # [E] accuracies, by the key of a design
    seconds: Mapping[str, float]  # of a full training

    @property
    def epochs(self) -> int:
        """Of a full training."""
        return len(next(iter(self.curves.values())))

    @property
    def best(self) -> float:
        """The best final accuracy."""
        return max(float(curve[-1]) for curve in self.curves.values())


class PerCost(samplers._Model):
    """Promises less of what costs more."""

    exponent = 0.0

    def expected_improvement(self, designs: Sequence[Params]) -> list[float]:
        """[m] the improvement, divided by a power of the mult-adds."""
        improvement = super().expected_improvement(designs)
        costs = [self._costs([design])[0, 1] for design in designs]
        return [value / cost**self.exponent for value, cost in zip(improvement, costs, strict=True)]


def read_curves(path: Path) -> Table:
    """The table X.csv with X.json beside it; accuracies as `fast` judges them."""
    recorded = read_recorded(path, None)
    candidates = Candidates(recorded.space, recorded.limits)
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    epochs = max(int(name[4:]) for name in lines[0] if re.fullmatch(r"ema_\d+", name))
    judged = [*(f"ema_{epoch}" for epoch in range(1, epochs)), f"raw_{epochs}"]
    lines = [line for line in lines if line[f"ema_{epochs}"]]
    designs: dict[str, Params] = {}
    curves, seconds = {}, {}
    for architecture, line in zip(recorded.architectures, lines, strict=True):
        found = recorded.space.values_of(architecture)
        assert found is not None, "drawn from this space"
        values = {"stages": found[0], **found[1]}
        key = candidates.candidate(values).key
        designs[key] = values
        curves[key] = np.array([float(line[name]) for name in judged])
        seconds[key] = float(line["seconds"])
    rows = tuple(designs.values())
    domain = dataclasses.replace(
        candidates.domain,
        is_feasible=lambda params: candidates.candidate(params).key in curves,
        draw=lambda rng: rng.choice(rows),
    )
    domain.__dict__["pool"] = rows
    return Table(candidates, domain, curves, seconds)


def search(table: Table, way: str, seed: int, seconds: float) -> list[tuple[float, float]]:
    """When which best final accuracy had been found: (seconds of training, accuracy)."""
    sampler, pruner = way.split("/")
    exponent = PER_COST.get(sampler, 0.0)
    model = type("Model", (PerCost,), {"exponent": exponent})
    with patch.object(samplers, "_Model", model):
        return _search(table, sampler.partition("-")[0], pruner, seed, seconds)


def _search(
    table: Table, sampler: str, pruner: str, seed: int, seconds: float
) -> list[tuple[float, float]]:
    study = optuna.create_study(
        direction="maximize",
        sampler=make_sampler(sampler, seed=seed, domain=table.domain),
        pruner=make_pruner(pruner, epochs=table.epochs),
    )
    spent, found = 0.0, [(0.0, 0.0)]
    tried: set[str] = set()
    while spent < seconds and len(tried) < len(table.curves):
        trial = study.ask()
        key = table.candidates.suggest(trial).key
        if key in tried or key not in table.curves:  # the sampler found nothing new
            study.tell(trial, state=TrialState.FAIL)
            break
        tried.add(key)
        for epoch, accuracy in enumerate(table.curves[key].tolist(), start=1):
            spent += table.seconds[key] / table.epochs
            trial.report(accuracy, step=epoch)
            if epoch < table.epochs and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, accuracy)
            found.append((spent, max(accuracy, found[-1][1])))
    return found


def interval(values: list[float]) -> str:
    """The mean with its 95% interval."""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), metavar="SAMPLER/PRUNER")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = read_curves(options.table)
    mean = fmean(table.seconds.values())
    print(f"{options.table.name}: {len(table.curves)} designs, best {table.best:.2%}")
    print(f"a mean one takes {mean:.1f} s; {processor()}, {software()}\n")
    regrets: dict[tuple[str, int], list[float]] = {}
    for way in options.ways:
        for seed in range(options.seeds):
            found = search(table, way, seed, max(TIMES) * mean)
            for time in TIMES:
                best = max(accuracy for at, accuracy in found if at <= time * mean)
                regrets.setdefault((way, time), []).append(100 * (table.best - best))
    last = f"{TIMES[-2]}, less the first"
    print(f"| way | {' | '.join(f'{time} trainings' for time in TIMES)} | {last} |")
    print("|---" * (len(TIMES) + 2) + "|")
    first = regrets[options.ways[0], TIMES[-2]]
    for way in options.ways:
        cells = [interval(regrets[way, time]) for time in TIMES]
        pairs = zip(regrets[way, TIMES[-2]], first, strict=True)
        against = interval([own - other for own, other in pairs])
        print(f"| {way} | {' | '.join(cells)} | {against} |")


if __name__ == "__main__":
    main()
