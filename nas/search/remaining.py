"""How long a search will still take: a range, and what it follows from."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nas.search.sizing import TRAINED_SHARE
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.text import duration_range, plural

_UNJUDGED = 5  # finished runs, before which `nas.search.evidence` stops nothing
_PRIOR = 5  # runs that the share expected of their epochs is worth
_LAST = 20  # runs that say how fast the machine is now
_DRIFT = 0.3  # deviation of what comes from what came: other designs, a machine shared with others
_UNSURE = 0.5  # deviation of an estimate from before
_WIDTH = 1.28  # deviations on either side, between which four fifths of a normal distribution lie
_EARLY = 0.1  # share of the time left at which a search may end since no design fits any more


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long a run took."""

    seconds: float  # of training
    whole: float  # from the end of its worker's run before, or its own beginning, to its end
    share: float = 1.0  # of a full run's epochs


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """A range of seconds, as in ``14 to 22 min left (from 9 runs)``."""

    low: float
    high: float
    source: str  # what it follows from

    @property
    def middle(self) -> float:
        """The likeliest value."""
        return math.sqrt(self.low * self.high)

    @classmethod
    def around(cls, seconds: float, deviation: float, source: str) -> "TimeLeft":
        """The middle four fifths of a log-normal distribution."""
        factor = math.exp(_WIDTH * deviation)
        return cls(seconds / factor, seconds * factor, source)

    def until(self, limit: float) -> "TimeLeft":
        """The same where `--time` ends the search after so many seconds at the latest."""
        if self.high <= limit:
            return self
        limit = max(0.0, limit)
        return TimeLeft(min(self.low, (1 - _EARLY) * limit), limit, "--time ends it")

    def text(self, *, busy: bool = False) -> str:
        """For people; on a machine that is busy with other programs it says so."""
        note = "; machine is busy" if busy else ""
        return f"{duration_range(self.low, self.high)} left ({self.source}{note})"


def time_left(
    runs: int,
    *,
    ended: Sequence[RunTime],
    running: Sequence[float] = (),
    workers: int = 1,
    pruner: str = "none",
    estimate: float | None = None,
    limit: float = math.inf,
) -> TimeLeft | None:
    """Seconds until so many more runs have ended.

    Each is expected to take the mean of those that ended. `evidence` stops nothing before five have
    finished: the first five count as if they had been trained for the share that is expected, and
    was seen of later ones. The range is that of a log-normal distribution with the scatter of the
    runs, and with a drift that no number of them takes away; benchmarks/remaining_time.py measures
    how often the truth is in it.

    Args:
        runs: that are to end yet, with those that are running.
        ended: the runs of this search, in the order of their ends.
        running: seconds since the start of each that runs now.
        workers: that train at the same time.
        pruner: one of `nas.search.request.PRUNERS`.
        estimate: seconds of a run on average, from before this search; counts as one more run.
        limit: seconds after which the search ends in any case.

    Returns:
        The range; None where nothing is known.
    """
    if runs <= 0:
        return TimeLeft(0.0, 0.0, "all runs have ended")
    unjudged = _UNJUDGED if pruner == "evidence" else 0
    judged = [run.share for run in ended[unjudged:]]
    share = (_PRIOR * TRAINED_SHARE + sum(judged)) / (_PRIOR + len(judged))
    first = max(0, len(ended) - _LAST)
    recent = ended[first:]
    seconds = [run.seconds * (share if i < unjudged else 1) for i, run in enumerate(recent, first)]
    known = [*seconds, estimate] if estimate is not None else seconds
    if not known:
        return None if limit == math.inf else TimeLeft(limit, math.inf, "").until(limit)
    each = statistics.fmean(known)
    if ended:  # in the median, since the first run of a process takes seconds to begin
        each += max(0.0, statistics.median(run.whole - run.seconds for run in recent))
    work = runs * each - sum(min(done, each) for done in running)
    idle = (workers - 1) / 2 * each  # at the end: some workers wait for the others' last runs
    middle = (work + idle) / workers
    deviation = _UNSURE
    if len(seconds) > 1:
        scatter = statistics.stdev(seconds) / max(statistics.fmean(seconds), 1e-9)
        mean = scatter * math.sqrt(1 / len(seconds) + 1 / runs)
        deviation = min(_UNSURE, math.hypot(_DRIFT, mean))
    source = f"from {plural(len(ended), 'run')}" if ended else "estimated"
    return TimeLeft.around(middle, deviation, source).until(limit)


class Pace:
    """The time left of a search, from its runs so far.

    All times are those of one clock, in seconds, which whoever calls reads.

    Args:
        estimate: seconds of a run on average, as `time_left` has it.
        workers: of the search.
        pruner: of the search.
        deadline: at which the search ends in any case.
        epochs: of a full run.
    """

    def __init__(
        self,
        estimate: float | None = None,
        *,
        workers: int = 1,
        pruner: str = "none",
        deadline: float = math.inf,
        epochs: int = 1,
    ) -> None:
        self._estimate = estimate
        self._workers = workers
        self._pruner = pruner
        self._deadline = deadline
        self._epochs = epochs
        self._began: dict[int, float] = {}  # by the number of a trial that runs
        self._free: dict[str | None, float] = {}  # since when, by worker
        self._ended: list[RunTime] = []
        self._others: set[str | None] = set()  # workers of other processes

    def begin(self, number: int, now: float) -> None:
        """A trial has begun."""
        self._began[number] = now

    def end(self, trial: TrialRecord, now: float) -> None:
        """A trial has ended, whatever came of it; one that had not begun here, elsewhere."""
        began = self._began.pop(trial.number, None)
        counts = trial.outcome is not None and trial.outcome.counts
        if began is None:
            if counts:
                self._others.add(trial.worker)
            return
        since = self._free.get(trial.worker, began)
        self._free[trial.worker] = now
        if counts and trial.seconds is not None:
            whole = now - since
            share = trial.curve[-1][0] / self._epochs if trial.curve else 1.0
            # Of one that resumed only the rest was trained here.
            self._ended.append(RunTime(min(trial.seconds, whole), whole, share))

    def left(self, runs: int, now: float) -> TimeLeft | None:
        """The time left until so many more runs have ended; None where nothing is known."""
        return time_left(
            runs,
            ended=self._ended,
            running=[now - began for began in self._began.values()],
            workers=self._workers + len(self._others),
            pruner=self._pruner,
            estimate=self._estimate,
            limit=self._deadline - now,
        )


def mean_seconds(study: StudyRecord) -> float | None:
    """Seconds that a run of the study took on average; None where it has none."""
    ended = (Outcome.TRAINED, Outcome.STOPPED_EARLY)
    found = [t.seconds for t in study.trials if t.outcome in ended and t.seconds]
    return statistics.fmean(found[-_LAST:]) if found else None
