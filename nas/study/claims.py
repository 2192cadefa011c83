"""What comes next in a study, decided by one process at a time.

In a claim the mirror is brought up to date, a design proposed and its trial written. So no design
is trained twice, and no more of them than were asked for, however many processes there are.
"""

import copy
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.counting import Count, count
from nas.study.database import Database
from nas.study.mirror import Mirror
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.processes import is_alive
from nas.study.proposals import Unseen, derived_seed, describe, mark_excess, suggest
from nas.study.records import DIED, Outcome, TrialRecord
from nas.study.standing import Standing, standing_of
from nas.study.storage import STATES, trial_record

_DUPLICATES = 3  # in a row before a design is drawn instead
_REJECTIONS = 30  # over budget or duplicate in a row before a design is drawn instead
_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up


@dataclass(frozen=True, slots=True)
class Proposal:
    """A design that this process has claimed and is to train."""

    trial: optuna.Trial  # of the mirror
    written: FrozenTrial  # as it is in the database, but for reports
    trial_id: int  # in the database
    number: int  # in the database
    architecture: Architecture
    cost: Count


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until other processes are done."""

    running: int  # their trials


Step = Proposal | TrialRecord | Wait | SearchEnding
"""A design to train, one that was refused, or a reason to wait or to end."""


class Claims:
    """Decides for one search what comes next.

    Args:
        name: of the search, from `nas.study.processes.worker_name`.
        database: of the study, open.
        mirror: of the database.
        plan: what to do.
        interrupted: called while another process decides and between two trials; may raise.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        mirror: Mirror,
        plan: Plan,
        interrupted: Callable[[], None],
    ) -> None:
        self._name = name
        self._database = database
        self._mirror = mirror
        self._plan = plan
        self._interrupted = interrupted
        self._deadline = time.monotonic() + (plan.timeout or float("inf"))
        self._unseen = Unseen(plan.space, plan.limits)
        self._failed_before: int | None = None  # failures in a row that this search did not see
        self._ended_elsewhere: list[FrozenTrial] = []

    def next(self) -> Step:
        """What comes next.

        Raises:
            SearchFailed: too many designs in a row could not be trained.
            KeyboardInterrupt: a signal came while there was still something to do.
        """
        with self._database.claim(self._interrupted):
            return self._decide()

    def trained(self) -> None:
        """Says that a design of this search was trained: failures before it count no more."""
        self._failed_before = 0

    def ended_elsewhere(self) -> list[FrozenTrial]:
        """The trials of others that have ended since this was last asked for."""
        ended, self._ended_elsewhere = self._ended_elsewhere, []
        return ended

    def _decide(self) -> Step:
        self._refresh()
        standing = standing_of(self._mirror.trials)
        if self._failed_before is None:
            self._failed_before = len(standing.failures)
        if standing.trained >= self._plan.trials:
            return SearchEnding.DONE
        self._interrupted()
        if time.monotonic() >= self._deadline:
            return SearchEnding.TIMEOUT
        if len(standing.failures) - self._failed_before >= _FAILURES:
            raise SearchFailed(
                f"{_FAILURES} designs in a row could not be trained; "
                f"the last one: {standing.failures[-1]}"
            )
        if standing.trained + standing.running >= self._plan.trials:
            return Wait(standing.running)
        if not standing.waiting and not self._unseen.any(standing.seen):
            return Wait(standing.running) if standing.running else SearchEnding.EXHAUSTED
        return self._propose(standing)

    def _propose(self, standing: Standing) -> Proposal | TrialRecord:
        """The next design, written as a trial that runs, or was refused."""
        study, plan = self._mirror.study, self._plan
        stuck = standing.duplicates >= _DUPLICATES or standing.rejected >= _REJECTIONS
        if stuck and not standing.waiting:
            rng = random.Random(derived_seed(plan.seed, "draw", standing.proposed))
            study.enqueue_trial(dict(self._unseen.draw(standing.seen, rng)))
        # A sampler of its own for every trial: a search that was stopped and continued proposes
        # what one that ran through would have.
        study.sampler = plan.sampler(derived_seed(plan.seed, standing.proposed))
        queued = {waiting._trial_id: waiting for waiting in self._mirror.waiting}
        trial = study.ask()
        architecture = suggest(trial, plan.space)
        cost = count(architecture, plan.input)
        trial.set_user_attr("worker", self._name)
        describe(trial, architecture, cost)
        outcome = None
        if not mark_excess(trial, cost, plan.limits):
            outcome = Outcome.OVER_BUDGET
        elif architecture.key in standing.seen:
            outcome = Outcome.DUPLICATE
        if outcome is not None:
            trial.set_user_attr("outcome", outcome.value)
            study.tell(trial, state=STATES[outcome])
        content = self._mirror.trial(trial)
        trial_id, number = self._write(queued.get(trial._trial_id), content)
        if outcome is not None:
            return trial_record(content, number)
        return Proposal(trial, content, trial_id, number, architecture, cost)

    def _write(self, queued: FrozenTrial | None, content: FrozenTrial) -> tuple[int, int]:
        """Writes a trial that is new, or was queued; returns its id and number in the database."""
        trial_id = self._mirror.id_in_database(content._trial_id)
        if trial_id is None:
            trial_id = self._database.add(content)
            self._mirror.connect(content._trial_id, trial_id)
        else:
            assert queued is not None, "Optuna pops only trials that wait"
            self._database.change(trial_id, queued, content)
        return trial_id, self._database.number(trial_id, content.number)

    def _refresh(self) -> None:
        """Brings the mirror up to date, and ends trials whose process is gone."""
        self._ended_elsewhere += self._mirror.refresh()
        gone = [t for t in self._mirror.running if not is_alive(t.user_attrs.get("worker"))]
        if gone:
            self._take_over(gone)
            self._ended_elsewhere += self._mirror.refresh()

    def _take_over(self, gone: list[FrozenTrial]) -> None:
        """Ends these trials, and queues each design again, but only once."""
        deaths = Counter(
            trial.user_attrs.get("key")
            for trial in self._mirror.trials
            if trial.user_attrs.get("reason") == DIED
        )
        for trial in gone:
            key = trial.user_attrs.get("key")
            reason = DIED if deaths[key] == 0 else f"{DIED} twice on this design"
            ended = copy.copy(trial)
            ended.user_attrs = {
                **trial.user_attrs,
                "reason": reason,
                "outcome": Outcome.FAILED.value,
            }
            ended.state = TrialState.FAIL
            trial_id = self._mirror.id_in_database(trial._trial_id)
            assert trial_id is not None, "only the trial of this process has none for a moment"
            self._database.change(trial_id, trial, ended)
            if key is not None and deaths[key] == 0:
                self._database.study.enqueue_trial(trial.params)
