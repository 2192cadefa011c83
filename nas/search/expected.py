"""The accuracy to expect of each trained design by what all of them together say.

The best score of many is also the luckiest; a design whose likes did well too comes first here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution

from nas.search.domain import LEARNED_COSTS, Params
from nas.search.gp import Encoder, Floats, GaussianProcess, Kernel
from nas.search.importances import compared_trials
from nas.search.scores import carried_deviations, normal_scores
from nas.study.records import StudyRecord, TrialRecord
from nas.text import percent

_LEAST = 10  # designs; fewer say little about each other
_MOST = 150  # the best ones, since a fit takes seconds with many


@dataclass(frozen=True, slots=True)
class Expected:
    """A trained design, and the accuracy to expect of it by its own score and those of others."""

    trial: TrialRecord
    low: float  # 0..1, one standard deviation below the expected accuracy
    val_accuracy: float
    high: float

    def __str__(self) -> str:
        return (
            f"trial {self.trial.number}, measured {percent(self.trial.val_accuracy)}, expected "
            f"{percent(self.val_accuracy)} ({percent(self.low)} to {percent(self.high)})"
        )


def expected_accuracies(study: StudyRecord) -> list[Expected]:
    """The trials that ran to the end, the highest expected accuracy first; none of fewer than 10.

    Expected is the mean of the Gaussian process that proposes designs, fitted to the order of
    accuracies and carried back to them; each has at least the noise of so many validation images.
    Left out are designs that are not of the study's space, and all but the 150 best scores.
    """
    compared = sorted(
        (
            (record, trial)
            for record, trial in compared_trials(study)
            if record.parameters and record.mult_adds
        ),
        key=lambda found: (-_measured(found[0]), found[0].number),
    )[:_MOST]
    if len(compared) < _LEAST:
        return []
    records = [record for record, _ in compared]
    measured = np.array([_measured(record) for record in records])
    mean, deviation = expected_scores(
        [trial.params for _, trial in compared],
        {name: d for _, trial in compared for name, d in trial.distributions.items()},
        np.array([[getattr(record, name) for name in LEARNED_COSTS] for record in records]),
        measured,
        study.settings.validation_images,
    )
    ends = mean[:, None] + deviation[:, None] * np.array([-1, 0, 1])
    accuracies = np.interp(ends, normal_scores(measured)[::-1], measured[::-1]).tolist()
    order = np.argsort(-mean.round(6), kind="stable")
    return [Expected(records[i], *accuracies[i]) for i in order]


def expected_best(study: StudyRecord) -> Expected | None:
    """The design of the highest expected accuracy; None where fewer than 10 can be compared."""
    return next(iter(expected_accuracies(study)), None)


def expected_scores(
    designs: Sequence[Params],
    search_space: Mapping[str, BaseDistribution],
    costs: Floats | None,
    accuracies: Floats,
    images: int,
) -> tuple[Floats, Floats]:
    """What a Gaussian process fitted to designs expects of these same designs.

    Args:
        designs: [n] their choices.
        search_space: what they are chosen from.
        costs: [n, k] of each, above 0, if any are known.
        accuracies: [n] 0..1, measured on
        images: validation images, which set the least noise.

    Returns:
        [n] means and [n] standard deviations, as normal scores of the accuracies.
    """
    encoder = Encoder(search_space)
    columns, groups = encoder.encode(designs), encoder.groups
    if costs is not None:
        logs = np.log(costs)
        logs = (logs - logs.min(0)) / np.maximum(np.ptp(logs, axis=0), 1e-9)
        columns = np.hstack([columns, logs])
        groups = np.r_[groups, groups.max() + 1 + np.arange(logs.shape[1])]
    scores = normal_scores(accuracies)
    share = (accuracies * images + 1) / (images + 2)  # also of designs without a mistake
    noise = carried_deviations(np.sqrt(share * (1 - share) / images), accuracies, scores)
    kernel = Kernel.fit(columns, scores, groups, noise**2)
    return GaussianProcess(kernel, columns, scores, noise**2).predict(columns)


def _measured(record: TrialRecord) -> float:
    """The accuracy of a compared trial."""
    assert record.val_accuracy is not None, "see compared_trials"
    return record.val_accuracy
