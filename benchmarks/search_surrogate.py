"""Our own space as a task: boosted trees fitted to recorded trainings say what a design reaches.

A table of random designs is a small part of a large space, so a search meets designs that nobody
trained. As in NAS-Bench-301 (Zela et al. 2022) a regression stands in for them. It is of trees and
not a Gaussian process, which would flatter a sampler that is one. What a search sees has the noise
of a validation accuracy: that of as many images as the table was made with.
"""

import csv
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from nas.architecture import Architecture, ImageInput
from nas.counting import count
from nas.search.candidates import Candidates, derived_seed
from nas.search.domain import Params
from nas.space import Limits, SearchSpace
from search_tables import Task, budget_of

_Floats = NDArray[np.float64]

_INPUTS = {
    "digits": ImageInput(channels=1, height=8, width=8, classes=10),
    "cifar10": ImageInput(channels=3, height=32, width=32, classes=10),
}
_RAW_DRAWS = 2_000  # for a budget that a share of them fits
_DRAWS = 5_000  # the best design is looked for among them,
_CLIMBS = 30  # and from the best of them on


@dataclass(frozen=True)
class Recorded:
    """Trainings of random designs, as `make_table.py` writes them."""

    space: SearchSpace
    limits: Limits
    images: int  # of the validation part
    architectures: Sequence[Architecture]
    accuracies: _Floats  # [n], 0..1


def read_recorded(path: Path, column: str | None) -> Recorded:
    """The table X.csv with X.json beside it.

    Args:
        path: of the table.
        column: of the accuracy; by default that of averaged weights after the last epoch.
    """
    settings = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["settings"]
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    column = column or f"ema_{settings['recipe']['epochs']}"
    lines = [line for line in lines if line[column]]  # a run that diverged has no last epoch
    space = SearchSpace(input=_INPUTS[settings["dataset"]], **settings["space"])
    limits = Limits(
        max_parameters=settings["max_parameters"], max_mult_adds=settings["max_mult_adds"]
    )
    return Recorded(
        space=space,
        limits=limits,
        images=settings["validation_images"],
        architectures=[_architecture(line) for line in lines],
        accuracies=np.array([float(line[column]) for line in lines]),
    )


class Surrogate:
    """What a design reaches: gradient boosting on the logit of the accuracy."""

    def __init__(self, recorded: Recorded) -> None:
        self._input = recorded.space.input
        self._stages = recorded.space.stages[-1]
        self._images = recorded.images
        self._features = self._describe(recorded.architectures)
        self._accuracies = recorded.accuracies
        # Half an image more of either kind: a logit must be finite.
        right = recorded.accuracies * recorded.images
        self._logits = np.log((right + 0.5) / (recorded.images - right + 0.5))
        self._trees = _boosting().fit(self._features, self._logits)

    def predict(self, architectures: Sequence[Architecture]) -> _Floats:
        """[n] accuracies, 0..1."""
        return _sigmoid(self._trees.predict(self._describe(architectures)))

    def quality(self) -> str:
        """How well it predicts designs it was not fitted to (10-fold cross-validation)."""
        folds = KFold(10, shuffle=True, random_state=0)
        logits = cross_val_predict(_boosting(), self._features, self._logits, cv=folds)
        measured, predicted = self._accuracies, _sigmoid(logits)
        r2 = 1 - np.mean((measured - predicted) ** 2) / measured.var()
        tau = kendalltau(measured, predicted).statistic
        better = measured > np.median(measured)
        upper = kendalltau(measured[better], predicted[better]).statistic
        deviation = math.sqrt(measured.max() * (1 - measured.max()) / self._images)
        return (
            f"{len(measured)} recorded designs, accuracies {100 * measured.min():.1f} to "
            f"{100 * measured.max():.1f}, median {100 * np.median(measured):.1f}; cross-validated "
            f"R2 {r2:.2f}, Kendall tau {tau:.2f} (better half alone {upper:.2f}); noise of "
            f"{self._images} validation images at the top: {100 * deviation:.2f} points"
        )

    def _describe(self, architectures: Iterable[Architecture]) -> _Floats:
        return np.array([_features(a, self._input, self._stages) for a in architectures])


