"""The design that all trained ones together say is the best, beside the luckiest score."""

from dataclasses import dataclass

import numpy as np

from nas.search.domain import LEARNED_COSTS
from nas.search.gp import Encoder, GaussianProcess, Kernel
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


def expected_best(study: StudyRecord) -> Expected | None:
    """The design trained to the end of the highest expected accuracy; None of fewer than 10.

    Expected is the mean of the Gaussian process that proposes designs, fitted to the order of
    accuracies and carried back to them; each has at least the noise of so many validation images.
    The best score of many is also the luckiest; a design whose likes did well too comes first here.
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
        return None
    records = [record for record, _ in compared]
    encoder = Encoder({n: d for _, trial in compared for n, d in trial.distributions.items()})
    costs = np.log([[getattr(record, name) for name in LEARNED_COSTS] for record in records])
    costs = (costs - costs.min(0)) / np.maximum(np.ptp(costs, axis=0), 1e-9)
    columns = np.hstack([encoder.encode([trial.params for _, trial in compared]), costs])
    groups = np.r_[encoder.groups, encoder.groups.max() + 1 + np.arange(len(LEARNED_COSTS))]
    measured = np.array([_measured(record) for record in records])
    scores = normal_scores(measured)
    images = study.settings.validation_images
    share = (measured * images + 1) / (images + 2)  # also of designs without a mistake
    noise = carried_deviations(np.sqrt(share * (1 - share) / images), measured, scores)
    kernel = Kernel.fit(columns, scores, groups, noise**2)
    process = GaussianProcess(kernel, columns, scores, noise**2)
    mean, deviation = process.predict(columns)
    best = int(mean.argmax())
    ends = mean[best] + deviation[best] * np.array([-1, 0, 1])
    low, expected, high = np.interp(ends, scores[::-1], measured[::-1]).tolist()
    return Expected(records[best], low, expected, high)


def _measured(record: TrialRecord) -> float:
    """The accuracy of a compared trial."""
    assert record.val_accuracy is not None, "see compared_trials"
    return record.val_accuracy
