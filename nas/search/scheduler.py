"""What comes next in a study, decided by one process at a time.

Under the allocation lock the history is brought up to date, a design proposed and its trial
written. So no design is trained twice, and no more of them than were asked for, however many
processes there are.
"""

import dataclasses
import math
import random
import time
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial

from nas.runtime import signals
from nas.search.candidates import Candidate, candidate_of, derived_seed, mark_excess
from nas.search.counts import Counts
from nas.search.deadline import epoch_speed, in_time, searched_seconds
from nas.search.domain import Domain
from nas.search.fronts import proposal_limits
from nas.search.history import History
from nas.search.plan import Plan, SearchEnding, SearchFailed
from nas.search.presets import enqueue_presets, preset_outside
from nas.search.samplers import DomainSampler
from nas.search.stale import fail_stale, is_stale
from nas.search.summaries import Summary
from nas.space import Limits
from nas.study.designs import design_attributes, latency_attributes
from nas.study.heartbeat import WORKER, Heartbeat
from nas.study.optuna_private import trial_id_of
from nas.study.outcomes import STATES
from nas.study.reader import trial_record
from nas.study.records import DAMAGED, Outcome, TrialRecord
from nas.study.storage import STORAGE_ERRORS
from nas.study.store import Store, StoredTrial
from nas.training.tuning import defaults

_REFUSALS = 3  # in a row, after which a design is drawn, where a sampler cannot know all limits
_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up


@dataclasses.dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that this process is to train."""

    trial: optuna.Trial  # of the history
    stored: StoredTrial
    candidate: Candidate
    deadline: float  # by `time.monotonic`, at which no further epoch is begun


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until other processes are done."""

    running: int  # their trials


Step = RunningTrial | TrialRecord | Wait | SearchEnding
"""A design to train, one that was refused, or a reason to wait or to end."""


