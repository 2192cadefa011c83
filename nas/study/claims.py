"""What comes next in a study, decided by one process at a time.

In a claim the mirror is brought up to date, a design proposed and its trial written. So no design
is trained twice, and no more of them than were asked for, however many processes there are.
"""

import copy
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.study.database import Database
from nas.study.designs import design_attributes
from nas.study.fronts import proposal_limits
from nas.study.mirror import Mirror
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.presets import enqueue_presets, preset_outside, queue_again
from nas.study.processes import is_alive
from nas.study.proposals import Candidate, candidate_of, derived_seed, mark_excess
from nas.study.records import DIED, Outcome, TrialRecord
from nas.study.standing import Standing, standing_of
from nas.study.storage import STATES, trial_record
from nas.training.tuning import defaults

_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """A design that this process has claimed and is to train."""

    trial: optuna.Trial  # of the mirror
    written: FrozenTrial  # as it is in the database, but for reports
    trial_id: int  # in the database
    number: int  # in the database
    candidate: Candidate


@dataclasses.dataclass(frozen=True, slots=True)
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
        mirror.study.sampler = plan.sampler
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
            standing = self._queue_presets(standing)
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
        if not standing.waiting and not self._plan.proposals.any_unseen(standing.seen):
            return Wait(standing.running) if standing.running else SearchEnding.EXHAUSTED
        return self._propose(standing)

    def _queue_presets(self, standing: Standing) -> Standing:
        plan = self._plan
        if standing.trained >= plan.trials or not plan.presets:
            return standing
        space, choices = plan.proposals.space, plan.proposals.choices
        enqueue_presets(self._database.study, plan.presets, space, choices, standing.seen)
        self._mirror.refresh()
        return standing_of(self._mirror.trials)

    def _propose(self, standing: Standing) -> Proposal | TrialRecord:
        """The next design, written as a trial that runs, or was refused."""
        study, plan, proposals = self._mirror.study, self._plan, self._plan.proposals
        if standing.rejected and not standing.waiting:
            rng = random.Random(derived_seed(plan.seed, "draw", standing.proposed))
            study.enqueue_trial(dict(proposals.draw_unseen(standing.seen, rng)))
        # A seed of its own for every trial: a search that was stopped and continued proposes what
        # one that ran through would have.
        plan.sampler.reseed(derived_seed(plan.seed, standing.proposed))
        said: dict[str, object] = {"worker": self._name}
        if not standing.waiting and not standing.rejected:
            said |= self._narrow(standing)
        queued = {waiting._trial_id: waiting for waiting in self._mirror.waiting}
        trial = study.ask()
        outside = preset_outside(trial, proposals.space)
        if outside is None:
            candidate = proposals.suggest(trial)
        else:
            candidate = candidate_of(outside, defaults(proposals.choices), proposals.space)
        said |= design_attributes(candidate.architecture, candidate.cost, candidate.key)
        said |= plan.said_of_training(candidate.training)
        for name, value in said.items():
            trial.set_user_attr(name, value)
        outcome = None
        if not mark_excess(trial, candidate.cost, proposals.limits):
            outcome = Outcome.OVER_BUDGET
        elif candidate.key in standing.seen:
            outcome = Outcome.DUPLICATE
        if outcome is not None:
            trial.set_user_attr("outcome", outcome.value)
            study.tell(trial, state=STATES[outcome])
        content = self._mirror.trial(trial)
        trial_id, number = self._write(queued.get(trial._trial_id), content)
        if outcome is not None:
            return trial_record(content, number)
        return Proposal(trial, content, trial_id, number, candidate)

    def _narrow(self, standing: Standing) -> dict[str, object]:
        """Gives the next proposal a budget of its own, if a front is searched."""
        plan, proposals = self._plan, self._plan.proposals
        if len(plan.objectives) < 2:
            return {}
        rng = random.Random(derived_seed(plan.seed, "proposal budget", standing.proposed))
        limits = proposal_limits(plan.objectives, proposals.space, proposals.limits, rng)
        name = f"max_{plan.objectives[1]}"
        budget, largest = getattr(limits, name), getattr(proposals.limits, name)
        while True:
            limits = dataclasses.replace(proposals.limits, **{name: budget})
            plan.sampler.domain = domain = proposals.domain_within(limits)
            if budget == largest or any(domain.key(p) not in standing.seen for p in domain.pool):
                return {"proposal_budget": budget}
            budget = min(2 * budget, largest)  # all designs this small have been tried

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
                queue_again(self._database.study, trial)
