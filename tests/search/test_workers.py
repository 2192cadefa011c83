"""`--workers`: several processes, followed as one search."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nas.architecture import ImageInput
from nas.commands import main
from nas.commands.progress import SearchProgress
from nas.errors import RequestError
from nas.runtime.machine import Share
from nas.runtime.pool import Report, Slot, slots_for
from nas.search.events import EndedElsewhere, Event, Opened, TrialEnded, Waiting
from nas.search.plan import SearchEnding
from nas.search.request import SearchRequest
from nas.search.run import run_search
from nas.search.workers import WorkerDone, WorkerNamed, Workers, WorkerTask, share_for
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import DIED, Outcome, TrialRecord
from tests.kits import warm
from tests.kits.places import ROOT, STUDIES
from tests.kits.studies import TINY_SPACE, RequestOf, trials_in
from tests.kits.waiting import PATIENCE, wait_until


def test_workers_train_exactly_what_was_asked_for_and_are_heard_as_one(
    request_of: RequestOf,
) -> None:
    heard: list[str] = []
    ended: Counter[int] = Counter()

    def listen(event: Event) -> None:
        match event:
            case Opened(device=device):
                heard.append(device.partition(", ")[2])
            case TrialEnded(trial):
                ended[trial.number] += 1
            case EndedElsewhere(trial):
                heard.append(f"{trial.number} elsewhere")

    result = run_search(request_of(trials=9, workers=2, epochs=2), listen)
    study = result.study
    assert (study.trained, result.newly_trained) == (9, 9)
    assert heard == ["2 workers of 1 thread"]
    assert ended == Counter(trial.number for trial in study.trials)
    trained = [t for t in study.trials if t.counts]
    assert len({t.architecture for t in trained}) == 9
    assert len({t.worker for t in trained}) in (1, 2)  # one may be done before the other begins
    assert {t.device for t in trained} == {"cpu (1 thread)"}
    assert [search["workers"] for search in study.searches] == [2]
    again = run_search(request_of(trials=9, workers=9, epochs=2))  # there is nothing to start for
    assert (again.ending, again.newly_trained) == (result.ending, 0)


# No design is trained to its end, nor stopped early, before both workers have begun.
LONG = ("--workers", "2", "--trials", "50", "--epochs", "400", "--pruner", "none")


def start(directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    (directory / "tiny.toml").write_text(TINY_SPACE)
    plain = ["--budget", "5M", "--dataset", "digits", "--subset", "0.2", "--space", "tiny.toml"]
    return warm.Popen[str](
        [sys.executable, "-m", "nas.search", *plain, *arguments],
        cwd=directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # a terminal's Ctrl-C reaches all processes of one
    )


def processes_of(location: StudyLocation) -> list[int]:
    """The process ids of the workers that train now."""
    with contextlib.suppress(ValueError):  # not made yet
        running = [t for t in read_study(location).trials if t.outcome is None]
        return [int((t.worker or "").split(":")[1]) for t in running if t.worker]
    return []


def ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_killed_workers_a_killed_parent_and_ctrl_c(tmp_path: Path) -> None:
    location = StudyLocation.at("digits-5M", studies_dir=tmp_path / "studies")
    search = start(tmp_path, *LONG)
    wait_until(lambda: trials_in(location, "RUNNING") == 2, search)
    killed, other = processes_of(location)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: ended(killed))
    assert search.stderr is not None
    assert any("was killed (SIGKILL)" in line for line in search.stderr)
    assert not ended(other)  # it goes on
    search.kill()
    search.communicate()
    wait_until(lambda: ended(other))
    assert trials_in(location, "WAITING") == 1
    assert read_study(location).outcomes == {Outcome.FAILED: 1}  # interrupted

    search = start(tmp_path, *LONG)
    wait_until(lambda: len({p for p in processes_of(location) if not ended(p)}) == 2, search)
    workers = processes_of(location)
    os.killpg(search.pid, signal.SIGINT)  # what a terminal does
    _, errors = search.communicate(timeout=PATIENCE)
    assert search.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("interrupted: 0 of 50 designs finished")
    assert errors.count("interrupted:") == 1
    assert all(map(ended, workers))
    assert (trials_in(location, "RUNNING"), trials_in(location, "WAITING")) == (0, 2)
    reasons = [t.reason for t in read_study(location).trials]
    assert reasons.count(DIED) == 1  # of the killed one


def slots_of(request: SearchRequest) -> list[Slot]:
    assert isinstance(request.workers, int)
    return slots_for(request.device, request.workers, request.per_gpu, threads=3)


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [False, True], ids=["the parent", "all processes"])
def test_sigterm_is_as_ctrl_c(tmp_path: Path, everyone: bool) -> None:
    location = StudyLocation.at("digits-5M", studies_dir=tmp_path / "studies")
    search = start(tmp_path, *LONG)
    wait_until(lambda: trials_in(location, "RUNNING") == 2, search)
    workers = processes_of(location)
    if everyone:  # as some schedulers do
        os.killpg(search.pid, signal.SIGTERM)
    else:
        search.terminate()
    output, errors = search.communicate(timeout=PATIENCE)
    assert search.returncode == 130, errors
    assert output == ""
    assert not any(word in errors for word in ("Traceback", "ignored", "worker ", "killed"))
    assert all(map(ended, workers))
    assert trials_in(location, "RUNNING") == 0
    assert errors.splitlines()[-1].startswith("interrupted: 0 of 50 designs finished")
    assert trials_in(location, "WAITING") == read_study(location).interrupted == 2


def test_each_worker_has_a_gpu_of_its_own(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus(**changes: object) -> list[str]:
        slots = slots_of(request_of(**changes))
        assert {slot.device for slot in slots} == {"cuda:0"}
        return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots]

    assert gpus(workers=2) == ["0", "1"]
    assert gpus(workers=4, per_gpu=2) == ["0", "1", "0", "1"]
    assert gpus(workers=2, per_gpu=2, device="cuda:1") == ["1", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc,7")
    assert gpus(workers=2) == ["GPU-abc", "7"]
    with pytest.raises(RequestError, match="expected at most 2, 1 for each of 2 GPUs, got 3"):
        slots_of(request_of(workers=3))


@pytest.mark.parametrize(
    "command", ["search --budget 5M --dataset digits", "final --study digits-example"]
)
def test_more_workers_than_there_is_memory_for_are_refused(
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shutil.copy(STUDIES / "digits-example.db", tmp_path)
    monkeypatch.setattr("nas.runtime.machine.CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("500000000")  # for one, if so much is free at all
    before = set(tmp_path.rglob("*"))
    folders = ["--studies-dir", str(tmp_path), "--reports-dir", str(tmp_path / "reports")]
    assert main([*command.split(), *folders, "--workers", "9"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: --workers: expected at most 1, since each takes 0.")
    assert said.endswith("GB are free, got 9")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("workers", "designs", "expected"),
    [("auto", 50, Share(4, 1)), ("auto", 9, Share(1, 4)), (3, 9, Share(3, 1)), (3, 0, Share(1, 4))],
)
def test_workers_need_enough_designs(
    workers: int | str,
    designs: int,
    expected: Share,
    request_of: RequestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas.search.workers.usable_cores", lambda: 4)
    input = ImageInput(channels=1, height=8, width=8, classes=10)
    request, cpu = request_of(workers=workers), torch.device("cpu")
    assert share_for(request, input, 1_000, cpu, designs) == expected


def test_the_threads_that_are_asked_for_are_had_and_recorded(request_of: RequestOf) -> None:
    threads = torch.get_num_threads()
    try:
        (trial,) = run_search(request_of(trials=1, threads=3, epochs=1)).study.trials
        assert trial.device == "cpu (3 threads)"
    finally:
        torch.set_num_threads(threads)


def test_each_worker_has_its_threads(request_of: RequestOf) -> None:
    for slot in slots_of(request_of(workers=2, device="cpu")):
        assert slot.environment["OMP_NUM_THREADS"] == "3"


def shown_of(work: Callable[[WorkerTask, Report], None], folder: Path) -> list[Event]:
    """What two workers show; the file `shown` says to them that something was."""
    shown: list[Event] = []

    def show(event: Event) -> None:
        shown.append(event)
        (folder / "shown").touch()

    request = SearchRequest(max_parameters=1_000, studies_dir=folder)
    workers = Workers(work, request, {}, 2, show, frozenset(), None)
    assert workers.run() is SearchEnding.DONE
    return shown


def wait_for_others(task: WorkerTask, report: Report) -> None:
    """A worker that waits, until the parent has shown that all do."""
    report(WorkerNamed(str(os.getpid())))
    report(Waiting(3))
    wait_until((task.request.studies_dir / "shown").exists)
    report(WorkerDone(SearchEnding.DONE))


def test_that_all_workers_wait_for_other_machines_is_shown_once(tmp_path: Path) -> None:
    assert shown_of(wait_for_others, tmp_path) == [Waiting(3)]


DEAD = TrialRecord(number=0, outcome=Outcome.FAILED, worker="first", reason=DIED)


def report_a_death(task: WorkerTask, report: Report) -> None:
    """The first of two workers does not end before the other's report of its death is shown."""
    try:
        (task.request.studies_dir / "first").mkdir()
        report(WorkerNamed("first"))
        (task.request.studies_dir / "named").touch()
    except FileExistsError:
        wait_until((task.request.studies_dir / "named").exists)
        report(EndedElsewhere(DEAD))
    wait_until((task.request.studies_dir / "shown").exists)
    report(WorkerDone(SearchEnding.DONE))


def test_the_end_of_a_dead_worker_s_trial_is_shown_before_the_worker_s_own(tmp_path: Path) -> None:
    assert shown_of(report_a_death, tmp_path) == [EndedElsewhere(DEAD)]


@pytest.mark.parametrize(
    ("own", "why"),
    [(False, "its worker is gone"), (True, "this process sent no heartbeat")],
)
def test_who_was_silent_is_not_called_gone(
    capsys: pytest.CaptureFixture[str], own: bool, why: str
) -> None:
    progress = SearchProgress(Console(stderr=True), SearchRequest(max_parameters=1_000))
    progress(EndedElsewhere(DEAD, own))
    assert f"trial 0: {why}, and its design is queued again" in capsys.readouterr().err
