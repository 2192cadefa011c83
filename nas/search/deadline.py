"""The deadline of a study: how long it has been searched, and what can end in the time left.

All of it follows from the trials that the study holds, so it is the same for all workers, and after
any end of a search.
"""

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from optuna.trial import FrozenTrial

from nas.counting import count
from nas.runtime.liveness import is_alive
from nas.search.candidates import Candidates
from nas.search.counts import Counts
from nas.search.sizing import Speed
from nas.space import Limits
from nas.study.heartbeat import LAST_HEARD, WORKER
from nas.study.outcomes import reason_of
from nas.study.records import DIED, NOBODY
from nas.values import LARGEST

_GAP = timedelta(seconds=10)  # at most this long a search decides what comes next
_FIRST = 4  # times the mult-adds of the smallest design: a trial that soon says how fast it is
_FEWEST = 10  # designs that are trained even if none can come to its end in time
_SHARE = 2  # of a design in the time left, in equal shares: most others are smaller, or stopped
_LAST = 20  # trials that say how fast the machine is now


def searched_seconds(trials: Iterable[FrozenTrial], now: datetime) -> float:
    """Seconds in which any trial of a study ran, or one was being proposed."""
    ran = (interval for trial in trials if (interval := _interval(trial, now)))
    return union_seconds([*ran, (now, now)])


def union_seconds(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    """Seconds that lie in any of the intervals, or in a short gap between two of them."""
    total, reached = timedelta(), datetime.min
    for start, end in sorted(intervals):
        if reached < start - _GAP:
            reached = start
        total += max(end - reached, timedelta())
        reached = max(end, reached)
    return total.total_seconds()


def _interval(trial: FrozenTrial, now: datetime) -> tuple[datetime, datetime] | None:
    """From when to when a trial ran; of a worker that is gone, as long as it was heard of."""
    start = trial.datetime_start
    if start is None:
        return None
    end: datetime | None = trial.datetime_complete
    if heard := trial.user_attrs.get(LAST_HEARD):
        end = datetime.fromisoformat(heard)
    elif not trial.state.is_finished():
        end = now if is_alive(trial.user_attrs.get(WORKER)) else None
    elif (reason_of(trial) or "").startswith((DIED, NOBODY)):
        end = None  # of an earlier version: it ended when the next search found it, days later
    return None if end is None else (min(start, now), min(end, now))


def in_time(
    trials: Sequence[FrozenTrial],
    candidates: Candidates,
    counts: Counts,
    *,
    left: float,
    epochs: int,
    wanted: int,
) -> Limits | None:
    """The limits of the next design, so that it ends in the time left and others come after it.

    Args:
        trials: of the study, which say how long a run takes.
        candidates: what may be proposed.
        counts: of the trials.
        left: seconds.
        epochs: of a full run.
        wanted: designs trained in the study.

    Returns:
        The limits; those of the smallest design where even that is too slow, but few are trained
        and an epoch of it is not; else None. None, too, where all designs that could end in time
        have been tried.
    """
    limits, space = candidates.limits, candidates.space
    least = count(space.smallest(limits, by="mult_adds"), space.input).mult_adds

    def within(mult_adds: float) -> Limits:
        most = min(mult_adds, limits.get("mult_adds", LARGEST))
        return limits.with_maximum("mult_adds", max(least, int(most)))

    speed = epoch_speed(trials)
    if speed is None:  # the first trials, of several workers, or none has come to an epoch's end
        to_try = [within(_FIRST * least), limits]
    else:
        epoch = speed.seconds(least)
        few = counts.trained < _FEWEST and epoch < left  # one that is stopped is more than none
        if counts.trained and epochs * epoch > left and not few:
            return None
        begun_together = counts.running + 1
        share = _SHARE * left * begun_together / (wanted - counts.trained)
        to_try = [within(speed.mult_adds(s / epochs)) for s in (min(share, left), left)]
    for narrowed in to_try:
        if candidates.draw_unseen(counts.seen, random.Random(0), narrowed) is not None:
            return narrowed
    return None


def epoch_speed(trials: Sequence[FrozenTrial]) -> Speed | None:
    """Seconds of an epoch, by the last trials that have trained any."""
    measured = (_epoch(trial.user_attrs) for trial in reversed(trials))
    return Speed.of(itertools.islice((pair for pair in measured if pair), _LAST))


def _epoch(attributes: Mapping[str, Any]) -> tuple[int, float] | None:
    """Mult-adds of a trial's design and seconds of an epoch; None where it has not trained."""
    match [attributes.get(name) for name in ("mult_adds", "seconds", "epochs")]:
        case [int(cost), float(seconds), int(epochs)] if epochs > 0:
            return cost, seconds / epochs
    return None
