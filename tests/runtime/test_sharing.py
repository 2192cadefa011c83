"""Workers that share a GPU: who holds its lock, and a training that is tried again alone."""

import fcntl
import multiprocessing
import os
import signal
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console

from nas.architecture import Architecture
from nas.commands.final_progress import FinalProgress
from nas.counting import count
from nas.data.loading import load_dataset
from nas.errors import RequestError
from nas.final.events import Opened
from nas.final.final import FinalFailed, run_final
from nas.final.request import TRAIN, FinalRequest
from nas.final.runs import Run, RunStarted
from nas.model import ResNet
from nas.runtime.devices import is_out_of_memory
from nas.runtime.sharing import GpuLock, lock_of, run_shared
from nas.search.candidates import Candidate
from nas.search.events import EpochEnded, Event, TrialEnded, TrialStarted
from nas.search.run import run_search
from nas.search.trainer import CandidateTraining
from nas.study.reader import trial_record
from nas.study.records import Outcome, StudyRecord
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.loop import Ending, EpochResult
from tests.kits.records import study
from tests.kits.studies import RequestOf
from tests.kits.waiting import PATIENCE, wait_until

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def lock_folder(own_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files lie in the test's own directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(own_directory))


class Process:
    """A process that asks for the lock at once and, once it has it, gives it up when it is told."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.channel, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_in_directory, args=(tempfile.gettempdir(), target, theirs, *arguments)
        )
        self.process.start()
        theirs.close()

    @property
    def has_it(self) -> bool:
        """Whether it has said so."""
        return self.channel.poll()

    def wait_for_it(self) -> None:
        """Returns once it has the lock."""
        assert self.channel.poll(PATIENCE)
        assert self.channel.recv() == "in"

    def leave(self) -> tuple[float, float]:
        """Lets it give up the lock and end; when it got it and when it gave it up."""
        self.channel.send("leave")
        assert self.channel.poll(PATIENCE)
        entered, left = self.channel.recv()
        self.process.join(PATIENCE)
        return entered, left


def _in_directory(directory: str, target: Callable[..., None], *arguments: object) -> None:
    tempfile.tempdir = directory
    target(*arguments)


def hold(channel: Connection, kind: str) -> None:
    lock = GpuLock("a")
    try:
        with lock.alone() if kind == "alone" else lock.beside_others():
            entered = time.monotonic()
            channel.send("in")
            channel.recv()
            left = time.monotonic()
    except KeyboardInterrupt:
        channel.send("interrupted")
        return
    channel.send((entered, left))


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, of which none is left afterwards."""
    started: list[Process] = []

    def start(kind: str) -> Process:
        started.append(Process(hold, kind))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()
        one.channel.close()


def wait_until_asked_for_alone(tmp_path: Path) -> None:
    """Returns once a process waits until others have left, so that nobody new may come in."""
    (asking,) = tmp_path.glob("*.next.lock")

    def is_held() -> bool:
        with asking.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    wait_until(is_held)


def test_trainings_beside_others_run_at_once(start: Callable[..., Process]) -> None:
    one, two = start("beside others"), start("beside others")
    one.wait_for_it()
    two.wait_for_it()
    (_, left), (entered, _) = one.leave(), two.leave()
    assert entered < left


def test_who_asks_to_be_alone_waits_for_those_that_train_and_is_next(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    first = start("beside others")
    first.wait_for_it()
    alone = start("alone")
    wait_until_asked_for_alone(tmp_path)
    later = start("beside others")
    (_, first_left) = first.leave()
    alone.wait_for_it()
    assert not later.has_it
    (alone_entered, alone_left) = alone.leave()
    later.wait_for_it()
    (later_entered, _) = later.leave()
    assert first_left <= alone_entered
    assert alone_left <= later_entered


@pytest.mark.parametrize("kind", ["beside others", "alone"])
def test_a_killed_process_holds_nobody_up(start: Callable[..., Process], kind: str) -> None:
    killed = start(kind)
    killed.wait_for_it()
    os.kill(killed.process.pid or 0, signal.SIGKILL)
    alone = start("alone")
    alone.wait_for_it()
    alone.leave()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_while_it_waits_holds_nobody_up(
    start: Callable[..., Process], tmp_path: Path, number: signal.Signals
) -> None:
    first = start("beside others")
    first.wait_for_it()
    waiting = start("alone")
    wait_until_asked_for_alone(tmp_path)
    os.kill(waiting.process.pid or 0, number)
    if number == signal.SIGINT:
        assert waiting.channel.poll(PATIENCE)
        assert waiting.channel.recv() == "interrupted"
    second = start("beside others")
    second.wait_for_it()
    first.leave()
    second.leave()


def run_out_of_memory_together(channel: Connection) -> None:
    attempts: list[tuple[float, float]] = []

    def work() -> None:
        if not attempts:
            channel.send("in")
            channel.recv()
            attempts.append((0.0, 0.0))
            raise MemoryError
        entered = time.monotonic()
        channel.send("in")
        channel.recv()
        attempts.append((entered, time.monotonic()))

    run_shared(work, CPU, GpuLock("a"))
    channel.send(attempts[-1])


def test_two_that_run_out_of_memory_at_once_are_alone_one_after_the_other() -> None:
    both = [Process(run_out_of_memory_together) for _ in range(2)]
    for one in both:
        one.wait_for_it()
    for one in both:
        one.channel.send("fail")
    (channel,) = wait([one.channel for one in both], PATIENCE)
    first, second = sorted(both, key=lambda one: one.channel is not channel)
    first.wait_for_it()
    (_, first_left) = first.leave()
    second.wait_for_it()
    (second_entered, _) = second.leave()
    assert first_left <= second_entered


class Tries:
    """Work that fails as it is told, attempt by attempt."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.tensors: list[weakref.ref[torch.Tensor]] = []
        self.left: list[int] = []  # tensors of earlier attempts at the start of each one

    def __call__(self) -> str:
        self.left.append(sum(tensor() is not None for tensor in self.tensors))
        tensor = torch.zeros(3)
        self.tensors.append(weakref.ref(tensor))
        error = self.errors.pop(0)
        if error is not None:
            try:
                raise error
            finally:
                error = None
        return "done"


def test_only_a_lack_of_memory_beside_others_is_tried_again() -> None:
    lock = GpuLock("a")
    tries = Tries(MemoryError(), None)
    assert run_shared(tries, CPU, lock) == "done"
    assert tries.left == [0, 0]  # the memory of the first attempt is free at the second
    assert run_shared(Tries(None), CPU, lock) == "done"
    tries = Tries(MemoryError(), MemoryError(), None)
    with pytest.raises(MemoryError) as failed:
        run_shared(tries, CPU, lock)
    assert [tensor() for tensor in tries.tensors] == [None, None]  # though the error is still here
    assert failed.value is not None
    with pytest.raises(ValueError, match="shapes"):
        run_shared(Tries(ValueError("shapes"), None), CPU, lock)
    with pytest.raises(ValueError, match="shapes") as caught:
        run_shared(Tries(MemoryError(), ValueError("shapes"), None), CPU, lock)
    assert not is_out_of_memory(caught.value)  # which the first attempt was
    with pytest.raises(MemoryError):
        run_shared(Tries(MemoryError(), None), CPU, None)


def test_only_a_gpu_with_several_workers_has_a_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = torch.device("cuda", 0)
    properties = SimpleNamespace(uuid="5f1c6c3e-0000-1111-2222-333344445555")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert lock_of(CPU, 2) is None
    assert lock_of(gpu, 1) is None
    assert list(tmp_path.iterdir()) == []
    assert lock_of(gpu, 2) is not None
    files = sorted(tmp_path.iterdir())
    name = f"nas-{os.getuid()}-{properties.uuid}"
    assert [file.name for file in files] == [f"{name}.lock", f"{name}.next.lock"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / f"nas-{os.getuid()}-a.lock").symlink_to(target)
    with pytest.raises(RequestError, match=r"--per-gpu: expected to lock .*a\.lock, got: "):
        GpuLock("a")
    assert not target.exists()


@contextmanager
def full(patch: pytest.MonkeyPatch, times: int, after: Callable[[], bool]) -> Iterator[None]:
    """A block in which training runs out of memory so many times, once `after` says so."""
    forward = ResNet.forward
    left = [times]

    def failing(model: ResNet, *images: Any) -> torch.Tensor:
        if left[0] and after():
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(model, *images)

    with patch.context() as now:
        now.setattr(ResNet, "forward", failing)
        yield


DESIGN = Architecture(blocks=(1,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=4)


def test_a_trainer_goes_on_from_the_checkpoint_when_it_is_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = load_dataset("digits", tmp_path, subset=0.2)
    recipe = TrainingConfig(epochs=3, batch_size=64, lr=0.1)
    train = CandidateTraining(
        dataset=dataset, config=recipe, seed=0, device=CPU, lock=GpuLock("a")
    ).train
    candidate = Candidate(DESIGN, {}, count(DESIGN, dataset.input), DESIGN.key)
    started: list[int] = []
    epochs: list[EpochResult] = []

    def on_epoch(result: EpochResult) -> bool:
        epochs.append(result)
        return False

    checkpoint = Checkpoint(tmp_path / "run.pt", {}, least=0.0)
    with full(monkeypatch, 1, after=lambda: len(epochs) == 1):
        result = train(candidate, lambda done: started.append(len(done)), on_epoch, checkpoint)
    assert result.ending is Ending.FINISHED
    assert started == [0, 1]
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    undisturbed = train(candidate, lambda done: None, lambda result: False, None)
    assert [e.val_accuracy for e in result.epochs] == [e.val_accuracy for e in undisturbed.epochs]


def curves(study: StudyRecord) -> list[tuple[tuple[int, float], ...]]:
    return [trial.curve for trial in study.trials]


class Watching:
    def __init__(self) -> None:
        self.begun = False
        self.epochs: list[int] = []
        self.outcomes: list[Outcome | None] = []

    def __call__(self, event: Event) -> None:
        match event:
            case TrialStarted():
                self.begun = True
            case EpochEnded(result=result):
                self.epochs.append(result.epoch)
            case TrialEnded(trial):
                self.outcomes.append(trial.outcome)


def test_a_trial_that_runs_out_of_memory_beside_others_is_tried_again_alone(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nas.search.run.lock_of", lambda device, workers: GpuLock("a") if workers > 1 else None
    )
    request = request_of(trials=1, epochs=3, per_gpu=2)
    watching = Watching()
    with full(monkeypatch, 1, after=lambda: len(watching.epochs) == 2):
        result = run_search(request, watching)
    assert watching.epochs == [1, 2, 1, 2, 3]
    assert watching.outcomes == [Outcome.TRAINED]
    undisturbed = run_search(replace(request, study="undisturbed"))
    assert curves(result.study) == curves(undisturbed.study)
    twice = Watching()
    with full(monkeypatch, 2, after=lambda: twice.begun):
        result = run_search(replace(request, study="twice"), twice)
    assert twice.outcomes == [Outcome.OUT_OF_MEMORY, Outcome.TRAINED]
    assert "out of memory" in str(result.study.trials[0].reason)
    once = Watching()
    with full(monkeypatch, 1, after=lambda: once.begun):
        run_search(replace(request, study="by-itself", per_gpu=1), once)
    assert once.outcomes == [Outcome.OUT_OF_MEMORY, Outcome.TRAINED]


def test_epochs_of_an_attempt_that_came_farther_do_not_count() -> None:
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        intermediate_values={1: 0.5, 2: 0.6, 3: 0.7},
        user_attrs={"outcome": Outcome.STOPPED_EARLY.value, "epochs": 2},
    )
    record = trial_record(trial, 0)
    assert record.curve == ((1, 0.5), (2, 0.6))
    assert record.val_accuracy == 0.6


def test_a_final_run_that_runs_out_of_memory_beside_others_is_tried_again_alone(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.final.workers.lock_of", lambda device, workers: GpuLock("a"))
    request = request_of(trials=1)
    run_search(request)
    final = FinalRequest(
        study="digits-5M",
        studies_dir=request.studies_dir,
        recipe="fast",
        epochs=1,
        top=1,
        seeds=1,
        subset=0.2,
        per_gpu=2,
    )
    with (
        full(monkeypatch, 2, after=lambda: True),
        pytest.raises(FinalFailed, match="out of memory"),
    ):
        run_final(final)
    with full(monkeypatch, 1, after=lambda: True):
        record = run_final(final).record
    assert record.chosen.failed is None


def test_a_run_that_begins_again_keeps_one_bar() -> None:
    def bars(starts: int) -> int:
        screen = StringIO()
        progress = FinalProgress(Console(file=screen, force_terminal=True, width=100))
        run = Run("trial 1", DESIGN, 1, TRAIN)
        progress(Opened(study(), [run], 3, "cpu", "float32", [run]))
        for _ in range(starts):
            progress(RunStarted(run, 0))
        progress.console.print("all are begun", progress.panel())
        return screen.getvalue().rpartition("all are begun")[2].count("trial 1, seed 1")

    assert bars(starts=2) == bars(starts=1)
