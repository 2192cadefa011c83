"""How long a final training will take: first from the runs of the search, then from its own."""

import math
import statistics
from collections.abc import Collection, Mapping

from nas.counting import count
from nas.final.runs import Run
from nas.search.remaining import TimeLeft
from nas.search.sizing import EVALUATED, Speed
from nas.study.records import StudyRecord
from nas.text import plural

_UNSURE = 0.5  # deviation of what the search says: another recipe, other threads
_DRIFT = 0.1  # deviation of what comes from what came


def epoch_seconds(
    study: StudyRecord, runs: Collection[Run], *, train_images: int, kind: str
) -> dict[str, float]:
    """Seconds that an epoch of each design is expected to take, by the name of its runs.

    As in the search, of the same design or of others by their mult-adds, for more or fewer images.

    Args:
        study: that was searched.
        runs: of the designs.
        train_images: of an epoch.
        kind: of the device, cpu or cuda; what the search took on another kind says nothing.

    Returns:
        The seconds; empty where nothing is known.
    """
    measured: dict[str, list[float]] = {}
    pairs: list[tuple[int, float]] = []
    for trial in study.trials:
        if not (trial.curve and trial.trained_on(kind)):
            continue
        if trial.architecture and trial.mult_adds and trial.seconds:
            seconds = trial.seconds / len(trial.curve)
            measured.setdefault(trial.architecture.key, []).append(seconds)
            pairs.append((trial.mult_adds, seconds))
    speed = Speed.of(pairs)
    if speed is None:
        return {}
    settings = study.settings
    evaluated = EVALUATED * settings.validation_images
    scale = (train_images + evaluated) / (settings.train_images + evaluated)
    found = {}
    for run in runs:
        own = measured.get(run.architecture.key)
        others = speed.seconds(count(run.architecture, settings.input).mult_adds)
        found[run.name] = scale * (statistics.fmean(own) if own else others)
    return found


class FinalPace:
    """The time left of a final training.

    Args:
        epochs: of a run.
        seconds: expected of an epoch, by the name of a run; empty where nothing is known.
        workers: that train at the same time.
    """

    def __init__(self, epochs: int, seconds: Mapping[str, float], workers: int) -> None:
        self._epochs = epochs
        self._seconds = seconds
        self._workers = workers
        self._left: dict[Run, int] = {}  # epochs
        self._seen = 0  # epochs that were trained
        self._took = self._expected = 0.0  # seconds, in all

    def add(self, runs: Collection[Run]) -> None:
        """These are to be trained."""
        self._left |= dict.fromkeys(runs, self._epochs)

    def begin(self, run: Run, epochs_done: int) -> None:
        """A run begins, perhaps after epochs that were done before."""
        self._left[run] = self._epochs - epochs_done

    def epoch(self, run: Run, epoch: int, seconds: float) -> None:
        """A run has done this epoch in so many seconds."""
        self._left[run] = self._epochs - epoch
        self._seen += 1
        self._took += seconds
        self._expected += self._cost(run)

    def end(self, run: Run) -> None:
        """A run is done, or will never be."""
        self._left.pop(run, None)

    def left(self) -> TimeLeft | None:
        """The time left until all runs have ended; None where nothing is known, or all have."""
        # A copy, since another thread asks.
        costs = [epochs * self._cost(run) for run, epochs in list(self._left.items())]
        if not costs or not (self._seen or self._seconds):
            return None
        idle = (self._workers - 1) / 2 * statistics.fmean(costs)
        ratio = self._took / self._expected if self._expected else 1.0
        seconds = ratio * max((sum(costs) + idle) / self._workers, *costs)
        if not self._seen:
            return TimeLeft.around(seconds, _UNSURE, "from the search")
        deviation = math.hypot(_DRIFT, _UNSURE / math.sqrt(self._seen))
        return TimeLeft.around(seconds, deviation, f"from {plural(self._seen, 'epoch')}")

    def _cost(self, run: Run) -> float:
        known = self._seconds.values()  # not of what a teacher adds to the designs
        return self._seconds.get(run.name, statistics.fmean(known) if known else 1.0)
