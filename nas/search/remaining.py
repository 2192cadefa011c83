"""How long a search will still take: a range, and what it follows from."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from nas.search.evidence import FEWEST_FINISHED
from nas.search.sizing import TRAINED_SHARE
from nas.study.records import DIED, StudyRecord, TrialRecord
from nas.text import duration_range, plural

_PRIOR = 5  # runs that the share expected of their epochs is worth
_LAST = 20  # runs that say how fast the machine is now
_DRIFT = 0.3  # deviation of what comes from what came: other designs, a machine shared with others
_UNSURE = 0.5  # deviation of an estimate from before
_WIDTH = 1.28  # deviations on either side, between which four fifths of a normal distribution lie
_SILENT = 3.0  # longest runs here, after which a worker elsewhere that ends none counts as gone
_EARLY = 0.1  # share of the time left at which a search may end since no design fits any more


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long a run took."""

    seconds: float  # of training
    whole: float  # from the end of its worker's run before, or its own beginning, to its end
    share: float = 1.0  # of a full run's epochs


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """A range of seconds, as in ``14 to 22 min left (from 9 trials)``."""

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

    def until(self, limit: float, option: str) -> "TimeLeft":
        """The same where an option ends the search after so many seconds at the latest."""
        if self.high <= limit:
            return self
        limit = max(0.0, limit)
        return TimeLeft(min(self.low, (1 - _EARLY) * limit), limit, f"{option} ends it")

    def text(self, *, busy: bool = False) -> str:
        """For people; on a machine that is busy with other programs it says so."""
        note = "; machine is busy" if busy else ""
        low, high = (max(1.0, seconds) for seconds in (self.low, self.high))
        return f"{duration_range(low, high)} left ({self.source}{note})"


def time_left(
    runs: int,
    *,
    ended: Sequence[RunTime],
    running: Sequence[float] = (),
    rests: Sequence[float] = (),
    workers: int = 1,
    pruner: str = "none",
    before: int = 0,
    estimate: float | None = None,
    limit: float = math.inf,
    ended_by: str = "--time",
) -> TimeLeft | None:
    """Seconds until so many more runs have ended.

    Each is expected to take the mean of those that ended. `evidence` stops nothing before five of
    the study have finished: the first five count as if they had been trained for the share that is
    expected, and was seen of later ones. The range is that of a log-normal distribution with the
    scatter of the runs, and with a drift that no number of them takes away;
    benchmarks/remaining_time.py measures how often the truth is in it.

    Args:
        runs: that are to end yet, with those that are running.
        ended: the runs of this search, in the order of their ends.
        running: seconds since the start of each that runs now and has not done an epoch.
        rests: seconds that each other one that runs now will still take, by its epochs.
        workers: that train at the same time.
        pruner: one of `nas.search.request.PRUNERS`.
        before: runs of the study that went to their last epoch before this search.
        estimate: seconds of a run on average, from before this search; counts as one more run.
        limit: seconds after which the search ends in any case.
        ended_by: the option that says so; after ``--timeout`` runs that have begun go on.

    Returns:
        The range; None where nothing is known, or nothing is left.
    """
    if runs <= 0:
        return None
    unjudged = max(0, FEWEST_FINISHED - before) if pruner == "evidence" else 0
    judged = [run.share for run in ended[unjudged:]]
    share = (_PRIOR * TRAINED_SHARE + sum(judged)) / (_PRIOR + len(judged))
    first = max(0, len(ended) - _LAST)
    recent = ended[first:]
    seconds = [run.seconds * (share if i < unjudged else 1) for i, run in enumerate(recent, first)]
    known = [*seconds, estimate] if estimate is not None else seconds
    if not known:
        return None if limit == math.inf else TimeLeft(limit, math.inf, "").until(limit, ended_by)
    each = statistics.fmean(known)
    if ended:  # in the median, since the first run of a process takes seconds to begin
        each += max(0.0, statistics.median(run.whole - run.seconds for run in recent))
    begun = [*rests, *(max(0.0, each - done) for done in running)]
    others = max(0, runs - len(begun))
    idle = (workers - 1) / 2 * each if others else 0.0  # some workers wait for the last runs
    longest = max(begun, default=0.0)
    middle = max(longest, (sum(begun) + others * each + idle) / workers)
    if ended_by == "--timeout":
        limit = max(limit + each, longest)
    deviation = _UNSURE
    if len(seconds) > 1:
        scatter = statistics.stdev(seconds) / max(statistics.fmean(seconds), 1e-9)
        mean = scatter * math.sqrt(1 / len(seconds) + 1 / runs)
        deviation = min(_UNSURE, math.hypot(_DRIFT, mean))
    source = f"from {plural(len(ended), 'trial')}" if ended else "estimated"
    return TimeLeft.around(middle, deviation, source).until(limit, ended_by)


