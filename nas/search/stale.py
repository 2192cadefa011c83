"""Stale trials: they run in the database, but their worker is gone."""

from collections.abc import Set

from optuna.trial import FrozenTrial, TrialState

from nas.runtime.liveness import is_alive
from nas.search.presets import queue_again
from nas.study.heartbeat import WORKER
from nas.study.optuna_private import trial_id_of
from nas.study.outcomes import reason_of
from nas.study.records import DIED, NOBODY
from nas.study.store import Store
from nas.text import times

_RETRIES = 2  # of a design whose worker died


def is_stale(trial: FrozenTrial, silent: Set[int]) -> bool:
    """Whether the worker of a running trial is gone.

    Args:
        trial: as it is in the database.
        silent: ids of the trials whose workers were not heard of for too long.
    """
    return not is_alive(trial.user_attrs.get(WORKER)) or trial_id_of(trial) in silent


def fail_all_stale(store: Store, grace: float) -> None:
    """Fails the trials whose workers are gone, as `fail_stale`, as a search begins.

    Args:
        store: of the study.
        grace: seconds without a heartbeat after which a worker counts as dead.
    """
    running = store.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    silent = store.silent(grace) if running else set()
    for trial in running:
        if is_stale(trial, silent):
            fail_stale(store, trial)


def fail_stale(store: Store, trial: FrozenTrial) -> str | None:
    """Fails a trial whose worker is gone, and queues its design again.

    Not one with which too many workers died, nor the trial of another program, which says none. To
    be called under the allocation lock.

    Returns:
        The reason with which it was failed, `DIED` where its design was queued again; None if it
        no longer ran.
    """
    reason = _reason(store, trial)
    if not store.fail(trial, reason):
        return None
    if reason == DIED:
        queue_again(store.study, trial)
    return reason


def _reason(store: Store, trial: FrozenTrial) -> str:
    key = trial.user_attrs.get("key")
    if key is None:
        return NOBODY
    others = store.study.get_trials(deepcopy=False)
    deaths = 1 + sum(t.user_attrs.get("key") == key and reason_of(t) == DIED for t in others)
    return DIED if deaths <= _RETRIES else f"{DIED} {times(deaths)}"