def surrogate_task(recorded: Recorded, surrogate: Surrogate, budget: str | None) -> Task:
    """The table's space, with its limits and perhaps a tighter budget."""
    open_space = Candidates(recorded.space, recorded.limits)
    limits = recorded.limits
    if budget is not None:
        rng = random.Random(0)
        drawn = [open_space.domain.completed({}, rng) for _ in range(_RAW_DRAWS)]
        sizes = [float(open_space.candidate(params).cost.parameters) for params in drawn]
        most = round(budget_of(budget, lambda: sizes))
        limits = Limits(max_parameters=most, max_mult_adds=limits.max_mult_adds)
    proposals = Candidates(recorded.space, limits)
    domain = proposals.domain
    known: dict[str, float] = {}

    def truths(designs: Sequence[Params]) -> list[float]:
        candidates = [proposals.candidate(design) for design in designs]
        new = {c.key: c.architecture for c in candidates if c.key not in known}
        if new:
            known.update(zip(new, surrogate.predict(list(new.values())).tolist(), strict=True))
        return [100 * known[candidate.key] for candidate in candidates]

    def training(params: Params, seed: int) -> float:
        accuracy = truths([params])[0] / 100
        rng = np.random.default_rng(derived_seed(seed, proposals.candidate(params).key))
        return 100 * float(rng.binomial(recorded.images, accuracy)) / recorded.images

    def best() -> float:
        rng = random.Random(0)
        drawn = [proposals.draw(limits, rng) for _ in range(_DRAWS)]
        starts = sorted(zip(truths(drawn), range(_DRAWS), strict=True))[-_CLIMBS:]
        return max(climb(drawn[i], truth, rng) for truth, i in starts)

    def climb(design: Params, truth: float, rng: random.Random) -> float:
        while True:
            around = list(domain.neighbours(design, rng))
            found = truths(around)
            if max(found) <= truth:
                return truth
            truth = max(found)
            design = around[found.index(truth)]

    rng = random.Random(1)
    raw = (domain.completed({}, rng) for _ in range(_RAW_DRAWS))
    share = sum(map(domain.is_feasible, raw)) / _RAW_DRAWS
    return Task(
        domain=domain,
        suggest=proposals.suggest,
        excess=lambda params: max(limits.excess(proposals.candidate(params).cost).values()),
        truth=lambda params: truths([params])[0],
        training=training,
        best=best,
        complete=True,
        size=f"{share:.0%} of raw draws within {limits.max_parameters:,} parameters"
        + (f" and {limits.max_mult_adds:,} mult-adds" if limits.max_mult_adds else ""),
        proposals=proposals,
    )


def _boosting() -> Any:
    return GradientBoostingRegressor(
        n_estimators=200, learning_rate=0.05, max_depth=3, subsample=0.7, random_state=0
    )


def _sigmoid(logits: _Floats) -> _Floats:
    return 1 / (1 + np.exp(-logits))


def _features(architecture: Architecture, input: ImageInput, stages: int) -> list[float]:
    """Numbers that describe a design; equal for designs that build the same network."""
    a = architecture
    cost = count(a, input)
    found = [
        a.stages,
        a.pool,
        sum(a.blocks),
        math.log(cost.parameters),
        math.log(cost.mult_adds),
        math.log(max(a.channels)),
        math.log(min(a.channels)),
        math.log(a.channels[-1]),
        a.blocks[-1],
        a.kernels[-1],
        # How far an output sees, in pixels.
        sum(
            2 * b * (f - 1) * 2**i for i, (b, f) in enumerate(zip(a.blocks, a.kernels, strict=True))
        ),
    ]
    for i in range(stages):
        if i >= a.stages:
            found += [0.0] * 5
            continue
        shortcut = a.shortcut_kernels[i] if a.projections[i] else 0
        weights = a.kernels[i] ** 2 * a.blocks[i] * a.channels[i]
        found += [a.blocks[i], a.channels[i], a.kernels[i], shortcut, weights]
    return [float(number) for number in found]


def _architecture(line: Mapping[str, str]) -> Architecture:
    def per_stage(name: str) -> tuple[int, ...]:
        return tuple(map(int, line[name].split("-")))

    return Architecture(
        blocks=per_stage("blocks"),
        channels=per_stage("channels"),
        kernels=per_stage("kernels"),
        shortcut_kernels=per_stage("shortcut_kernels"),
        pool=int(line["pool"]),
    )
