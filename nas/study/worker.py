"""One search's trials, one after another, on a study that others may work on at the same time.

What to do next is decided in a claim, see `nas.study.claims`; training happens outside; then the
trial's outcome is written.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress

from optuna.exceptions import UpdateFinishedTrialError

from nas.runtime import signals
from nas.runtime.devices import is_out_of_memory
from nas.study.claims import Claims, Proposal, Wait
from nas.study.database import Database
from nas.study.heart import Heart
from nas.study.mirror import Mirror
from nas.study.observer import Observer
from nas.study.outcomes import STATES
from nas.study.ownership import TrialLost
from nas.study.plan import Plan, SearchEnding, SearchFailed
from nas.study.presets import queue_again
from nas.study.records import INTERRUPTED, Outcome, TrialRecord
from nas.study.request import GRACE
from nas.study.retrying import Retrying
from nas.study.storage import STORAGE_ERRORS, readable_record, trial_record
from nas.training.loop import Ending, EpochResult, TrainingResult
from nas.training.resuming import EpochCheckpoint

_POLL = 0.5  # seconds between two looks whether other processes are done


class Worker:
    """The loop of one search.

    Args:
        name: of the search, from `nas.study.processes.worker_name`.
        database: of the study, open.
        plan: what to do.
        observer: hears what happens.
        told: numbers of ended trials that the observer knows.
        grace: seconds without a sign of life after which a worker is given up.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        plan: Plan,
        observer: Observer,
        told: frozenset[int] = frozenset(),
        grace: float = GRACE,
    ) -> None:
        self._name = name
        self._database = database
        self._plan = plan
        self._observer = observer
        self._told = set(told)
        self._heart = Heart(lambda: database.engine, name, grace)
        self._mirror = Mirror(database.study, plan.pruner, plan.sampler)
        self._claims = Claims(name, database, self._mirror, plan, self._heart)
        self._retrying = Retrying(database, observer)
        self._checkpoint_failed = self._capture_failed = False
        self.newly_trained = 0

    def run(self) -> SearchEnding:
        """Trials until the study has enough of them, or there is nothing or no time left."""
        with self._heart:
            return self._run()

    def _run(self) -> SearchEnding:
        waiting = False
        while True:
            # After a claim that failed the copy may hold a trial that the database does not.
            step = self._retrying(self._claims.next, self._renew_mirror)
            for trial in self._claims.ended_elsewhere():
                found = readable_record(trial)
                if trial.number not in self._told and found.outcome is not None:
                    self._told.add(trial.number)
                    self._observer.ended_elsewhere(found)
            if isinstance(step, SearchEnding):
                return step
            if isinstance(step, Wait):
                if not waiting:
                    self._observer.waiting(step.running)
                waiting = True
                signals.sleep(_POLL)
                continue
            waiting = False
            try:
                record = self._carry_out(step) if isinstance(step, Proposal) else step
            except TrialLost:
                self._renew_mirror()  # its copy of that trial is wrong
                assert isinstance(step, Proposal)
                self._observer.trial_lost(step.number)
                continue
            self._told.add(record.number)
            self._observer.trial_ended(record)
            assert record.outcome is not None
            if record.outcome.counts:
                self.newly_trained += 1
                self._claims.trained()

    def _carry_out(self, proposal: Proposal) -> TrialRecord:
        self._heart.trial_id = proposal.trial_id
        try:
            candidate = proposal.candidate
            self._observer.trial_started(proposal.number, candidate.architecture, candidate.cost)
            return self._trained(proposal)
        except (TrialLost, SearchFailed):
            raise
        except KeyboardInterrupt:
            # In a claim, since that is what queueing locks first.
            # Nor are there new attempts: of a database that is gone the next search makes the best.
            lost = (TrialLost, UpdateFinishedTrialError, *STORAGE_ERRORS)  # or told, not written
            with suppress(*lost), self._database.claim():
                self._end(proposal, Outcome.FAILED, reason=INTERRUPTED)
                queue_again(self._database.study, proposal.trial)
            raise
        except BaseException as error:  # of ours or the database's: the search ends
            with suppress(*STORAGE_ERRORS, UpdateFinishedTrialError, TrialLost):
                self._end(proposal, Outcome.FAILED, reason=_one_line(error))
            raise
        finally:
            self._heart.trial_id = None

    def _trained(self, proposal: Proposal) -> TrialRecord:
        try:
            result = self._train(proposal)
        except (*STORAGE_ERRORS, TrialLost, SearchFailed):
            raise
        except Exception as error:
            outcome = Outcome.OUT_OF_MEMORY if is_out_of_memory(error) else Outcome.FAILED
            return self._end(proposal, outcome, reason=_one_line(error))
        finally:
            self._plan.clean_up()
        if result.not_captured and not self._capture_failed:
            self._capture_failed = True
            self._observer.capture_failed(result.not_captured)
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

    def _train(self, proposal: Proposal) -> TrainingResult:
        trial, number = proposal.trial, proposal.number
        checkpoint = self._plan.checkpoint(proposal.candidate)

        def on_start(done: Sequence[EpochResult]) -> None:
            for result in done:
                self._mirror.report(trial, result.epoch, result.val_accuracy)
            if done:
                self._report(proposal, done)
            if done or proposal.retries:
                self._observer.trial_continued(number, len(done))

        def on_epoch(result: EpochResult) -> bool:
            stop = self._mirror.report(trial, result.epoch, result.val_accuracy)
            self._report(proposal, [result])
            self._look_at(checkpoint)
            self._observer.epoch_ended(number, result)
            if not stop and result.epoch < self._plan.epochs:
                signals.check()  # else the run is over, and is recorded first
            return stop

        try:
            return self._plan.train(proposal.candidate, on_start, on_epoch, checkpoint)
        finally:
            self._look_at(checkpoint)

    def _look_at(self, checkpoint: EpochCheckpoint | None) -> None:
        """Says the first time that a checkpoint could not be written."""
        if checkpoint and checkpoint.error and not self._checkpoint_failed:
            self._checkpoint_failed = True
            self._observer.checkpoint_failed(str(checkpoint.error))

    def _report(self, proposal: Proposal, results: Sequence[EpochResult]) -> None:
        accuracies = {result.epoch: result.val_accuracy for result in results}
        self._retrying(
            lambda: self._database.report(proposal.trial_id, self._name, accuracies),
            self._reconnect_mirror,
        )

    def _renew_mirror(self) -> None:
        self._mirror.renew(self._database.study)

    def _reconnect_mirror(self) -> None:
        self._mirror.reconnect(self._database.study)

    def _end(
        self,
        proposal: Proposal,
        outcome: Outcome,
        *,
        value: float | None = None,
        reason: str | None = None,
        measured: Mapping[str, object] | None = None,
    ) -> TrialRecord:
        """Writes a trial's outcome.

        Raises:
            TrialLost: the trial is another worker's by now.
        """
        trial = proposal.trial
        said = {"reason": reason} if reason is not None else {}
        for name, attribute in {**(measured or {}), **said, "outcome": outcome.value}.items():
            trial.set_user_attr(name, attribute)
        ended = self._mirror.study.tell(trial, value, state=STATES[outcome])
        written = copy.copy(proposal.written)
        written.intermediate_values = ended.intermediate_values

        def write() -> None:
            self._database.end(proposal.trial_id, self._name, written, ended)

        if reason == INTERRUPTED:
            write()
        else:
            self._retrying(write, self._reconnect_mirror)
            if checkpoint := self._plan.checkpoint(proposal.candidate):
                checkpoint.remove()
        return trial_record(ended, proposal.number)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
