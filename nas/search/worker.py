"""One search's trials, one after another, on a study that others may work on at the same time.

The scheduler decides what is next, under the allocation lock; training happens outside; then the
trial's outcome is written.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from optuna.exceptions import UpdateFinishedTrialError

from nas.runtime import signals
from nas.runtime.devices import is_out_of_memory
from nas.search.events import (
    BatchesDone,
    CaptureFailed,
    CheckpointFailed,
    EndedElsewhere,
    EpochEnded,
    OnEvent,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from nas.search.evidence import EvidencePruner, Threshold
from nas.search.history import History
from nas.search.plan import Plan, SearchEnding, SearchFailed
from nas.search.presets import queue_again
from nas.search.pruners import RungPruner
from nas.search.request import GRACE
from nas.search.retrying import Retrying
from nas.search.samplers import DomainSampler
from nas.search.scheduler import RunningTrial, Scheduler, Wait
from nas.study.heartbeat import Heartbeat
from nas.study.outcomes import STATES
from nas.study.reader import readable_record, trial_record
from nas.study.records import INTERRUPTED, TIME_UP, Outcome, TrialRecord
from nas.study.storage import STORAGE_ERRORS
from nas.study.store import Store, TrialLost
from nas.training.checkpoint import Checkpoint
from nas.training.loop import Ending, EpochResult, TrainingResult

_OUTCOMES = {
    Ending.FINISHED: Outcome.TRAINED,
    Ending.STOPPED: Outcome.STOPPED_EARLY,
    Ending.DIVERGED: Outcome.DIVERGED,
}
_POLL = 0.5  # seconds between two looks whether other processes are done


class Worker:
    """The loop of one search.

    Args:
        name: of the search, from `nas.runtime.liveness.worker_name`.
        store: of the study, open.
        plan: what to do.
        sampler: proposes designs.
        on_event: hears what happens.
        known: numbers of ended trials that are known to whoever hears the events.
        grace: seconds without a heartbeat after which a worker counts as dead.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        plan: Plan,
        sampler: DomainSampler,
        on_event: OnEvent,
        known: frozenset[int] = frozenset(),
        grace: float = GRACE,
    ) -> None:
        self._store = store
        self._plan = plan
        self._on_event = on_event
        self._known = set(known)
        self._name = name
        self._heartbeat = Heartbeat(lambda: store.engine, grace)
        self._history = History(store, plan.pruner, sampler)
        self._scheduler = Scheduler(name, store, self._history, plan, sampler, self._heartbeat)
        self._retrying = Retrying(store, on_event)
        self._checkpoint_failed = self._capture_failed = False
        self._time_up = False  # for the trial in training
        self.newly_trained = 0

    def run(self) -> SearchEnding:
        """Trials until the study has enough of them, or there is nothing or no time left."""
        with self._heartbeat:
            return self._run()

    def _run(self) -> SearchEnding:
        waiting = False
        while True:
            step = self._retrying(self._scheduler.next)
            for trial in self._scheduler.ended_elsewhere():
                found = readable_record(trial)
                if trial.number not in self._known and found.outcome is not None:
                    self._known.add(trial.number)
                    self._on_event(EndedElsewhere(found, own=found.worker == self._name))
            if isinstance(step, SearchEnding):
                return step
            if isinstance(step, Wait):
                if not waiting:
                    self._on_event(Waiting(step.running))
                waiting = True
                signals.sleep(_POLL)
                continue
            waiting = False
            try:
                record = self._carry_out(step) if isinstance(step, RunningTrial) else step
            except TrialLost:
                self._history.renew()  # its copy of that trial is wrong
                continue
            self._known.add(record.number)
            self._on_event(TrialEnded(record))
            self.newly_trained += record.counts

    def _carry_out(self, running: RunningTrial) -> TrialRecord:
        self._heartbeat.trial_id = running.stored.id
        try:
            number, candidate = running.stored.number, running.candidate
            needed = self._threshold(running)
            self._on_event(TrialStarted(number, candidate.architecture, candidate.cost, needed))
            return self._trained(running)
        except (TrialLost, SearchFailed):
            raise
        except KeyboardInterrupt:
            # Under the lock, since that is what queueing takes first.
            # Nor are there new attempts: of a database that is gone the next search makes the best.
            lost = (TrialLost, UpdateFinishedTrialError, *STORAGE_ERRORS)  # or ended, not written
            with suppress(*lost), self._store.allocation_lock():
                self._end(running, Outcome.FAILED, reason=INTERRUPTED)
                queue_again(self._store.study, running.trial)
            raise
        except BaseException as error:  # of ours or the database's: the search ends
            with suppress(*STORAGE_ERRORS, UpdateFinishedTrialError, TrialLost):
                self._end(running, Outcome.FAILED, reason=_one_line(error))
            raise
        finally:
            self._heartbeat.trial_id = None

    def _trained(self, running: RunningTrial) -> TrialRecord:
        try:
            result = self._train(running)
        except (*STORAGE_ERRORS, TrialLost, SearchFailed):
            raise
        except Exception as error:
            outcome = Outcome.OUT_OF_MEMORY if is_out_of_memory(error) else Outcome.FAILED
            return self._end(running, outcome, reason=_one_line(error))
        finally:
            self._plan.clean_up()
        if result.not_captured and not self._capture_failed:
            self._capture_failed = True
            self._on_event(CaptureFailed(result.not_captured))
        measured: dict[str, object] = {
            "epochs": len(result.epochs),
            "seconds": round(result.seconds, 3),
            "images_per_second": result.images_per_second,
            "device": self._plan.device,
        }
        outcome, reason, pruner = _OUTCOMES[result.ending], result.reason, self._plan.pruner
        if outcome is Outcome.STOPPED_EARLY and self._time_up:
            reason = TIME_UP
        elif outcome is Outcome.STOPPED_EARLY and isinstance(pruner, EvidencePruner):
            trial = self._history.trial(running.trial)
            measured["forecast"] = str(pruner.forecast(self._history.study, trial))
        value = result.val_accuracy if outcome is Outcome.TRAINED else None
        return self._end(running, outcome, value=value, reason=reason, measured=measured)

    def _train(self, running: RunningTrial) -> TrainingResult:
        trial, number = running.trial, running.stored.number
        self._time_up = False
        checkpoint = self._plan.checkpoint(running.candidate)

        def on_start(done: Sequence[EpochResult]) -> None:
            for result in done:
                self._history.report(trial, result.epoch, result.val_accuracy)
            if done:
                self._report(running, done)
                self._on_event(TrialContinued(number, len(done)))

        def on_epoch(result: EpochResult) -> bool:
            stop = self._history.report(trial, result.epoch, result.val_accuracy)
            self._report(running, [result])
            self._look_at(checkpoint)
            self._on_event(EpochEnded(number, result, None if stop else self._threshold(running)))
            if not stop and result.epoch < self._plan.epochs:
                signals.check()  # else the run is over, and is recorded first
                # Most of the next epoch would be after the deadline.
                left = running.deadline - time.monotonic()
                stop = self._time_up = left < result.seconds / 2
            return stop

        def on_batches(done: int, batches: int) -> None:
            self._on_event(BatchesDone(number, done, batches))

        try:
            return self._plan.train(running.candidate, on_start, on_epoch, checkpoint, on_batches)
        finally:
            self._look_at(checkpoint)

    def _threshold(self, running: RunningTrial) -> Threshold | None:
        """What the run must reach at its next check, where the pruner can say it."""
        pruner = self._plan.pruner
        if not isinstance(pruner, EvidencePruner | RungPruner):
            return None
        return pruner.threshold(self._history.study, self._history.trial(running.trial))

    def _look_at(self, checkpoint: Checkpoint | None) -> None:
        """Reports, the first time, that a checkpoint could not be written."""
        if checkpoint and checkpoint.error and not self._checkpoint_failed:
            self._checkpoint_failed = True
            self._on_event(CheckpointFailed(str(checkpoint.error)))

    def _report(self, running: RunningTrial, results: Sequence[EpochResult]) -> None:
        accuracies = {result.epoch: result.val_accuracy for result in results}
        self._retrying(lambda: self._store.report(running.stored.id, accuracies))

    def _end(
        self,
        running: RunningTrial,
        outcome: Outcome,
        *,
        value: float | None = None,
        reason: str | None = None,
        measured: Mapping[str, object] | None = None,
    ) -> TrialRecord:
        """Writes a trial's outcome.

        Raises:
            TrialLost: another worker has ended the trial.
        """
        trial = running.trial
        why = {"reason": reason} if reason is not None else {}
        for name, attribute in {**(measured or {}), **why, "outcome": outcome.value}.items():
            trial.set_user_attr(name, attribute)
        ended = self._history.study.tell(trial, value, state=STATES[outcome])

        def write() -> None:
            self._store.end(running.stored.id, ended)

        if reason == INTERRUPTED:
            write()
        else:
            self._retrying(write)
            if checkpoint := self._plan.checkpoint(running.candidate):
                checkpoint.remove()
        return trial_record(ended, running.stored.number)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