class Scheduler:
    """Decides for one search what comes next.

    Args:
        name: of the search, from `nas.runtime.liveness.worker_name`.
        store: of the study, open.
        history: of the store.
        plan: what to do.
        sampler: of the history.
        heartbeat: of this search.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        history: History,
        plan: Plan,
        sampler: DomainSampler,
        heartbeat: Heartbeat,
    ) -> None:
        self._name = name
        self._store = store
        self._history = history
        self._plan = plan
        self._sampler = sampler
        self._heartbeat = heartbeat
        self._deadline = time.monotonic() + (plan.timeout or float("inf"))
        self._failed_before: int | None = None  # failures in a row that this search did not see
        self._presets_queued = False
        self._ended_elsewhere: list[FrozenTrial] = []
        self._counted = Summary(Counts)

    def next(self) -> Step:
        """What comes next.

        Raises:
            SearchFailed: too many designs in a row could not be trained.
            KeyboardInterrupt: a signal came while there was still something to do.
        """
        try:
            with self._store.allocation_lock():
                step = self._decide()
        except STORAGE_ERRORS:
            self._history.renew()  # it may hold a trial that the database does not
            raise
        self._presets_queued = True  # now that the transaction has not been rolled back
        return step

    def ended_elsewhere(self) -> list[FrozenTrial]:
        """The trials of others that have ended since this was last asked for."""
        ended, self._ended_elsewhere = self._ended_elsewhere, []
        return ended

    def _decide(self) -> Step:
        self._ended_elsewhere += self._history.refresh()
        self._fail_stale()
        if self._plan.latencies is not None:
            self._plan.latencies.refresh()
        counts = self._count()
        if self._failed_before is None:
            self._failed_before = len(counts.failures)
        if not self._presets_queued:
            counts = self._queue_presets(counts)
        self._failed_before = min(self._failed_before, len(counts.failures))
        if counts.trained >= self._plan.trials:
            return SearchEnding.DONE
        signals.check()
        if time.monotonic() >= self._deadline:
            return SearchEnding.TIMEOUT
        left = self._seconds_left()
        if left <= 0:
            return SearchEnding.TIME_UP
        if len(counts.failures) - self._failed_before >= _FAILURES:
            raise SearchFailed(
                f"{_FAILURES} designs in a row could not be trained; "
                f"the last one: {counts.failures[-1]}"
            )
        if counts.trained + counts.running >= self._plan.trials:
            return Wait(counts.running)
        if not counts.waiting and not self._plan.candidates.any_unseen(counts.seen):
            return Wait(counts.running) if counts.running else SearchEnding.EXHAUSTED
        limits = self._limits(counts, left)
        return SearchEnding.TIME_UP if limits is None else self._propose(counts, limits, left)

    def _fits(self, candidate: Candidate, left: float) -> bool:
        """Whether an epoch of it can end in the time left, as far as is known."""
        speed = epoch_speed(self._history.trials)
        return speed is None or speed.seconds(candidate.cost.mult_adds) <= left

    def _seconds_left(self) -> float:
        """Of the time that the study is searched."""
        if self._plan.time_limit == math.inf:
            return math.inf
        return self._plan.time_limit - searched_seconds(self._history.trials, datetime.now())

    def _limits(self, counts: Counts, left: float) -> Limits | None:
        """The limits of the next design; None where nothing new could end in the time left."""
        plan, limits = self._plan, self._plan.candidates.limits
        if left == math.inf or counts.waiting:
            return limits
        return in_time(
            self._history.trials,
            plan.candidates,
            counts,
            left=left,
            epochs=plan.epochs,
            wanted=plan.trials,
        )

    def _queue_presets(self, counts: Counts) -> Counts:
        plan = self._plan
        if counts.trained >= plan.trials or not plan.presets:
            return counts
        space, choices = plan.candidates.space, plan.candidates.choices
        table = None if plan.latencies is None else plan.latencies.table
        enqueue_presets(self._store.study, plan.presets, space, choices, counts.seen, table)
        self._history.refresh()
        return self._count()

    def _count(self) -> Counts:
        return self._counted.of(self._history.trials)

    def _propose(self, counts: Counts, limits: Limits, left: float) -> Step:
        """The next design, written as a trial that runs, or was refused.

        One that is queued and too slow for the time left stays so, for a search with more time.
        """
        study, plan, candidates = self._history.study, self._plan, self._plan.candidates
        drawn = counts.rejected >= (_REFUSALS if plan.latencies else 1)
        if drawn and not counts.waiting:
            rng = random.Random(derived_seed(plan.seed, "draw", counts.proposed))
            unseen = candidates.draw_unseen(counts.seen, rng, limits)
            assert unseen is not None, "see any_unseen"
            study.enqueue_trial(dict(unseen))
        attributes: dict[str, object] = {WORKER: self._name}
        domain = candidates.domain
        if limits != candidates.limits or plan.latencies:  # by which the domain changes
            domain = candidates.domain_within(limits)
        if len(plan.objectives) > 1 and not counts.waiting and not drawn:
            domain, attributes["proposal_budget"] = self._narrowed(counts, limits)
        # A seed of its own for every trial: a search that was stopped and continued proposes what
        # one that ran through would have.
        self._sampler.begin(domain, derived_seed(plan.seed, counts.proposed))
        trial = study.ask()
        outside = preset_outside(trial, candidates.space)
        try:
            if outside is None:
                candidate = candidates.suggest(trial)
            else:
                candidate = candidate_of(outside, defaults(candidates.choices), candidates.space)
        except (KeyError, ValueError, TypeError) as error:
            if self._history.id_in_database(trial_id_of(trial)) is None:
                raise  # it was not queued
            return self._refuse(trial, f"queued with values outside the space: {error}")
        if trial.user_attrs.get("key", candidate.key) != candidate.key:  # it was queued again
            return self._refuse(trial, f"{DAMAGED}: its values are no longer those of its design")
        attributes |= design_attributes(candidate.architecture, candidate.cost, candidate.key)
        attributes |= plan.training_attributes(candidate.training)
        excess = candidates.limits.excess(candidate.cost)
        if plan.latencies is not None:
            within = all(value <= 0 for value in excess.values())
            latency = plan.latencies.settle(candidate.architecture, measure=within)
            excess["latency"] = latency.ms / plan.latencies.most - 1
            attributes |= latency_attributes(latency.estimate, latency.measured)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        outcome = None
        if not mark_excess(trial, excess):
            outcome = Outcome.OVER_BUDGET
        elif candidate.key in counts.seen:
            outcome = Outcome.DUPLICATE
        elif counts.waiting and not self._fits(candidate, left):
            self._history.renew()  # there it is no longer queued
            return SearchEnding.TIME_UP
        if outcome is not None:
            trial.set_user_attr("outcome", outcome.value)
            study.tell(trial, state=STATES[outcome])
        content = self._history.trial(trial)
        stored = self._write(content)
        if outcome is not None:
            return trial_record(content, stored.number)
        return RunningTrial(trial, stored, candidate, time.monotonic() + left)

    def _refuse(self, trial: optuna.Trial, reason: str) -> TrialRecord:
        """Fails a trial that was queued with values that say no design, or another one."""
        trial.set_user_attr(WORKER, self._name)
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("outcome", Outcome.FAILED.value)
        self._history.study.tell(trial, state=STATES[Outcome.FAILED])
        content = self._history.trial(trial)
        return trial_record(content, self._write(content).number)

    def _narrowed(self, counts: Counts, within: Limits) -> tuple[Domain, int]:
        """Where the next design of a front comes from, within a budget of its own; and that."""
        plan, candidates = self._plan, self._plan.candidates
        rng = random.Random(derived_seed(plan.seed, "proposal budget", counts.proposed))
        limits = proposal_limits(plan.objectives, candidates.space, within, rng)
        name = plan.objectives[1]
        budget, largest = limits[name], within[name]
        while True:
            domain = candidates.domain_within(within.with_maximum(name, budget))
            if budget == largest or any(domain.key(p) not in counts.seen for p in domain.pool):
                return domain, budget
            budget = min(2 * budget, largest)  # all designs this small have been tried

    def _write(self, content: FrozenTrial) -> StoredTrial:
        """Writes a trial that is new, or was queued."""
        here = trial_id_of(content)
        trial_id = self._history.id_in_database(here)
        if trial_id is not None:
            return self._store.change(trial_id, content)
        stored = self._store.add(content)
        self._history.connect(here, stored.id)
        return stored

    def _fail_stale(self) -> None:
        """Fails the trials whose worker is gone, and queues their designs again."""
        if not self._history.running:
            return
        silent = self._store.silent(self._heartbeat.grace) if self._heartbeat.may_judge else set()
        ended = False
        for trial in self._history.running:
            # This search itself trains nothing now: it has not learnt that it began this trial.
            if is_stale(trial, silent) or trial.user_attrs.get(WORKER) == self._name:
                fail_stale(self._store, trial)
                ended = True
        if ended:
            self._ended_elsewhere += self._history.refresh()
