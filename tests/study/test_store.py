"""The parts of a search on their own: database, mirror, who is alive, what is unseen."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, TrialState

from nas.architecture import ImageInput
from nas.runtime import signals
from nas.runtime.liveness import is_alive, worker_name
from nas.search.candidates import Candidates, mark_excess
from nas.search.counts import Counts
from nas.search.history import History
from nas.search.summaries import Summary
from nas.space import Limits, default_space, load_space
from nas.study.designs import design_attributes
from nas.study.location import StudyLocation
from nas.study.optuna_private import StudyStorage, storage_of, trial_id_of
from nas.study.store import Store, open_store
from tests.kits.waiting import wait_until

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
DIGITS = ImageInput(channels=1, height=8, width=8, classes=10)
SPACE = default_space(CIFAR10)
LIMITS = Limits(max_parameters=5_000_000)
PROPOSALS = Candidates(SPACE, LIMITS)


@pytest.fixture
def location(tmp_path: Path) -> StudyLocation:
    return StudyLocation.at("parts", studies_dir=tmp_path)


@pytest.fixture
def database(location: StudyLocation) -> Iterator[Store]:
    with open_store(location) as database:
        yield database


def proposal(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    candidate = PROPOSALS.suggest(trial)
    for name, value in design_attributes(
        candidate.architecture, candidate.cost, candidate.key
    ).items():
        trial.set_user_attr(name, list(value) if isinstance(value, tuple) else value)
    mark_excess(trial, candidate.cost, LIMITS)
    return trial


def content(trial: FrozenTrial) -> dict[str, object]:
    """All that samplers, pruners and records read of a trial."""
    names = ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs")
    return {name: getattr(trial, name) for name in (*names, "intermediate_values")}


def read(location: StudyLocation) -> list[FrozenTrial]:
    return optuna.load_study(study_name="parts", storage=location.url).trials


def test_a_trial_comes_back_from_the_database_as_it_was_written(
    database: Store, location: StudyLocation
) -> None:
    mirror = History(database, NopPruner())
    trial = proposal(mirror.study)
    trial.set_user_attr("worker", "me")
    written = mirror.trial(trial)
    stored = database.add(written)
    mirror.connect(trial_id_of(written), stored.id)
    assert stored.number == 0
    assert [content(t) for t in read(location)] == [content(written)]
    for epoch in (1, 2, 3):
        trial.report(epoch / 10, step=epoch)
        database.report(stored.id, {epoch: epoch / 10})
    trial.set_user_attr("outcome", "stopped_early")
    storage_of(mirror.study).set_trial_system_attr(trial_id_of(written), "completed_rung_0", 0.3)
    ended = mirror.study.tell(trial, state=TrialState.PRUNED)
    database.end(stored.id, ended)
    database.end(stored.id, ended)  # the answer to the first may have been lost
    (found,) = read(location)
    assert content(found) == content(ended)
    assert (found.value, found.state) == (0.3, TrialState.PRUNED)
    assert found.datetime_complete is not None


def test_a_refused_trial_is_written_at_once(database: Store, location: StudyLocation) -> None:
    mirror = History(database, NopPruner())
    ended = mirror.study.tell(proposal(mirror.study), state=TrialState.PRUNED)
    database.add(ended)
    assert [content(t) for t in read(location)] == [content(ended)]


def test_the_mirror_follows_trials_of_others(database: Store, location: StudyLocation) -> None:
    mirror = History(database, NopPruner())
    other = optuna.load_study(study_name="parts", storage=location.url)
    other.enqueue_trial({"stages": 4})
    other.enqueue_trial({"stages": 4})
    assert mirror.refresh() == []
    assert [t.state for t in mirror.trials] == [TrialState.WAITING] * 2
    trial = proposal(other)  # pops the first one
    trial.report(0.5, step=1)
    assert mirror.refresh() == []
    assert [t.number for t in mirror.running] == [0]
    assert [content(t) for t in mirror.trials] == [content(t) for t in read(location)]
    trial.set_user_attr("outcome", "trained")
    other.tell(trial, 0.75)
    assert [t.number for t in mirror.refresh()] == [0]
    assert mirror.refresh() == []
    assert [content(t) for t in mirror.trials] == [content(t) for t in read(location)]
    assert mirror.trials[0].value == 0.75


def test_numbers_are_right_when_another_program_writes_without_the_lock(
    database: Store, location: StudyLocation
) -> None:
    mirror = History(database, NopPruner())
    mirror.refresh()
    mine = mirror.trial(proposal(mirror.study))
    other = optuna.load_study(study_name="parts", storage=location.url)
    theirs = proposal(other)
    stored = database.add(mine)
    mirror.connect(trial_id_of(mine), stored.id)
    assert (theirs.number, mine.number, stored.number) == (0, 0, 1)
    mirror.refresh()
    params = [t.params for t in read(location)]
    assert sorted(map(str, params)) == sorted(str(t.params) for t in mirror.trials)


def test_a_transaction_that_fails_leaves_nothing(database: Store, location: StudyLocation) -> None:
    mirror = History(database, NopPruner())

    def fail() -> None:
        with database.allocation_lock():
            database.add(mirror.trial(proposal(mirror.study)))
            database.study.enqueue_trial({"stages": 4})
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


def test_who_is_alive() -> None:
    host = socket.gethostname()
    with worker_name() as first, worker_name() as second:
        assert first != second
        assert is_alive(first)
        place = first.partition("@")[2]
    assert is_alive(f"{host}:1:1-0@elsewhere")  # a container of the same name, say
    assert not is_alive(f"{host}:{os.getppid()}:1-0@{place}")
    assert not is_alive(first)  # this process is, that search is not
    assert is_alive("elsewhere:1:1-0")  # nobody here can know
    assert not is_alive(None)
    assert not is_alive(f"{host}:{os.getpid()}")
    parent = os.getppid()
    assert is_alive(f"{host}:{parent}")
    assert not is_alive(f"{host}:{parent}:1-0")  # its number was another process's before
    assert is_alive(f"{host}:{parent}:-0")  # of a system that did not tell when it was started
    assert not is_alive(f"{host}:-5:1-0")  # no process has such a number


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="names with Linux's ticks")
def test_names_hold_what_linux_calls_the_start_time() -> None:
    host, parent = socket.gethostname(), os.getppid()
    text = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace")
    ticks = int(text.rpartition(")")[2].split()[19])  # field 22 of proc(5)
    assert is_alive(f"{host}:{parent}:{ticks}-0")
    assert not is_alive(f"{host}:{parent}:{ticks - 1}-0")


def test_a_killed_process_is_gone_before_its_parent_asks() -> None:
    code = (
        "from nas.runtime.liveness import *\nwith worker_name() as n: print(n, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert is_alive(name)
        process.kill()
        wait_until(lambda: not is_alive(name))


def test_unseen_designs_are_found_to_the_last(tiny_space: Path) -> None:
    space = load_space(tiny_space, DIGITS)
    every = {space.architecture(*design).key for design in space.designs(LIMITS)}
    proposals = Candidates(space, LIMITS)
    seen: set[str] = set()
    while proposals.any_unseen(seen):
        key = proposals.candidate(proposals.draw_unseen(seen, random.Random(len(seen)))).key
        assert key in every - seen
        seen.add(key)
    assert seen == every


def test_the_counts_of_a_study() -> None:
    study = optuna.create_study(direction="maximize")
    said: list[tuple[TrialState, dict[str, object]]] = [
        (TrialState.FAIL, {"key": "a", "outcome": "failed", "reason": "interrupted"}),
        (TrialState.COMPLETE, {"key": "a", "outcome": "trained"}),
        (TrialState.PRUNED, {"key": "b", "outcome": "stopped_early"}),
        (TrialState.FAIL, {"key": "c", "outcome": "failed", "reason": "broken"}),
        (TrialState.PRUNED, {"key": "d", "outcome": "over_budget"}),
        (TrialState.PRUNED, {"key": "a", "outcome": "duplicate"}),
        (TrialState.RUNNING, {"key": "e"}),
        (TrialState.WAITING, {}),
    ]
    for state, attributes in said:
        value = 0.5 if state is TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
    counts = Summary(Counts).of(study.trials)
    assert (counts.trained, counts.running, counts.proposed) == (2, 1, 6)
    assert counts.waiting
    assert counts.seen == {"a", "b", "c", "e"}
    assert counts.rejected == 2
    assert counts.failures == ["trial 3: failed: broken"]


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


class Numbers:
    """The numbers of the trials it was given, and whether they had ended."""

    reads = 0

    def __init__(self) -> None:
        self.numbers: list[tuple[int, bool]] = []

    def add(self, trial: FrozenTrial) -> None:
        Numbers.reads += 1
        self.numbers.append((trial.number, trial.state.is_finished()))

    def copy(self) -> "Numbers":
        own = Numbers()
        own.numbers = self.numbers.copy()
        return own


def test_a_summary_reads_trials_that_have_ended_once() -> None:
    study, summary = optuna.create_study(), Summary(Numbers)

    def numbers(but: int | None = None) -> list[tuple[int, bool]]:
        return summary.of(study.get_trials(deepcopy=False), but).numbers

    assert numbers() == []
    trials = [study.ask() for _ in range(4)]
    study.tell(trials[0], 1.0)
    study.tell(trials[2], 1.0)
    assert numbers() == [(0, True), (1, False), (2, True), (3, False)]
    assert numbers(but=3) == [(0, True), (1, False), (2, True)]
    study.tell(trials[1], state=TrialState.FAIL)
    assert numbers() == [(0, True), (1, True), (2, True), (3, False)]
    Numbers.reads = 0
    assert numbers() == [(0, True), (1, True), (2, True), (3, False)]
    assert Numbers.reads == 1
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    assert numbers() == [(0, True)]
