"""All that nas uses of Optuna beyond its public API: private names, keys, and tables in SQL.

An Optuna with another major version may have changed any of it;
tests/study/test_optuna_private.py says by name what. Nothing else in nas uses such a name.
"""

import gc
import json
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import StudyModel, TrialModel
from optuna.trial import FrozenTrial, TrialState

from nas.study.records import DAMAGED, Outcome


def _table(name: str, *columns: str) -> sqlalchemy.TableClause:
    return sqlalchemy.table(name, *(sqlalchemy.column(column) for column in columns))


STUDIES = _table("studies", "study_id", "study_name")
STUDY_USER_ATTRIBUTES = _table("study_user_attributes", "study_id", "key", "value_json")
STUDY_SYSTEM_ATTRIBUTES = _table("study_system_attributes", "study_id", "key", "value_json")
TRIALS = _table("trials", "trial_id", "study_id", "number", "state")
PARAMS = _table("trial_params", "trial_id", "param_name", "param_value", "distribution_json")
USER_ATTRIBUTES = _table("trial_user_attributes", "trial_id", "key", "value_json")
SYSTEM_ATTRIBUTES = _table("trial_system_attributes", "trial_id", "key", "value_json")
VALUES = _table("trial_values", "trial_id")
INTERMEDIATE_VALUES = _table("trial_intermediate_values", "trial_id")
HEARTBEATS = _table("trial_heartbeats", "trial_id", "heartbeat")

PARTS_OF_TRIALS = [
    table
    for table in TrialModel.metadata.sorted_tables
    if "trial_id" in table.c and table.name != TRIALS.name
]
"""The tables whose rows belong to a trial."""

WRITTEN_FIRST = ("studies", "version_info")
"""Tables of which a new database has one as soon as it has any."""
WRITTEN_LAST = ("version_info", "alembic_version")
"""Tables that have a row only when a new database is complete."""

CONSTRAINTS = "constraints"
"""The system attribute of a trial with its constraints, the only one that the dashboard reads."""
FIXED_PARAMS = "fixed_params"
"""The system attribute of a trial that was queued, with its parameters."""

_PARTS = ("params", "values", "user_attributes", "system_attributes", "intermediate_values")


def study_id_of(study: optuna.Study) -> int:
    """The id of a study in its storage."""
    return study._study_id


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study, with its cache."""
    return study._storage


def trial_id_of(trial: optuna.Trial | FrozenTrial) -> int:
    """The id of a trial in its storage."""
    return trial._trial_id


def content_of(trial: optuna.Trial) -> FrozenTrial:
    """What a running trial and its pruner read of it: not a copy."""
    return trial._cached_frozen_trial


@dataclass(frozen=True, slots=True)
class Damaged:
    """The attribute of a study that cannot be read."""

    text: str


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return Damaged(text)


_DAMAGE = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
"""What Optuna, SQLAlchemy or JSON raise at rows that none of them has written."""
_FEW = 100  # trials whose rows are looked up one by one


_READABLE: set[str] = set()
"""Versions of the tables that Optuna has accepted: to find that out it reads all of its migrations,
which takes longer than everything else of opening a database."""


class StudyStorage(RDBStorage):
    """Optuna's storage, which reads all trials at once in a third of the time and of the memory.

    Optuna's own makes an object of every row, about 40 for a trial. And it reads nothing at all
    where a row is damaged; here that trial is one that failed, see `_damaged`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        url = url.replace("{", "{{").replace("}", "}}")  # Optuna fills what is in single ones
        super().__init__(url, skip_compatibility_check=bool(_READABLE), **options)
        version = self.get_current_version()
        if self.skip_compatibility_check and version not in _READABLE:
            self.engine.dispose()
            super().__init__(url, **options)  # which says what is wrong
        _READABLE.add(version)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        wanted = TrialModel.trial_id > trial_id_greater_than
        if included_trial_ids:
            wanted |= TrialModel.trial_id.in_(included_trial_ids)
        with without_collecting(), self.scoped_session() as session:
            StudyModel.find_or_raise_by_id(study_id, session)
            trials = self._readable(session, sqlalchemy.and_(_of(study_id), wanted))
        return [trial for trial in trials if states is None or trial.state in states]

    def _readable(self, session: Any, wanted: Any) -> list[FrozenTrial]:
        try:
            return self._whole(session, wanted)
        except _DAMAGE as error:
            rows = session.query(TrialModel.trial_id, TrialModel.number).filter(wanted)
            trials = rows.order_by(TrialModel.trial_id).all()
            if len(trials) < 2:
                return [_damaged(row.trial_id, row.number, error) for row in trials]
        middle = TrialModel.trial_id < trials[len(trials) // 2].trial_id
        halves = (sqlalchemy.and_(wanted, half) for half in (middle, ~middle))
        return [trial for half in halves for trial in self._readable(session, half)]

    def _whole(self, session: Any, wanted: Any) -> list[FrozenTrial]:
        trials: list[Any] = (
            session.query(TrialModel).filter(wanted).order_by(TrialModel.trial_id).all()
        )
        ids = [trial.trial_id for trial in trials]
        parts: dict[int, dict[str, list[Any]]] = defaultdict(lambda: {p: [] for p in _PARTS})
        for part in _PARTS if trials else ():
            table = getattr(TrialModel, part).property.mapper.local_table
            rows = sqlalchemy.select(table)
            if len(ids) <= _FEW:
                rows = rows.where(table.c.trial_id.in_(ids))
            else:
                rows = rows.join(TrialModel).where(wanted)
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
        built = self._build_frozen_trial_from_trial_model(whole)
        numbers = [built.number, *built.intermediate_values.values(), *(built.values or ())]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"expected numbers, got {numbers}")
        if built.state is TrialState.COMPLETE and not built.values:
            raise ValueError("it is COMPLETE without a value")
        return built

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """What Optuna gives; an attribute that is no JSON any more is `Damaged`."""
        try:
            return super().get_study_user_attrs(study_id)
        except ValueError:
            found = sqlalchemy.select(
                STUDY_USER_ATTRIBUTES.c.key, STUDY_USER_ATTRIBUTES.c.value_json
            )
            with self.engine.connect() as connection:
                rows = connection.execute(found.where(STUDY_USER_ATTRIBUTES.c.study_id == study_id))
                return {key: _loaded(text) for key, text in rows}

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Any
    ) -> Any:
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        # Optuna counts the trials before it: where one was deleted, that number is another's.
        others = sqlalchemy.select(sqlalchemy.func.max(TrialModel.number))
        others = others.where(_of(study_id), TrialModel.trial_id != trial.trial_id)
        last = session.execute(others).scalar()
        trial.number = trial.number if last is None else max(trial.number, last + 1)
        return trial


def _of(study_id: int) -> Any:
    return TrialModel.study_id == study_id


def _damaged(trial_id: int, number: object, error: Exception) -> FrozenTrial:
    """A trial whose rows cannot be read: one that failed, and says why."""
    what = (str(error).splitlines() or ["a value that Optuna does not write"])[0]
    return FrozenTrial(
        number=number if isinstance(number, int) else trial_id - 1,
        trial_id=trial_id,
        state=TrialState.FAIL,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={"outcome": Outcome.FAILED.value, "reason": f"{DAMAGED}: {what}"},
        system_attrs={},
        intermediate_values={},
    )


@contextmanager
def without_collecting() -> Iterator[None]:
    """A block that makes many objects to keep; looking for garbage among them doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
