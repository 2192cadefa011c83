"""The database of a study as a search uses it, and its trials in memory."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import ImageInput
from nas.runtime import signals
from nas.search.candidates import Candidates, mark_excess
from nas.search.history import History
from nas.space import Limits, default_space
from nas.study.designs import design_attributes
from nas.study.location import StudyLocation
from nas.study.optuna_private import HEARTBEATS, StudyStorage, storage_of, trial_id_of
from nas.study.store import Store, open_store

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
SPACE = default_space(CIFAR10)
LIMITS = Limits(max_parameters=5_000_000)
CANDIDATES = Candidates(SPACE, LIMITS)


@pytest.fixture
def location(tmp_path: Path) -> StudyLocation:
    return StudyLocation.at("parts", studies_dir=tmp_path)


@pytest.fixture
def store(location: StudyLocation) -> Iterator[Store]:
    with open_store(location) as store:
        yield store


def ask(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    candidate = CANDIDATES.suggest(trial)
    for name, value in design_attributes(
        candidate.architecture, candidate.cost, candidate.key
    ).items():
        trial.set_user_attr(name, list(value) if isinstance(value, tuple) else value)
    mark_excess(trial, LIMITS.excess(candidate.cost))
    return trial


def content(trial: FrozenTrial) -> dict[str, object]:
    """All that samplers, pruners and records read of a trial."""
    names = ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs")
    return {name: getattr(trial, name) for name in (*names, "intermediate_values")}


def read(location: StudyLocation) -> list[FrozenTrial]:
    return optuna.load_study(study_name="parts", storage=location.url).trials


def test_a_trial_comes_back_from_the_database_as_it_was_written(
    store: Store, location: StudyLocation
) -> None:
    history = History(store, NopPruner())
    trial = ask(history.study)
    trial.set_user_attr("worker", "me")
    written = history.trial(trial)
    stored = store.add(written)
    history.connect(trial_id_of(written), stored.id)
    assert stored.number == 0
    assert [content(t) for t in read(location)] == [content(written)]
    for epoch in (1, 2, 3):
        trial.report(epoch / 10, step=epoch)
        store.report(stored.id, {epoch: epoch / 10})
    trial.set_user_attr("outcome", "stopped_early")
    storage_of(history.study).set_trial_system_attr(trial_id_of(written), "completed_rung_0", 0.3)
    ended = history.study.tell(trial, state=TrialState.PRUNED)
    store.end(stored.id, ended)
    store.end(stored.id, ended)  # the answer to the first may have been lost
    (found,) = read(location)
    assert content(found) == content(ended)
    assert (found.value, found.state) == (0.3, TrialState.PRUNED)
    assert found.datetime_complete is not None


def test_a_refused_trial_is_written_at_once(store: Store, location: StudyLocation) -> None:
    history = History(store, NopPruner())
    ended = history.study.tell(ask(history.study), state=TrialState.PRUNED)
    store.add(ended)
    assert [content(t) for t in read(location)] == [content(ended)]


def test_the_history_follows_trials_of_others(store: Store, location: StudyLocation) -> None:
    history = History(store, NopPruner())
    other = optuna.load_study(study_name="parts", storage=location.url)
    other.enqueue_trial({"stages": 4})
    other.enqueue_trial({"stages": 4})
    assert history.refresh() == []
    assert [t.state for t in history.trials] == [TrialState.WAITING] * 2
    trial = ask(other)  # pops the first one
    trial.report(0.5, step=1)
    assert history.refresh() == []
    assert [t.number for t in history.running] == [0]
    assert [content(t) for t in history.trials] == [content(t) for t in read(location)]
    trial.set_user_attr("outcome", "trained")
    other.tell(trial, 0.75)
    assert [t.number for t in history.refresh()] == [0]
    assert history.refresh() == []
    assert [content(t) for t in history.trials] == [content(t) for t in read(location)]
    assert history.trials[0].value == 0.75


def test_numbers_are_right_when_another_program_writes_without_the_lock(
    store: Store, location: StudyLocation
) -> None:
    history = History(store, NopPruner())
    history.refresh()
    mine = history.trial(ask(history.study))
    other = optuna.load_study(study_name="parts", storage=location.url)
    theirs = ask(other)
    stored = store.add(mine)
    history.connect(trial_id_of(mine), stored.id)
    assert (theirs.number, mine.number, stored.number) == (0, 0, 1)
    history.refresh()
    params = [t.params for t in read(location)]
    assert sorted(map(str, params)) == sorted(str(t.params) for t in history.trials)


def test_a_running_trial_without_a_heartbeat_gets_its_first(store: Store) -> None:
    history = History(store, NopPruner())
    stored = store.add(history.trial(ask(history.study)))
    with store.engine.begin() as connection:
        connection.execute(HEARTBEATS.delete())  # as of an older version
    assert store.silent(grace=60) == set()
    assert store.silent(grace=-1) == {stored.id}


def test_who_looks_for_silent_workers_keeps_no_other_from_writing(
    store: Store, location: StudyLocation
) -> None:
    history = History(store, NopPruner())
    store.add(history.trial(ask(history.study)))
    with store.allocation_lock():
        assert store.silent(grace=60) == set()
        with closing(sqlite3.connect(str(location.path), timeout=0)) as other, other:
            other.execute("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:00'")
        assert len(store.silent(grace=60)) == 1


def test_a_transaction_that_fails_leaves_nothing(store: Store, location: StudyLocation) -> None:
    history = History(store, NopPruner())

    def fail() -> None:
        with store.allocation_lock():
            store.add(history.trial(ask(history.study)))
            store.study.enqueue_trial({"stages": 4})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read(location) == []


def test_an_interrupt_ends_the_wait_for_the_lock(location: StudyLocation) -> None:
    with (
        signals.listening(),
        open_store(location) as one,
        open_store(location) as other,
        one.allocation_lock(),
    ):
        signals.stop()
        with pytest.raises(KeyboardInterrupt), other.allocation_lock():
            pass


def test_a_study_is_read_as_optuna_reads_it(location: StudyLocation) -> None:
    study = optuna.create_study(study_name="parts", storage=location.url, direction="maximize")
    distributions = {
        "a": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
        "b": optuna.distributions.IntDistribution(0, 8, step=2),
        "c": optuna.distributions.CategoricalDistribution(("x", None, 3)),
    }
    for value in (0.5, float("inf")):
        trial = study.ask(distributions)
        trial.set_user_attr("nested", {"list": [1, None]})
        trial.set_constraint("size", -1.0)
        trial.report(float("-inf"), step=2)
        trial.report(0.25, step=1)
        study.tell(trial, value)
    study.ask().report(0.5, step=1)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.enqueue_trial({"a": 0.5})
    other = optuna.create_study(study_name="another", storage=location.url)
    other.tell(other.ask(distributions), 1.0)
    expected = optuna.load_study(study_name="parts", storage=location.url).get_trials()
    found = optuna.load_study(study_name="parts", storage=StudyStorage(location.url)).get_trials()
    assert found == expected
    assert [list(t.params) for t in found] == [list(t.params) for t in expected]
