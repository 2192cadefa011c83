"""The trials of a study in memory, where samplers and pruners read them at no cost."""

from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from nas.study.optuna_private import content_of, study_id_of, trial_id_of
from nas.study.rows import without_run, write_changes
from nas.study.store import Store


class History:
    """A copy of a database's study: trials that ended, run elsewhere or wait, in the same order.

    Samplers, pruners and trials use `study`; the database is only read by `refresh`.

    Args:
        store: of the study that is copied.
        pruner: of the copy.
        sampler: of the copy; by default Optuna's.
    """

    def __init__(
        self, store: Store, pruner: BasePruner, sampler: BaseSampler | None = None
    ) -> None:
        self._store = store
        self._pruner = pruner
        self._sampler = sampler
        self.renew()

    def renew(self) -> None:
        """Begins anew, as an empty copy."""
        self.running: list[FrozenTrial] = []  # in the database when it was last read, as they are
        self._storage = InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._storage,
            direction="maximize",
            pruner=self._pruner,
            sampler=self._sampler,
        )
        self._id_here: dict[int, int] = {}  # by the trial's id in the database
        self._id_there: dict[int, int] = {}  # the other way round
        self._copied: set[int] = set()  # trials that have ended here and there, by their ids there

    def refresh(self) -> list[FrozenTrial]:
        """Copies what has changed in the database; returns the trials that have ended since.

        To be called while this process runs no trial.
        """
        trials = self._store.study.get_trials(deepcopy=False)
        self.running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        new = [trial for trial in trials if trial_id_of(trial) not in self._copied]
        return [trial for trial in new if self._ends(trial)]

    def _ends(self, trial: FrozenTrial) -> bool:
        """Copies what is new of a trial of the database; returns whether it ended elsewhere."""
        here = self._id_here.get(trial_id_of(trial))
        ended_here = False
        if trial.state is TrialState.WAITING:
            trial = without_run(trial)
        if here is None:
            template = _Ended.of(trial) if trial.state.is_finished() else trial
            here = self._storage.create_new_trial(study_id_of(self.study), template_trial=template)
            self.connect(here, trial_id_of(trial))
        else:
            known = self._storage.get_trial(here)
            ended_here = known.state.is_finished()
            if not ended_here:
                write_changes(self._storage, here, known, trial)
        if trial.state.is_finished():
            self._copied.add(trial_id_of(trial))
        return trial.state.is_finished() and not ended_here

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, to be read only."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, trial: optuna.Trial) -> FrozenTrial:
        """The content of a trial of the copy now, to be read at once."""
        return self._storage.get_trial(trial_id_of(trial))

    def report(self, trial: optuna.Trial, epoch: int, val_accuracy: float) -> bool:
        """Reports the accuracy after an epoch, and returns whether to stop.

        A training that begins again, since memory was short, may have done later epochs: they count
        no more.
        """
        known = content_of(trial)
        earlier = {e: value for e, value in known.intermediate_values.items() if e < epoch}
        known.intermediate_values = earlier
        trial.report(val_accuracy, step=epoch)
        return trial.should_prune()

    def connect(self, here: int, there: int) -> None:
        """Notes which trial of the database a trial of the copy is, by their ids."""
        self._id_here[there], self._id_there[here] = here, there

    def id_in_database(self, here: int) -> int | None:
        """The id in the database of a trial of the copy; None while it is not there."""
        return self._id_there.get(here)


class _Ended(FrozenTrial):
    """A trial that has ended: a copy of it shares its content, which nobody changes any more."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> "_Ended":
        ended = cls.__new__(cls)
        ended.__dict__.update(trial.__dict__)
        return ended

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        trial = FrozenTrial.__new__(FrozenTrial)
        trial.__dict__.update(self.__dict__)
        return trial
