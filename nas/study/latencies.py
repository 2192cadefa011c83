"""The measured latencies of a study: of layers and designs, by name, on one machine.

They are system attributes of the study, a row for each, so that any database holds them and every
worker finds what another has measured. They are written under the allocation lock.
"""

import json
from collections.abc import Mapping, Sequence

import optuna

from nas.study.optuna_private import STUDY_SYSTEM_ATTRIBUTES, storage_of, study_id_of
from nas.study.store import Store
from nas.text import plural

Measured = float | Sequence[float]

MACHINES = "latency_machines"
"""The user attribute with the machines that have measured, in their order; the last one's count."""

_PREFIX = "nas:latency:"


def read_latencies(store: Store) -> dict[str, Measured]:
    """What was measured on the last machine, by name."""
    table = STUDY_SYSTEM_ATTRIBUTES
    with store.transaction() as connection:
        rows = connection.execute(
            table.select()
            .with_only_columns(table.c.key, table.c.value_json)
            .where(table.c.study_id == study_id_of(store.study), table.c.key.startswith(_PREFIX))
        ).all()
    return {key.removeprefix(_PREFIX): json.loads(value) for key, value in rows}


def write_latencies(store: Store, measured: Mapping[str, Measured]) -> None:
    """Adds what was measured."""
    storage, study_id = storage_of(store.study), study_id_of(store.study)
    with store.transaction():
        for name, value in measured.items():
            storage.set_study_system_attr(study_id, _PREFIX + name, value)


def machines_of(study: optuna.Study) -> list[dict[str, object]]:
    """The machines that have measured, oldest first, as `Stopwatch.machine` has them."""
    return list(study.user_attrs.get(MACHINES, ()))


def machine_in_words(machine: Mapping[str, object]) -> str:
    """As in ONNX Runtime 1.18.0 on AMD EPYC 7B13, 1 thread."""
    threads = int(str(machine["threads"]))
    return f"{machine['runtime']} on {machine['processor']}, {plural(threads, 'thread')}"


def begin_measuring(store: Store, machine: Mapping[str, object]) -> None:
    """Makes a machine the one that measures; what others have measured is forgotten."""
    table = STUDY_SYSTEM_ATTRIBUTES
    with store.transaction() as connection:
        of_study = table.c.study_id == study_id_of(store.study)
        connection.execute(table.delete().where(of_study, table.c.key.startswith(_PREFIX)))
        store.study.set_user_attr(MACHINES, [*machines_of(store.study), dict(machine)])
