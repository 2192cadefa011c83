"""One search's trials, one after another, on a study that others may work on at the same time.

What to do next is decided in a claim, which only one process has at a time: it brings the mirror up
to date, proposes a design and writes its trial, so no design is trained twice and no more of them
than were asked for. Training happens outside; then the trial's outcome is written.
"""

import contextlib
import copy
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import Architecture
from nas.study.database import Database
from nas.study.designs import design_attributes
from nas.study.devices import is_out_of_memory
from nas.study.fronts import ACCURACY, proposal_limits
from nas.study.interrupts import Interrupts
from nas.study.mirror import Mirror
from nas.study.observer import Observer
from nas.study.presets import enqueue_presets, preset_outside, queue_again
from nas.study.processes import is_alive
from nas.study.proposals import (
    Candidate,
    Proposals,
    candidate_of,
    derived_seed,
    mark_excess,
)
from nas.study.records import DIED, INTERRUPTED, Outcome, TrialRecord
from nas.study.samplers import DomainSampler
from nas.study.standing import Standing, standing_of
from nas.study.storage import STORAGE_ERRORS, trial_record
from nas.study.trainer import Trainer
from nas.training.loop import Ending, EpochResult, TrainingResult
from nas.training.tuning import Value, defaults

_FAILURES = 5  # diverged, out of memory or failed in a row before the search gives up
_POLL = 0.5  # seconds between two looks whether other processes are done


class SearchFailed(RuntimeError):
    """Training fails again and again, or the database is gone; the message says why."""


class SearchEnding(StrEnum):
    """Why a search returned."""

    DONE = "done"  # the asked number of designs is trained
    EXHAUSTED = "exhausted"  # every design of the space within the limits has been tried
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is to do; the same for all workers on a study but for seed and device."""

    trials: int  # designs trained in the study, by all
    proposals: Proposals
    epochs: int  # of a full run
    seed: int
    sampler: DomainSampler
    pruner: BasePruner
    train: Trainer
    presets: Mapping[str, Architecture] = field(default_factory=dict)  # to train first, by name
    objectives: tuple[str, ...] = (ACCURACY,)
    training: Callable[[Mapping[str, Value]], Mapping[str, Value]] = lambda values: {}
    # what a trial says of its training, by the values of the training choices
    clean_up: Callable[[], None] = lambda: None  # after every training, whatever came of it
    device: str = "cpu"  # in words
    timeout: float | None = None  # seconds after which no new trial starts


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A design that this process has claimed and is to train."""

    trial: optuna.Trial  # of the mirror
    written: FrozenTrial  # as it is in the database, but for reports
    trial_id: int  # in the database
    number: int  # in the database
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class _Wait:
    """Nothing to do until other processes are done."""

    running: int  # their trials


_Step = _Proposal | TrialRecord | _Wait | SearchEnding


