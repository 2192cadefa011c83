"""Tables of real trainings as tasks for a search: what may be proposed, and what training shows."""

import csv
import itertools
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nas.search.candidates import Candidates
from nas.search.domain import Domain, Params

Row = tuple[Any, ...]  # one value per choice

_CHOICE = re.compile(r"[xl]\d+")
# Columns l1..l8 are the layers of NAS-Bench-Macro, in stages of 2, 3 and 3. It moves identities (0)
# to the end of a stage, except from its first layer, which changes the shape and stays.
_MACRO_COLUMNS = [f"l{i}" for i in range(1, 9)]
_MACRO_PARTS = (1, 1, 1, 2, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What methods are compared on. Accuracies are in percent.

    Args:
        domain: the designs within the budget.
        suggest: asks an Optuna trial for every choice of a design, within the budget or not.
        excess: how far a design is over the budget, as a share of it; fits when <= 0.
        truth: the accuracy that regret is measured in.
        training: what one training shows, from the design and the seed of the search.
        best: finds the largest truth of the domain.
        complete: whether each combination of choices has a truth.
        size: in words.
        proposals: of tasks that are a space of ResNets.
    """

    domain: Domain
    suggest: Callable[[optuna.Trial], object]
    excess: Callable[[Params], float]
    truth: Callable[[Params], float]
    training: Callable[[Params, int], float]
    best: Callable[[], float]
    complete: bool
    size: str
    proposals: Candidates | None = None


@dataclass(frozen=True)
class Table:
    """Every design of a file, in its order.

    Designs of the same key have the same accuracies: the mean over their rows.
    """

    search_space: Mapping[str, BaseDistribution]
    costs: Mapping[Row, tuple[float, ...]]  # parameters and mult-adds, as far as there are any
    keys: Mapping[Row, Hashable]
    truth: Mapping[Hashable, float]
    seen: Mapping[Hashable, float]

    @property
    def complete(self) -> bool:
        """Whether there is a row for each combination of choices."""
        return len(self.keys) == math.prod(map(_size, self.search_space.values()))


def read_table(path: Path, *, truth: Sequence[str] = (), seen: Sequence[str] = ()) -> Table:
    """A CSV file with the columns x1, x2, ... or l1, l2, ... (choices) and an accuracy in percent.

    Choices that are whole numbers have an order. `params`, `flops` and `key` may be missing.

    Args:
        path: of the file.
        truth: columns whose mean is the accuracy that counts; `mean_acc` or `acc` by default.
        seen: columns whose mean is what a search sees; by default the same.

    Raises:
        ValueError: a column is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    columns = list(lines[0]) if lines else []
    truth = truth or [name for name in ("mean_acc", "acc") if name in columns][:1]
    seen = seen or truth
    choices = sorted(filter(_CHOICE.fullmatch, columns), key=lambda name: int(name[1:]))
    if not choices or not truth or not {*truth, *seen} <= set(columns):
        raise ValueError(
            f"{path}: expected choices x1, x2, ... and {', '.join(truth) or 'acc'}, got {columns}"
        )
    values = {name: [_parsed(line[name]) for line in lines] for name in choices}
    open_choices = [name for name in choices if len(set(values[name])) > 1]
    space = {name: _distribution(set(values[name])) for name in open_choices}
    rows = list(zip(*(values[name] for name in open_choices), strict=True))
    if "key" in columns:
        keys = dict(zip(rows, [line["key"] for line in lines], strict=True))
    else:
        whole = zip(*values.values(), strict=True)
        macro = choices == _MACRO_COLUMNS
        keys = {row: _macro_key(w) if macro else row for row, w in zip(rows, whole, strict=True)}
    sizes = [name for name in ("params", "flops") if name in columns]
    return Table(
        search_space=space,
        costs={
            row: tuple(float(line[name]) for name in sizes)
            for row, line in zip(rows, lines, strict=True)
        },
        keys=keys,
        truth=_means([keys[row] for row in rows], lines, truth),
        seen=_means([keys[row] for row in rows], lines, seen),
    )


def table_task(table: Table, budget: str | None) -> Task:
    """The designs of a table within a budget.

    Args:
        table: the designs.
        budget: parameters, such as 5e6; or with a percent sign such that this share fits.

    Raises:
        ValueError: a budget for a table without `params`.
    """
    rows = list(table.keys)
    has_sizes = all(table.costs[row] for row in rows)
    if budget is not None and not has_sizes:
        raise ValueError(f"expected a column params for the budget {budget}, got none")
    limit = budget and budget_of(budget, lambda: [table.costs[row][0] for row in rows])

    def row_of(params: Params) -> Row:
        return tuple(params[name] for name in table.search_space)

    def excess(params: Params) -> float:
        return table.costs[row_of(params)][0] / limit - 1 if limit else 0.0

    def key(params: Params) -> Hashable:
        row = row_of(params)
        return table.keys.get(row, row)

    def draw(rng: random.Random) -> Params:
        return dict(zip(table.search_space, rng.choice(feasible), strict=True))

    def suggest(trial: optuna.Trial) -> None:
        for name, distribution in table.search_space.items():
            _suggest(trial, name, distribution)

    feasible = [row for row in rows if not limit or table.costs[row][0] <= limit]
    allowed = set(feasible)
    return Task(
        domain=Domain(
            search_space=table.search_space,
            is_feasible=lambda params: row_of(params) in allowed,
            key=key,
            cost=(lambda params: table.costs[row_of(params)]) if has_sizes else None,
            draw=draw,
        ),
        suggest=suggest,
        excess=excess,
        truth=lambda params: table.truth[key(params)],
        training=lambda params, seed: table.seen[key(params)],
        best=lambda: max(table.truth[table.keys[row]] for row in feasible),
        complete=table.complete,
        size=f"{len(feasible):,} of {len(rows):,} designs"
        + (f" within {limit:,.0f} parameters" if limit else ""),
    )


def budget_of(budget: str, parameters: Callable[[], Sequence[float]]) -> float:
    """The parameters that a budget stands for; with a percent sign those that this share has."""
    if not budget.endswith("%"):
        return float(budget)
    ascending = sorted(parameters())
    return ascending[max(round(len(ascending) * float(budget[:-1]) / 100) - 1, 0)]


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    else:
        assert isinstance(distribution, CategoricalDistribution)
        trial.suggest_categorical(name, distribution.choices)


def _distribution(values: set[Any]) -> BaseDistribution:
    """Even steps are a range, whose order a sampler can use; other lists are categories."""
    if any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted(values, key=str))
    ordered = sorted(values)
    steps = {after - before for before, after in itertools.pairwise(ordered)}
    if len(steps) == 1 and all(isinstance(value, int) for value in values):
        return IntDistribution(ordered[0], ordered[-1], step=steps.pop())
    return CategoricalDistribution(ordered)


def _size(distribution: BaseDistribution) -> int:
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    assert isinstance(distribution, CategoricalDistribution)
    return len(distribution.choices)


def _parsed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _macro_key(row: Row) -> Row:
    key: list[int] = []
    for layers in _MACRO_PARTS:
        part = row[len(key) : len(key) + layers]
        kept = [choice for choice in part if choice != 0]
        key += kept + [0] * (layers - len(kept))
    return tuple(key)


def _means(
    keys: Sequence[Hashable], lines: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> dict[Hashable, float]:
    found = defaultdict(list)
    for key, line in zip(keys, lines, strict=True):
        found[key].append(fmean(float(line[column]) for column in columns))
    return {key: fmean(values) for key, values in found.items()}
