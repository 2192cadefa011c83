"""The rows of a trial: few statements where Optuna sends one or more for each value."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas.study.heartbeat import LAST_HEARD
from nas.study.optuna_private import INTERMEDIATE_VALUES, PARAMS, USER_ATTRIBUTES, VALUES

OF_A_RUN = (
    *("outcome", "reason", "forecast", LAST_HEARD),
    *("epochs", "seconds", "images_per_second", "device"),
)
"""The user attributes that a run leaves in its trial."""


def insert_params(connection: sqlalchemy.Connection, trial_id: int, trial: FrozenTrial) -> None:
    """Writes all parameters of a new trial in one statement."""
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(trial.params[name]),
            "distribution_json": distribution_to_json(distribution),
        }
        for name, distribution in trial.distributions.items()
    ]
    if rows:
        connection.execute(PARAMS.insert(), rows)


def insert_attributes(
    connection: sqlalchemy.Connection,
    table: sqlalchemy.TableClause,
    trial_id: int,
    attributes: Mapping[str, object],
) -> None:
    """Writes new attributes of a trial in one statement."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]
    if rows:
        connection.execute(table.insert(), rows)


def without_run(trial: FrozenTrial) -> FrozenTrial:
    """A trial without what its run has left; a person may have set it back to be trained again."""
    queued = copy.copy(trial)
    queued.user_attrs = {n: v for n, v in trial.user_attrs.items() if n not in OF_A_RUN}
    queued.values, queued.intermediate_values = None, {}
    return queued


def delete_run(connection: sqlalchemy.Connection, trial_id: int) -> None:
    """Deletes the rows of which `without_run` knows nothing."""
    for table in (VALUES, INTERMEDIATE_VALUES):
        connection.execute(table.delete().where(table.c.trial_id == trial_id))
    rows = USER_ATTRIBUTES.c
    of_a_run = (rows.trial_id == trial_id) & rows.key.in_(OF_A_RUN)
    connection.execute(USER_ATTRIBUTES.delete().where(of_a_run))


def write_changes(
    storage: BaseStorage, trial_id: int, before: FrozenTrial, after: FrozenTrial
) -> None:
    """Brings a trial of a storage, which has not ended, from one content to a later one."""
    if before.state is TrialState.WAITING and after.state is not TrialState.WAITING:
        storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    for name, distribution in after.distributions.items():
        if name not in before.params:
            value = distribution.to_internal_repr(after.params[name])
            storage.set_trial_param(trial_id, name, value, distribution)
    for name, value in _new(before.user_attrs, after.user_attrs):
        storage.set_trial_user_attr(trial_id, name, value)
    for name, value in _new(before.system_attrs, after.system_attrs):
        storage.set_trial_system_attr(trial_id, name, value)
    for step, value in _new(before.intermediate_values, after.intermediate_values):
        storage.set_trial_intermediate_value(trial_id, step, value)
    if after.state.is_finished():
        storage.set_trial_state_values(trial_id, after.state, after.values)


def _new(before: dict[Any, Any], after: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """What differs as JSON, to which a database turns tuples."""
    kept = {key: json.dumps(value) for key, value in before.items()}
    return [(key, value) for key, value in after.items() if kept.get(key) != json.dumps(value)]