class Worker:
    """The loop of one search.

    Args:
        name: from `nas.study.processes.worker_name`.
        database: of the study, open.
        plan: what to do.
        observer: hears what happens.
        interrupts: open.
        told: numbers of ended trials that the observer knows.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        plan: Plan,
        observer: Observer,
        interrupts: Interrupts,
        told: frozenset[int] = frozenset(),
    ) -> None:
        self._name = name
        self._database = database
        self._plan = plan
        self._observer = observer
        self._interrupts = interrupts
        self._told = told
        self._mirror = Mirror(database.study, plan.pruner)
        self._mirror.study.sampler = plan.sampler
        self._failed_before: int | None = None  # failures in a row that this search did not see
        self._ended_elsewhere: list[FrozenTrial] = []
        self.newly_trained = 0

    def run(self) -> SearchEnding:
        """Trials until the study has enough of them, or there is nothing or no time left."""
        deadline = time.monotonic() + (self._plan.timeout or float("inf"))
        waiting = False
        while True:
            with self._database.claim(self._interrupts.check):
                step = self._next(deadline)
            self._tell_of_others()
            if isinstance(step, SearchEnding):
                return step
            if isinstance(step, _Wait):
                if not waiting:
                    self._observer.waiting(step.running)
                waiting = True
                with self._interrupts.allowed():
                    time.sleep(_POLL)
                continue
            waiting = False
            record = self._carry_out(step) if isinstance(step, _Proposal) else step
            self._observer.trial_ended(record)
            assert record.outcome is not None
            if record.outcome.counts:
                self.newly_trained += 1
                self._failed_before = 0

    def _next(self, deadline: float) -> _Step:
        """Decides what comes next; in a claim."""
        self._refresh()
        standing = standing_of(self._mirror.trials)
        if self._failed_before is None:
            self._failed_before = len(standing.failures)
            standing = self._queue_presets(standing)
        if standing.trained >= self._plan.trials:
            return SearchEnding.DONE
        self._interrupts.check()
        if time.monotonic() >= deadline:
            return SearchEnding.TIMEOUT
        if len(standing.failures) - self._failed_before >= _FAILURES:
            raise SearchFailed(
                f"{_FAILURES} designs in a row could not be trained; "
                f"the last one: {standing.failures[-1]}"
            )
        if standing.trained + standing.running >= self._plan.trials:
            return _Wait(standing.running)
        if not standing.waiting and not self._plan.proposals.any_unseen(standing.seen):
            return _Wait(standing.running) if standing.running else SearchEnding.EXHAUSTED
        return self._propose(standing)

    def _queue_presets(self, standing: Standing) -> Standing:
        plan = self._plan
        if standing.trained >= plan.trials or not plan.presets:
            return standing
        space, choices = plan.proposals.space, plan.proposals.choices
        enqueue_presets(self._database.study, plan.presets, space, choices, standing.seen)
        self._mirror.refresh()
        return standing_of(self._mirror.trials)

    def _propose(self, standing: Standing) -> _Proposal | TrialRecord:
        """The next design, written as a trial that runs, or was refused; in a claim."""
        study, plan, proposals = self._mirror.study, self._plan, self._plan.proposals
        if standing.rejected and not standing.waiting:
            rng = random.Random(derived_seed(plan.seed, "draw", standing.proposed))
            study.enqueue_trial(dict(proposals.draw_unseen(standing.seen, rng)))
        # A seed of its own for every trial: a search that was stopped and continued proposes what
        # one that ran through would have.
        plan.sampler.reseed(derived_seed(plan.seed, standing.proposed))
        budget = self._narrow(standing)
        queued = {waiting._trial_id: waiting for waiting in self._mirror.waiting}
        trial = study.ask()
        outside = preset_outside(trial, proposals.space)
        if outside is None:
            candidate = proposals.suggest(trial)
        else:
            candidate = candidate_of(outside, defaults(proposals.choices), proposals.space)
        said = {
            "worker": self._name,
            **design_attributes(candidate.architecture, candidate.cost, candidate.key),
            **plan.training(candidate.training),
            **({} if budget is None or trial._trial_id in queued else {"proposal_budget": budget}),
        }
        for name, value in said.items():
            trial.set_user_attr(name, value)
        outcome = None
        if not mark_excess(trial, candidate.cost, proposals.limits):
            outcome = Outcome.OVER_BUDGET
        elif candidate.key in standing.seen:
            outcome = Outcome.DUPLICATE
        if outcome is not None:
            trial.set_user_attr("outcome", outcome.value)
            study.tell(trial, state=_STATES[outcome])
        content = self._mirror.trial(trial)
        trial_id, number = self._write(queued.get(trial._trial_id), content)
        if outcome is not None:
            return trial_record(_numbered(content, number))
        return _Proposal(trial, content, trial_id, number, candidate)

    def _narrow(self, standing: Standing) -> int | None:
        """Gives the next proposal a budget of its own, if a front is searched; returns it."""
        plan, proposals = self._plan, self._plan.proposals
        if len(plan.objectives) < 2:
            return None
        rng = random.Random(derived_seed(plan.seed, "proposal budget", standing.proposed))
        limits = proposal_limits(plan.objectives, proposals.space, proposals.limits, rng)
        plan.sampler.domain = proposals.domain_within(limits)
        budget: int = getattr(limits, f"max_{plan.objectives[1]}")
        return budget

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

    def _carry_out(self, proposal: _Proposal) -> TrialRecord:
        try:
            candidate = proposal.candidate
            self._observer.trial_started(proposal.number, candidate.architecture, candidate.cost)
            return self._trained(proposal)
        except KeyboardInterrupt:
            with self._database.transaction():
                self._end(proposal, Outcome.FAILED, reason=INTERRUPTED)
                queue_again(self._database.study, proposal.trial)
            raise
        except BaseException as error:  # of ours or the database's: the search ends
            with contextlib.suppress(*STORAGE_ERRORS):
                self._end(proposal, Outcome.FAILED, reason=_one_line(error))
            raise

    def _trained(self, proposal: _Proposal) -> TrialRecord:
        try:
            with self._interrupts.allowed():
                result = self._train(proposal)
        except STORAGE_ERRORS:
            raise
        except Exception as error:
            outcome = Outcome.OUT_OF_MEMORY if is_out_of_memory(error) else Outcome.FAILED
            return self._end(proposal, outcome, reason=_one_line(error))
        finally:
            self._plan.clean_up()
        measured = {
            "epochs": len(result.epochs),
            "seconds": round(result.seconds, 3),
            "images_per_second": result.images_per_second,
            "device": self._plan.device,
        }
        if result.ending is Ending.DIVERGED:
            return self._end(proposal, Outcome.DIVERGED, reason=result.reason, measured=measured)
        if result.ending is Ending.STOPPED:
            return self._end(proposal, Outcome.STOPPED_EARLY, measured=measured)
        value = result.val_accuracy
        return self._end(proposal, Outcome.TRAINED, value=value, measured=measured)

    def _train(self, proposal: _Proposal) -> TrainingResult:
        trial = proposal.trial

        def on_epoch(result: EpochResult) -> bool:
            self._interrupts.hold()
            trial.report(result.val_accuracy, step=result.epoch)
            self._database.report(proposal.trial_id, result.epoch, result.val_accuracy)
            stop = trial.should_prune()
            self._observer.epoch_ended(proposal.number, result)
            if not stop and result.epoch < self._plan.epochs:
                self._interrupts.release()  # else the run is over, and is recorded first
            return stop

        return self._plan.train(proposal.candidate, on_epoch)

    def _end(
        self,
        proposal: _Proposal,
        outcome: Outcome,
        *,
        value: float | None = None,
        reason: str | None = None,
        measured: Mapping[str, object] | None = None,
    ) -> TrialRecord:
        """Writes a trial's outcome."""
        trial = proposal.trial
        said = {"reason": reason} if reason is not None else {}
        for name, attribute in {**(measured or {}), **said, "outcome": outcome.value}.items():
            trial.set_user_attr(name, attribute)
        ended = self._mirror.study.tell(trial, value, state=_STATES[outcome])
        written = copy.copy(proposal.written)
        written.intermediate_values = ended.intermediate_values
        self._database.change(proposal.trial_id, written, ended)
        return trial_record(_numbered(ended, proposal.number))

    def _refresh(self) -> None:
        """Brings the mirror up to date, and ends trials whose process is gone; in a claim."""
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

    def _tell_of_others(self) -> None:
        for trial in self._ended_elsewhere:
            if trial.number not in self._told and "outcome" in trial.user_attrs:
                self._observer.ended_elsewhere(trial_record(trial))
        self._ended_elsewhere = []


_STATES = {
    Outcome.TRAINED: TrialState.COMPLETE,
    Outcome.STOPPED_EARLY: TrialState.PRUNED,
    Outcome.OVER_BUDGET: TrialState.PRUNED,
    Outcome.DUPLICATE: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}


def _numbered(trial: FrozenTrial, number: int) -> FrozenTrial:
    numbered = copy.copy(trial)
    numbered.number = number
    return numbered


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
