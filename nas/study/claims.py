"""What comes next in a study, decided by one process at a time.

In a claim the mirror is brought up to date, a design proposed and its trial written. So no design
is trained twice, and no more of them than were asked for, however many processes there are.
"""

import copy
import dataclasses
import random
import time

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.runtime import signals
from nas.study.database import Database
from nas.study.designs import design_attributes
from nas.study.fronts import proposal_limits
from nas.study.heart import Heart
from nas.study.mirror import Mirror
from nas.study.optuna_private import trial_id_of
from nas.study.outcomes import STATES
from nas.study.ownership import WORKER
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.presets import enqueue_presets, preset_outside, queue_again
from nas.study.processes import is_alive
from nas.study.proposals import Candidate, candidate_of, derived_seed, mark_excess
from nas.study.records import DAMAGED, DIED, NOBODY, Outcome, TrialRecord
from nas.study.standing import Standing, Tally
from nas.study.storage import trial_record
from nas.study.summaries import Summary
from nas.training.tuning import defaults

_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up
_RETRIES = 2  # of a trial whose worker is gone


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """A design that this process has claimed and is to train."""

    trial: optuna.Trial  # of the mirror
    written: FrozenTrial  # as it is in the database, but for reports
    trial_id: int  # in the database
    number: int  # in the database
    candidate: Candidate
    retries: int = 0  # how often the trial was taken over


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
        heart: of this search.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        mirror: Mirror,
        plan: Plan,
        heart: Heart,
    ) -> None:
        self._name = name
        self._database = database
        self._mirror = mirror
        self._plan = plan
        self._heart = heart
        self._deadline = time.monotonic() + (plan.timeout or float("inf"))
        self._failed_before: int | None = None  # failures in a row that this search did not see
        self._ended_elsewhere: list[FrozenTrial] = []
        self._tally = Summary(Tally)

    def next(self) -> Step:
        """What comes next.

        Raises:
            SearchFailed: too many designs in a row could not be trained.
            KeyboardInterrupt: a signal came while there was still something to do.
        """
        with self._database.claim():
            return self._decide()

    def trained(self) -> None:
        """Says that a design of this search was trained: failures before it count no more."""
        self._failed_before = 0

    def ended_elsewhere(self) -> list[FrozenTrial]:
        """The trials of others that have ended since this was last asked for."""
        ended, self._ended_elsewhere = self._ended_elsewhere, []
        return ended

    def _decide(self) -> Step:
        self._ended_elsewhere += self._mirror.refresh()
        gone = self._gone()
        if self._end_hopeless(gone):
            self._ended_elsewhere += self._mirror.refresh()
            gone = [trial for trial in gone if not self._hopeless(trial)]
        standing = self._standing()
        if self._failed_before is None:
            self._failed_before = len(standing.failures)
            standing = self._queue_presets(standing)
        if standing.trained >= self._plan.trials:
            self._queue_again(gone)  # with a lower --trials than before
            return SearchEnding.DONE
        signals.check()
        if time.monotonic() >= self._deadline:
            return SearchEnding.TIMEOUT
        if len(standing.failures) - self._failed_before >= _FAILURES:
            raise SearchFailed(
                f"{_FAILURES} designs in a row could not be trained; "
                f"the last one: {standing.failures[-1]}"
            )
        for trial in gone:
            if (taken := self._take_over(trial)) is not None:
                return taken
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
        return self._standing()

    def _standing(self) -> Standing:
        return self._tally.of(self._mirror.trials).standing()

    def _propose(self, standing: Standing) -> Proposal | TrialRecord:
        """The next design, written as a trial that runs, or was refused."""
        study, plan, proposals = self._mirror.study, self._plan, self._plan.proposals
        if standing.rejected and not standing.waiting:
            rng = random.Random(derived_seed(plan.seed, "draw", standing.proposed))
            study.enqueue_trial(dict(proposals.draw_unseen(standing.seen, rng)))
        # A seed of its own for every trial: a search that was stopped and continued proposes what
        # one that ran through would have.
        plan.sampler.reseed(derived_seed(plan.seed, standing.proposed))
        said: dict[str, object] = {WORKER: self._name}
        if not standing.waiting and not standing.rejected:
            said |= self._narrow(standing)
        queued = {trial_id_of(waiting): waiting for waiting in self._mirror.waiting}
        trial = study.ask()
        outside = preset_outside(trial, proposals.space)
        try:
            if outside is None:
                candidate = proposals.suggest(trial)
            else:
                candidate = candidate_of(outside, defaults(proposals.choices), proposals.space)
        except (KeyError, ValueError, TypeError) as error:
            if trial_id_of(trial) not in queued:
                raise
            return self._refuse(trial, queued[trial_id_of(trial)], error)
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
        trial_id, number = self._write(queued.get(trial_id_of(trial)), content)
        if outcome is not None:
            return trial_record(content, number)
        return Proposal(trial, content, trial_id, number, candidate)

    def _refuse(self, trial: optuna.Trial, queued: FrozenTrial, error: Exception) -> TrialRecord:
        """Ends a trial that was queued by hand with values that are no design of the space."""
        trial.set_user_attr(WORKER, self._name)
        trial.set_user_attr("reason", f"queued with values outside the space: {error}")
        trial.set_user_attr("outcome", Outcome.FAILED.value)
        self._mirror.study.tell(trial, state=STATES[Outcome.FAILED])
        content = self._mirror.trial(trial)
        _, number = self._write(queued, content)
        return trial_record(content, number)

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
        trial_id = self._mirror.id_in_database(trial_id_of(content))
        if trial_id is None:
            trial_id = self._database.add(content)
            self._mirror.connect(trial_id_of(content), trial_id)
        else:
            assert queued is not None, "Optuna pops only trials that wait"
            self._database.change(trial_id, queued, content)
        return trial_id, self._database.number(trial_id)

    def _gone(self) -> list[FrozenTrial]:
        """The trials that run, but whose worker is gone; to be read only."""
        running = self._mirror.running
        if not running:
            return []
        gone, doubtful = [], []
        for trial in running:
            worker = trial.user_attrs.get(WORKER)
            # This search itself trains nothing now: it has not learnt that it began this trial.
            if worker == self._name or not is_alive(worker):
                gone.append(trial)
            else:
                doubtful.append(trial)
        if doubtful and self._heart.may_judge:
            silences = self._database.silences()
            for trial in doubtful:
                if silences.get(self._id_in_database(trial), 0.0) > self._heart.grace:
                    gone.append(trial)
        return gone

    def _hopeless(self, trial: FrozenTrial) -> bool:
        """Whether a trial whose worker is gone is not to be trained again."""
        retries: int = trial.user_attrs.get("retries", 0)
        return retries >= _RETRIES or "key" not in trial.user_attrs

    def _end_hopeless(self, gone: list[FrozenTrial]) -> bool:
        ended = False
        for trial in gone:
            if self._hopeless(trial):
                retries = trial.user_attrs.get("retries", 0)
                self._fail(trial, f"{DIED} {retries + 1} times" if retries else NOBODY)
                ended = True
        return ended

    def _fail(self, trial: FrozenTrial, reason: str) -> bool:
        ended = copy.copy(trial)
        ended.user_attrs = {
            **trial.user_attrs,
            "reason": reason,
            "outcome": Outcome.FAILED.value,
        }
        ended.state = TrialState.FAIL
        return self._database.take_over(self._id_in_database(trial), trial, ended)

    def _queue_again(self, gone: list[FrozenTrial]) -> None:
        """Ends trials whose worker is gone; their designs are the next ones, should more come."""
        for trial in gone:
            if self._fail(trial, DIED):
                queue_again(self._database.study, trial)
        if gone:
            self._ended_elsewhere += self._mirror.refresh()

    def _take_over(self, trial: FrozenTrial) -> Proposal | None:
        """Makes the trial of a worker that is gone one of this search."""
        plan, space = self._plan, self._plan.proposals.space
        here = self._mirror.continued(trial)
        try:
            outside = preset_outside(here, space)
            if outside is None:
                candidate = plan.proposals.candidate(trial.params)
            else:
                candidate = candidate_of(outside, defaults(plan.proposals.choices), space)
        except (KeyError, ValueError, TypeError) as error:  # somebody has changed its values
            self._fail(trial, f"{DAMAGED}: its values are no design of the space: {error}")
            return None
        retries = trial.user_attrs.get("retries", 0) + 1
        taken = copy.copy(trial)
        taken.user_attrs = {**trial.user_attrs, WORKER: self._name, "retries": retries}
        trial_id = self._id_in_database(trial)
        if not self._database.take_over(trial_id, trial, taken):
            return None
        self._ended_elsewhere += self._mirror.refresh()
        number = self._database.number(trial_id)
        return Proposal(here, self._mirror.trial(here), trial_id, number, candidate, retries)

    def _id_in_database(self, trial: FrozenTrial) -> int:
        trial_id = self._mirror.id_in_database(trial_id_of(trial))
        assert trial_id is not None, "only the trial of this process has none for a moment"
        return trial_id
