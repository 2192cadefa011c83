"""What a study's trials say together, kept up to date: each trial that has ended is read once."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, Self, TypeVar

from optuna.trial import FrozenTrial


class Summable(Protocol):
    """What trials say together."""

    def add(self, trial: FrozenTrial) -> None:
        """Takes in the next trial."""

    def copy(self) -> Self:
        """One of its own, that further trials can be added to."""


S = TypeVar("S", bound=Summable)


class Summary(Generic[S]):
    """A sum over the trials of a growing study, which costs only what is new since the last one.

    Trials that have ended never change, so those before the first that has not are added for good.

    Args:
        empty: makes the sum of no trials.
    """

    def __init__(self, empty: Callable[[], S]) -> None:
        self._empty = empty
        self._lock = threading.Lock()
        self._sum = empty()
        self._added = 0  # trials
        self._ends: tuple[FrozenTrial, FrozenTrial] | None = None  # the first and last of them

    def of(self, trials: Sequence[FrozenTrial], but: int | None = None) -> S:
        """The sum over all trials, in their order; other ones than before begin a new sum.

        Args:
            trials: all of a study.
            but: number of a trial that has not ended and is left out.
        """
        with self._lock:
            if not self._goes_on(trials):
                self._sum, self._added, self._ends = self._empty(), 0, None
            start = self._added
            while self._added < len(trials) and trials[self._added].state.is_finished():
                self._sum.add(trials[self._added])
                self._added += 1
            if self._added > start:
                self._ends = trials[0], trials[self._added - 1]
            whole, rest = self._sum.copy(), trials[self._added :]
        for trial in rest:
            if trial.number != but:
                whole.add(trial)
        return whole

    def _goes_on(self, trials: Sequence[FrozenTrial]) -> bool:
        if self._ends is None:
            return True
        if len(trials) < self._added:
            return False
        return trials[0] is self._ends[0] and trials[self._added - 1] is self._ends[1]
