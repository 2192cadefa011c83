"""Which designs of a search to train in full: those of the best scores, or the best expected ones.

A search is replayed on a table of real trainings, or on trees fitted to one of `make_table.py`, as
in `search_efficiency.py`; each score has the noise of a validation accuracy. Then finalists are
taken by their scores, and by what a Gaussian process fitted to all scores expects of them
(`nas.search.expected`), which is what `nas final` does::

    python benchmarks/finalists.py --table TABLE.csv --budget none 1.634e6

Prints how far the best of them is below the best design that the search trained, in points of the
accuracy without noise, for one finalist and for three, with the 95% interval of what the second way
gains. Every score is that of a full run.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import t as student

from machine import processor, software
from nas.search.candidates import derived_seed
from nas.search.domain import Domain, Params
from nas.search.expected import expected_scores
from search_efficiency import Source, fitted, make_task
from search_methods import METHODS
from search_tables import Task

TOPS = (1, 3)
Floats = NDArray[np.float64]


def searched(
    task: Task, seed: int, trained: int, images: int | None
) -> tuple[list[Params], Floats, Floats]:
    """The designs of a search, their scores and their true accuracies, 0..1.

    Args:
        task: what is searched.
        seed: of the search.
        trained: designs.
        images: whose noise is added to the accuracies of a table; None: the task adds its own.
    """
    method = METHODS["gp"](task, seed)
    designs, scores = [], []
    for _ in range(trained):
        design = method.ask()
        score = task.training(design, seed)
        if images is not None:
            rng = np.random.default_rng(derived_seed(seed, str(task.domain.key(design))))
            score = 100 * float(rng.binomial(images, score / 100)) / images
        method.tell(design, score)
        designs.append(design)
        scores.append(score / 100)
    return designs, np.array(scores), np.array([task.truth(design) / 100 for design in designs])


def lost(
    domain: Domain, designs: Sequence[Params], scores: Floats, truths: Floats, images: int
) -> list[tuple[float, float]]:
    """For each number of finalists, the points that are lost by score and by expectation."""
    costs = None
    if domain.cost is not None:
        costs = np.array([np.atleast_1d(domain.cost(d)) for d in designs], dtype=np.float64)
    means = expected_scores(designs, domain.search_space, costs, scores, images)[0]
    orders = [np.argsort(-values, kind="stable") for values in (scores, means)]
    return [
        tuple(100 * float(truths.max() - truths[order[:top]].max()) for order in orders)  # type: ignore[misc]
        for top in TOPS
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--table", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--budget", nargs="+", default=["none"], help="parameters, a share or none")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trained", type=int, nargs="+", default=[12, 25, 50])
    parser.add_argument("--images", type=int, default=5000, help="validation images, of a table")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    source = Source(options.table, (), ())
    images = fitted(source)[0].images if source.recorded else options.images
    added = None if source.recorded else images
    print(f"{processor()}, {software('numpy', 'scipy', 'scikit-learn', 'optuna')}")
    print(f"{options.table.name}, {options.seeds} seeds, noise of {images} images\n")
    print("| budget | trained | finalists | lost by score | by expectation | gain |")
    print("|---|---|---|---|---|---|")
    wide = float(student.ppf(0.975, options.seeds - 1)) / math.sqrt(options.seeds)
    for budget in options.budget:
        task = make_task(source, budget)
        runs = [searched(task, seed, max(options.trained), added) for seed in range(options.seeds)]
        for trained in options.trained:
            found = np.array(
                [
                    lost(task.domain, d[:trained], s[:trained], t[:trained], images)
                    for d, s, t in runs
                ]
            )  # [seeds, tops, 2]
            for place, top in enumerate(TOPS):
                by_score, expected = found[:, place].T
                gain = by_score - expected
                print(
                    f"| {budget} | {trained} | {top} | {by_score.mean():.3f} | "
                    f"{expected.mean():.3f} | {gain.mean():+.3f} ± {wide * gain.std(ddof=1):.3f} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