@dataclass(eq=False)
class Pace:
    """The time left of a search, from its runs so far.

    All times are those of one clock, in seconds, which whoever calls reads. Workers, pruner and
    what is not said here are as `time_left` has them.
    """

    estimate: float | None = None
    _: KW_ONLY
    workers: int = 1
    pruner: str = "none"
    before: int = 0
    deadline: float = math.inf  # at which the search ends in any case
    ended_by: str = "--time"
    epochs: int = 1  # of a full run

    def __post_init__(self) -> None:
        self._began: dict[int, float] = {}  # by the number of a trial that runs
        self._ends: dict[int, float] = {}  # when it will, of one that has done an epoch
        self._free: dict[str | None, float] = {}  # since when, by worker
        self._ended: list[RunTime] = []
        self._others: dict[str | None, float] = {}  # when workers elsewhere ended a trial last

    def begin(self, number: int, now: float) -> None:
        """A trial has begun."""
        self._began[number] = now

    def epoch(self, number: int, seconds: float, left: int, now: float) -> None:
        """A trial has done an epoch in so many seconds, and has so many epochs left."""
        self._ends[number] = now + left * seconds

    def end(self, trial: TrialRecord, now: float) -> None:
        """A trial has ended, whatever came of it; one that had not begun here, elsewhere."""
        began = self._began.pop(trial.number, None)
        self._ends.pop(trial.number, None)
        if began is None:
            if trial.counts:
                self._others[trial.worker] = now
            elif (trial.reason or "").startswith(DIED):
                self._others.pop(trial.worker, None)
            return
        since = self._free.get(trial.worker, began)
        self._free[trial.worker] = now
        if trial.counts and trial.seconds is not None:
            whole = now - since
            share = trial.curve[-1][0] / self.epochs if trial.curve else 1.0
            # Of one that resumed only the rest was trained here.
            self._ended.append(RunTime(min(trial.seconds, whole), whole, share))

    def left(self, runs: int, now: float) -> TimeLeft | None:
        """The time left until so many more runs have ended; see `time_left`."""
        # Copies, since another thread asks.
        began, ends, ended = dict(self._began), dict(self._ends), list(self._ended)
        patience = _SILENT * max((run.whole for run in ended), default=math.inf)
        others = [last for last in dict(self._others).values() if now - last <= patience]
        return time_left(
            max(runs, len(began)),
            ended=ended,
            running=[now - since for number, since in began.items() if number not in ends],
            rests=[max(0.0, end - now) for number, end in ends.items() if number in began],
            workers=self.workers + len(others),
            pruner=self.pruner,
            before=self.before,
            estimate=self.estimate,
            limit=self.deadline - now,
            ended_by=self.ended_by,
        )


def mean_seconds(study: StudyRecord, device: str) -> float | None:
    """Seconds that a run of the study took on average on this device; None without any.

    Args:
        study: as it was found.
        device: in words, with the threads of a CPU.
    """
    ended = [t for t in study.trials if t.counts and t.device == device]
    found = [trial.seconds for trial in ended if trial.seconds]
    return statistics.fmean(found[-_LAST:]) if found else None
