"""How good the best of n trained designs is, for several ways to propose them.

NAS-Bench-Macro within 1.634 M parameters, 50 trained designs, 50 seeds: the default 0.000, Optuna's
TPE 0.036, evolution 0.27, random designs 0.45 points. More tables, our own space among them, in
`docs/proposals.md`.

Regret is what the incumbent's accuracy lacks to the best design within the budget, in points. A
search is replayed on a table of real trainings, so that every method can have many seeds::

    python benchmarks/search_efficiency.py --table TABLE.csv --budget none 1.634e6 --check

`--table` is a CSV file with choices x1, x2, ..., `params` and `acc` in percent (see
`search_tables.read_table`), or a table of `make_table.py`, with its .json beside it: such a table
is a sample of a large space, and searches run on a regression fitted to it (`search_surrogate`). A
budget is a number of parameters, a share of designs that fit, such as 50%, or none.

What counts is designs *trained*: proposals over the budget and designs proposed again cost a search
nothing here, and are shown beside. All methods get the same seeds. With `--check` the exit status
is 1 when a goal is missed.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import optuna
from scipy.stats import t as student

from machine import processor, software
from search_methods import ABLATIONS, ALWAYS, BY_HAND, METHODS, RESNETS, Trace, search
from search_surrogate import Recorded, Surrogate, read_recorded, surrogate_task
from search_tables import Task, read_table, table_task

STEPS = (10, 25, 50, 100)  # trained designs
VERDICT = 50  # trained designs
DEFAULT = "gp"
MACRO = "nas_bench_macro_cifar10"
GOALS: Mapping[tuple[str, float | None], Mapping[int, float]] = {  # most mean regret of the default
    (MACRO, 1.634e6): {50: 0.06, 100: 0.015},
    (MACRO, None): {50: 0.03},
}
WORSE_FROM = 25  # trained designs; from there on never worse than random
MOST_OVER_BUDGET = 0.02


@dataclass(frozen=True)
class Source:
    """Where a task comes from."""

    table: Path
    truth: tuple[str, ...]
    seen: tuple[str, ...]

    @property
    def recorded(self) -> bool:
        """Whether it is a table of `make_table.py`."""
        return self.table.with_suffix(".json").exists()


@dataclass(frozen=True)
class Summary:
    """One method over all seeds."""

    regret: list[float]  # mean, after each trained design
    margin: list[float]  # half of the 95% interval of that mean
    over_budget: float  # share of proposals after the first trained designs
    duplicates: float  # per search
    milliseconds: float
    ended: int  # searches that did not get to train all designs

    @classmethod
    def of(cls, traces: Sequence[Trace], best: float) -> "Summary":
        """Means over the seeds."""
        seeds = len(traces)
        regrets = [
            [best - truth for truth in truths]
            for truths in zip(*(trace.truths for trace in traces), strict=True)
        ]
        wide = float(student.ppf(0.975, seeds - 1)) / math.sqrt(seeds)
        return cls(
            regret=[fmean(values) for values in regrets],
            margin=[wide * stdev(values) for values in regrets],
            over_budget=fmean(trace.over_budget for trace in traces),
            duplicates=fmean(trace.duplicates for trace in traces),
            milliseconds=fmean(trace.milliseconds for trace in traces),
            ended=sum(trace.ended for trace in traces),
        )

    def at(self, trained: int) -> str:
        """Regret in words."""
        return f"{self.regret[trained - 1]:.3f} ± {self.margin[trained - 1]:.3f}"


@cache
def make_task(source: Source, budget: str) -> Task:
    limit = None if budget == "none" else budget
    if source.recorded:
        return surrogate_task(*fitted(source), limit)
    return table_task(read_table(source.table, truth=source.truth, seen=source.seen), limit)


@cache
def fitted(source: Source) -> tuple[Recorded, Surrogate]:
    recorded = read_recorded(source.table, next(iter(source.truth), None))
    return recorded, Surrogate(recorded)


def run(source: Source, budget: str, trained: int, name: str, seed: int) -> Trace:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return search(make_task(source, budget), name, seed, trained)


def measure(
    source: Source,
    budget: str,
    methods: Sequence[str],
    *,
    seeds: int,
    trained: int,
    workers: int = 1,
) -> tuple[dict[str, Summary], float]:
    """Every method with every seed, and the best design known of, which regret is against."""
    jobs = list(product(methods, range(seeds)))
    one = partial(run, source, budget, trained)
    if workers == 1:
        traces = [one(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            traces = list(pool.map(one, *zip(*jobs, strict=True), chunksize=5))
    best = max(make_task(source, budget).best(), *(max(trace.truths) for trace in traces))
    by_method = {
        name: [trace for (of, _), trace in zip(jobs, traces, strict=True) if of == name]
        for name in methods
    }
    return {name: Summary.of(found, best) for name, found in by_method.items()}, best


def show(summaries: Mapping[str, Summary], trained: int) -> None:
    steps = sorted({*(step for step in STEPS if step <= trained), trained})
    heads = ["method", *(f"n={n}" for n in steps), "over budget", "duplicates", "ms"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name, summary in summaries.items():
        cells = [
            name + (f" ({summary.ended} ended early)" if summary.ended else ""),
            *map(summary.at, steps),
            f"{summary.over_budget:.1%}",
            f"{summary.duplicates:.1f}",
            f"{summary.milliseconds:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


def verdict(summaries: Mapping[str, Summary], trained: int) -> str:
    """Whether the default is better than random designs and than TPE, however it is used."""
    at = min(VERDICT, trained) - 1
    ours = summaries[DEFAULT]
    said = []
    for name, other in summaries.items():
        if name != DEFAULT and name not in ABLATIONS:
            apart = ours.regret[at] + ours.margin[at] < other.regret[at] - other.margin[at]
            behind = other.regret[at] + other.margin[at] < ours.regret[at] - ours.margin[at]
            said.append(f"{'beats' if apart else 'LOSES TO' if behind else 'does not beat'} {name}")
    return f"Verdict at n={at + 1}, by intervals that do not overlap: {DEFAULT} {', '.join(said)}."


def missed(
    table: str, budget: str, summaries: Mapping[str, Summary], trained: int
) -> Iterator[str]:
    """Goals that the default does not reach."""
    ours = summaries[DEFAULT]
    limit = None if budget == "none" or budget.endswith("%") else float(budget)
    for n, most in GOALS.get((table, limit), {}).items():
        if n <= trained and ours.regret[n - 1] > most:
            yield f"regret {ours.regret[n - 1]:.3f} at n={n}, at most {most:g}"
    for n in range(WORSE_FROM, trained + 1):
        if ours.regret[n - 1] > summaries["random"].regret[n - 1]:
            yield f"worse than random at n={n}"
            break
    if ours.over_budget > MOST_OVER_BUDGET:
        yield f"{ours.over_budget:.1%} over the budget, at most {MOST_OVER_BUDGET:.0%}"
    if ours.duplicates > 0:
        yield f"{ours.duplicates:g} duplicates per search, expected none"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description="Regret of search methods on a table of real trainings."
    )
    parser.add_argument("--table", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument(
        "--budget", nargs="+", default=["none"], help="parameters, a share such as 50%%, or none"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="these alone")
    parser.add_argument("--ablations", action="store_true", help="variants of the default too")
    parser.add_argument("--truth", nargs="+", default=[], help="columns whose mean counts")
    parser.add_argument("--seen", nargs="+", default=[], help="columns whose mean a search sees")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trained", type=int, default=100, help="designs per search")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    found = parser.parse_args(arguments)
    if found.seeds < 2:
        parser.error(f"argument --seeds: expected at least 2, got {found.seeds}")
    return found


def chosen_methods(options: argparse.Namespace, task: Task) -> list[str]:
    """Those asked for, or all that suit the task."""
    if options.methods:
        needed = [DEFAULT, "random"] if options.check else []
        return list(dict.fromkeys([*options.methods, *needed]))
    names = [*ALWAYS, *(RESNETS if task.proposals else ())]
    if not task.complete:
        names = [name for name in names if name not in BY_HAND]
    return [*names, *(ABLATIONS if options.ablations else ())]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    source = Source(options.table, tuple(options.truth), tuple(options.seen))
    print(f"{processor()}, {software('numpy', 'scipy', 'scikit-learn', 'optuna')}")
    print(f"{options.table.name}, {options.seeds} seeds; mean regret with its 95% interval")
    if source.recorded:
        print(fitted(source)[1].quality())
    failed = False
    for budget in options.budget:
        task = make_task(source, budget)
        summaries, best = measure(
            source,
            budget,
            chosen_methods(options, task),
            seeds=options.seeds,
            trained=options.trained,
            workers=options.workers,
        )
        print(f"\nBudget {budget}: {task.size}; best {best:.3f}\n")
        show(summaries, options.trained)
        if DEFAULT in summaries and len({*summaries} - {*ABLATIONS}) > 1:
            print(f"\n{verdict(summaries, options.trained)}")
        if options.check:
            goals = list(missed(options.table.stem, budget, summaries, options.trained))
            print(f"\n{'; '.join(f'MISSED: {goal}' for goal in goals) or 'all goals reached'}")
            failed = failed or bool(goals)
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
