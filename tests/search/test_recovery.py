"""Workers that are killed or stopped: what becomes of their trials."""

import contextlib
import dataclasses
import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

import nas.study.store as store_module
from nas.architecture import Architecture
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.model import build
from nas.search.doctor import look_at_study
from nas.search.events import (
    CheckpointFailed,
    EndedElsewhere,
    EpochEnded,
    Event,
    TrialContinued,
    TrialEnded,
    TrialStarted,
    Waiting,
)
from nas.search.request import SearchRequest
from nas.search.run import SearchFailed, run_search
from nas.search.stale import fail_stale
from nas.search.trainer import checkpoint_name
from nas.study.heartbeat import LAST_HEARD, Heartbeat
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import DIED, INTERRUPTED, NOBODY, Outcome, StudyRecord
from nas.study.store import Store, TrialLost, open_store
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.loop import Ending, EpochResult, Run, TrainingResult, finish
from tests.kits import warm
from tests.kits.disks import small_disk
from tests.kits.events import each, on
from tests.kits.studies import RequestOf, running_trial, start_processes, trials_in
from tests.kits.waiting import PATIENCE, wait_until

CPU = torch.device("cpu")
DESIGN = Architecture(blocks=(1,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=4)
RECIPE = TrainingConfig(epochs=12, batch_size=64, lr=0.1, ema=0.9)


class Listening:
    """Keeps what happens to single trials, in words."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case TrialStarted(number):
                self.events.append(f"{number} begins")
            case TrialContinued(number, epochs):
                self.events.append(f"{number} goes on after {epochs}")
            case EndedElsewhere(trial):
                self.events.append(f"{trial.number} ended elsewhere")
            case TrialEnded(trial):
                self.events.append(f"{trial.number} {trial.outcome}")
            case Waiting(running):
                self.events.append(f"waits for {running}")


def kill_in_a_trial(request: SearchRequest, failed: int = 0) -> None:
    """Kills a search while it trains, once the study holds so many failed trials."""
    process = start_processes(1, request, pause=PATIENCE)
    location = request.location_for("digits")
    now = (failed, 1)
    wait_until(
        lambda: (trials_in(location, "FAIL"), trials_in(location, "RUNNING")) == now, process
    )
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return load_dataset("digits", Path("nowhere"), split_seed=0, subset=0.2)


def trained(
    dataset: ImageDataset, checkpoint: Checkpoint | None = None, stop_after: int = 99
) -> tuple[dict[str, torch.Tensor], TrainingResult]:
    """The weights after a run, and what it says; interrupted after an epoch."""
    generator = torch.Generator().manual_seed(0)
    model = build(DESIGN, dataset.input, generator=generator)

    def on_epoch(result: EpochResult) -> bool:
        if result.epoch == stop_after:
            raise KeyboardInterrupt
        return False

    run = Run(model, dataset, RECIPE, seed=0, device=CPU)
    result = finish(run, on_epoch=on_epoch, checkpoint=checkpoint)
    return model.state_dict(), result


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


_TRAINING = """
import sys
from pathlib import Path
import torch
from nas.data.loading import load_dataset
from nas.training.checkpoint import Checkpoint
from tests.search.test_recovery import trained

torch.set_num_threads(1)
dataset = load_dataset("digits", Path("nowhere"), split_seed=0, subset=0.2)
print("begins", flush=True)
while True:
    trained(dataset, Checkpoint(Path(sys.argv[1]), {"run": 1}, least=0))
"""


def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(
    tmp_path: Path, digits: ImageDataset
) -> None:
    path = tmp_path / "study" / "checkpoints" / "run.pt"
    with warm.Popen[bytes](
        [sys.executable, "-c", _TRAINING, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        wait_until(path.exists)
        time.sleep(random.random() / 4)  # any moment
        process.kill()
    weights, result = trained(digits, Checkpoint(path, {"run": 1}))
    expected, uninterrupted = trained(digits)
    assert_equal_weights(weights, expected)
    curves = [[(e.train_loss, e.val_loss) for e in r.epochs] for r in (result, uninterrupted)]
    assert curves[0] == curves[1]
    assert result.ending is Ending.FINISHED
    Checkpoint(path, {}).remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("damage", ["other run", "cut", "other model", "other torch", "no file"])
def test_a_checkpoint_that_does_not_fit_is_as_good_as_none(
    tmp_path: Path, digits: ImageDataset, damage: str
) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(digits, Checkpoint(path, {"run": 1}), stop_after=3)
    identity = {"run": 2 if damage == "other run" else 1}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    content = torch.load(path, weights_only=True) if damage.startswith("other") else {}
    if damage == "other model":
        del content["run"]["optimizer"]["state"]
        torch.save(content, path)
    if damage == "other torch":
        content["identity"]["torch"] = "1.0"
        torch.save(content, path)
    if damage == "no file":
        path.unlink()
    weights, result = trained(digits, Checkpoint(path, identity))
    assert_equal_weights(weights, trained(digits)[0])
    assert len(result.epochs) == RECIPE.epochs


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, digits: ImageDataset
) -> None:
    (tmp_path / "file").write_text("")
    checkpoint = Checkpoint(tmp_path / "file" / "run.pt", {}, least=0)
    assert trained(digits, checkpoint)[1].ending is Ending.FINISHED
    assert isinstance(checkpoint.error, OSError)


def test_a_search_says_once_that_checkpoints_cannot_be_written(request_of: RequestOf) -> None:
    events: list[str] = []

    def listen(event: Event) -> None:
        match event:
            case CheckpointFailed(reason):
                events.append(reason)
            case EpochEnded(number):
                time.sleep(0.5)  # so that checkpoints are worth it
                if number:
                    raise KeyboardInterrupt

    request = request_of(trials=2, epochs=4)
    folder = request.checkpoints_for(request.location_for("digits"))
    folder.parent.mkdir(parents=True)
    folder.write_text("a file, where the folder belongs")
    with pytest.raises(KeyboardInterrupt):
        run_search(request, listen)
    assert len(events) == 1  # of two that could not
    assert "checkpoints" in events[0]
    study = run_search(request).study
    assert (study.trained, study.interrupted, len(events)) == (2, 1, 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(StudyLocation.at("parts", studies_dir=tmp_path)) as store:
        yield store


def test_a_trial_that_was_failed_by_another_can_no_longer_be_written(store: Store) -> None:
    trial_id = running_trial(store, "first")
    store.report(trial_id, {1: 0.1})
    (running,), (ended,) = store.study.trials, store.study.trials
    ended.state, ended.values = TrialState.COMPLETE, [0.5]
    ended.user_attrs["outcome"] = "trained"
    assert store.fail(running, "gone")
    assert not store.fail(running, "gone again")
    with pytest.raises(TrialLost):
        store.report(trial_id, {1: 0.3, 2: 0.2})
    with pytest.raises(TrialLost):
        store.end(trial_id, ended)
    (trial,) = store.study.trials
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {1: 0.1})
    why = {"worker": "first", "outcome": "failed", "reason": "gone"}
    assert trial.user_attrs == {**why, LAST_HEARD: trial.user_attrs[LAST_HEARD]}


def test_a_trial_that_was_ended_by_its_worker_is_not_failed(store: Store) -> None:
    trial_id = running_trial(store, "first")
    (running,), (ended,) = store.study.trials, store.study.trials
    ended.state, ended.values = TrialState.COMPLETE, [0.5]
    store.end(trial_id, ended)
    assert not store.fail(running, "gone")
    assert store.study.trials[0].value == 0.5


def test_a_process_stopped_with_the_lock_holds_nobody_up_and_decides_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_STUCK", 0.3)
    location = StudyLocation.at("parts", studies_dir=tmp_path)

    def stopped_for_long() -> None:
        with store.allocation_lock():
            assert len(store.study.trials) == 1  # what it decides by
            with open_store(location) as other, other.allocation_lock():
                other.study.enqueue_trial({"by": "another"})
            store.study.enqueue_trial({"by": "this"})

    with store.allocation_lock():
        store.study.enqueue_trial({"by": "this, before"})
    with pytest.raises(sqlite3.OperationalError, match="locked, by a process that was stopped"):
        stopped_for_long()
    store.renew()  # as a search does then, since what was read may have been undone
    fixed = [trial.system_attrs["fixed_params"]["by"] for trial in store.study.trials]
    assert fixed == ["this, before", "another"]
    with store.allocation_lock():
        store.study.enqueue_trial({"by": "this, after"})
    assert len(store.study.trials) == 3


def test_a_heartbeat_is_of_its_own_trial_only(store: Store) -> None:
    own, other = running_trial(store, "first"), running_trial(store, "another")
    with Heartbeat(lambda: store.engine, grace=0.5) as heartbeat:
        heartbeat.trial_id = own
        assert wait_until(lambda: store.silent(2)) == {other}


def test_a_worker_that_could_not_be_heard_judges_nobody(store: Store, tmp_path: Path) -> None:
    with Heartbeat(lambda: store.engine, grace=0.6) as heartbeat:
        wait_until(lambda: heartbeat.may_judge)
        with contextlib.closing(sqlite3.connect(tmp_path / "parts.db", timeout=PATIENCE)) as other:
            other.execute("BEGIN EXCLUSIVE")
            wait_until(lambda: not heartbeat.may_judge)
        wait_until(lambda: heartbeat.may_judge)


def counted(study: StudyRecord) -> list[tuple[Architecture | None, object]]:
    """The designs that were trained, with their curves, in order."""
    return [(t.architecture, t.curve) for t in study.trials if t.counts]


def test_a_design_whose_worker_died_is_trained_again_and_changes_no_proposal(
    request_of: RequestOf,
) -> None:
    kill_in_a_trial(request_of(trials=4))
    listening = Listening()
    study = run_search(request_of(trials=4), listening).study
    assert listening.events[:3] == ["0 ended elsewhere", "1 begins", "1 trained"]
    assert study.trials[0].architecture == study.trials[1].architecture
    assert (study.trials[0].reason, study.trained, study.interrupted) == (DIED, 4, 1)
    assert counted(study) == counted(run_search(request_of(trials=4, study="whole")).study)


def test_a_design_whose_workers_die_is_given_up_the_third_time(request_of: RequestOf) -> None:
    for deaths in range(3):
        kill_in_a_trial(request_of(trials=1), failed=deaths)
    location = request_of().location_for("digits")
    checkpoints = request_of().checkpoints_for(location)
    with open_store(location) as store, store.allocation_lock():
        (trial,) = store.study.get_trials(states=(TrialState.RUNNING,))
        assert fail_stale(store, trial) == f"{DIED} 3 times"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / f"{checkpoint_name(trial.user_attrs['key'])}.pt").touch()
    *_, found = look_at_study(location, checkpoints, grace=60, repair=False)
    assert "1 not needed" in found.verdict
    study = run_search(request_of(trials=1)).study
    *died, other = study.trials
    assert [t.reason for t in died] == [DIED, DIED, f"{DIED} 3 times"]
    assert {t.outcome for t in died} == {Outcome.FAILED}
    (design,) = {t.architecture for t in died}
    assert other.outcome is Outcome.TRAINED
    assert other.architecture != design
    assert study.interrupted == 2


def test_a_trial_that_is_not_needed_any_more_does_not_stay_running(request_of: RequestOf) -> None:
    location = run_search(request_of(trials=2)).location
    kill_in_a_trial(request_of(trials=3))
    run_search(request_of(trials=2))
    study = read_study(location)
    assert [t.reason for t in study.trials] == [None, None, DIED, None]
    assert trials_in(location, "WAITING") == 1
    again = run_search(request_of(trials=3)).study
    assert again.trials[3].architecture == again.trials[2].architecture


def test_only_a_silent_worker_of_another_machine_is_given_up(request_of: RequestOf) -> None:
    request = request_of(trials=1, grace=5)
    location = run_search(request).location
    with open_store(location) as store:
        trial_id = running_trial(store, "elsewhere:1:1-0")
        with Heartbeat(lambda: store.engine, grace=1) as heartbeat:
            heartbeat.trial_id = trial_id
            listening = Listening()
            falls_silent = on(Waiting, lambda event: setattr(heartbeat, "trial_id", None))
            more = dataclasses.replace(request, trials=2)
            study = run_search(more, each(listening, falls_silent)).study
    assert listening.events == ["waits for 1", "1 ended elsewhere", "2 begins", "2 trained"]
    assert study.trials[1].worker == "elsewhere:1:1-0"
    assert study.trials[1].reason == NOBODY


def test_a_design_of_a_killed_process_is_trained_by_one_that_waits_for_it(
    request_of: RequestOf,
) -> None:
    request = request_of(trials=1, epochs=30)
    long = start_processes(1, request, pause=0.5)  # a checkpoint is worth a second of training
    location = request.location_for("digits")
    folder = request.checkpoints_for(location)
    wait_until(lambda: folder.is_dir() and any(folder.glob("*.pt")), long)

    listening = Listening()
    # Its parent does not ask how it ended before the search is over.
    then = on(Waiting, lambda event: long.kill())
    died, trial = run_search(request, each(listening, then)).study.trials
    long.communicate()
    waits, gone, begins, goes_on, ends = listening.events
    assert (waits, gone) == ("waits for 1", "0 ended elsewhere")
    assert (begins, ends) == ("1 begins", "1 trained")
    assert int(goes_on.removeprefix("1 goes on after ")) > 0
    assert died.curve == trial.curve[: len(died.curve)]
    assert trial.outcome is Outcome.TRAINED
    assert [epoch for epoch, _ in trial.curve] == list(range(1, 31))
    assert not folder.parent.exists()


def test_an_interrupted_design_goes_on_from_its_last_epoch(request_of: RequestOf) -> None:
    def interrupt(event: EpochEnded) -> None:
        if event.result.epoch == 3:
            raise KeyboardInterrupt

    request = request_of(trials=1, epochs=5)
    with pytest.raises(KeyboardInterrupt):
        run_search(request, on(EpochEnded, interrupt))
    listening = Listening()
    result = run_search(request, listening)
    assert listening.events == ["1 begins", "1 goes on after 3", "1 trained"]
    interrupted, trial = result.study.trials
    assert interrupted.reason == INTERRUPTED
    assert trial.curve[:3] == interrupted.curve
    (whole,) = run_search(request_of(trials=1, epochs=5, study="whole")).study.trials
    assert trial.curve == whole.curve


def test_a_worker_stopped_for_too_long_goes_on_with_another_trial(request_of: RequestOf) -> None:
    request = request_of(trials=2, epochs=8, max_parameters=4_000, grace=5)
    stopped = start_processes(1, request, pause=0.5)
    location = request.location_for("digits")
    wait_until(lambda: trials_in(location, "RUNNING") == 1, stopped)
    stopped.send_signal(signal.SIGSTOP)

    listening = Listening()
    revive = on(TrialEnded, lambda event: stopped.send_signal(signal.SIGCONT))
    run_search(dataclasses.replace(request, trials=1), each(listening, revive))
    output, errors = stopped.communicate(timeout=PATIENCE)
    assert listening.events == ["waits for 1", "0 ended elsewhere", "1 begins", "1 trained"]
    assert stopped.returncode == 0, errors
    study = read_study(location)
    assert json.loads(output) == ["done", 1]  # the trial it lost is not counted again
    lost, again, other = study.trials
    assert (lost.reason, lost.architecture) == (DIED, again.architecture)
    assert lost.worker == other.worker != again.worker
    assert study.trained == 2
    assert not request.checkpoints_for(location).exists()  # it wrote none of the trial it lost


def test_files_that_cannot_grow_are_one_line_and_the_study_goes_on_once_they_can(
    request_of: RequestOf,
) -> None:
    request = request_of(trials=8, epochs=2)
    location = run_search(dataclasses.replace(request, trials=1)).location
    assert location.path is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    filled = location.path.stat().st_size

    def fill(event: TrialStarted) -> None:
        if event.number == 1:  # this process can write no file beyond that size, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (filled, limits[1]))

    try:
        with pytest.raises(SearchFailed, match=r"disk.*the same command continues") as failure:
            run_search(request, on(TrialStarted, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(failure.value)
    assert 1 <= read_study(location).trained < 8
    study = run_search(request).study
    assert study.trained == 8
    assert (trials_in(location, "RUNNING"), trials_in(location, "WAITING")) == (0, 0)


def test_a_full_disk_is_one_line_and_the_study_goes_on_once_there_is_room(
    request_of: RequestOf, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"

    def fill(event: TrialStarted) -> None:
        if event.number == 1:
            with contextlib.suppress(OSError), (disk / "other").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()

    request = request_of(trials=5, studies_dir=disk, epochs=30)
    with small_disk(disk, "4m"):
        with pytest.raises(SearchFailed, match=r"full.*the same command continues") as failure:
            run_search(request, on(TrialStarted, fill))
        assert "\n" not in str(failure.value)
        (disk / "other").unlink()
        assert read_study(request.location_for("digits")).trained >= 1
        listening = Listening()
        assert run_search(request, listening).study.trained == 5
        assert trials_in(request.location_for("digits"), "RUNNING") == 0
