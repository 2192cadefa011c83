"""`nas doctor` as a person meets it."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from optuna.trial import TrialState

from nas.commands import main
from nas.runtime.disks import network_file_system
from nas.runtime.liveness import worker_name
from nas.search.doctor import look_at_study
from nas.search.run import SearchResult, run_search
from nas.search.trainer import checkpoint_name
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.study.store import open_store
from tests.kits.disks import small_disk
from tests.kits.studies import RequestOf, start_processes, trials_in
from tests.kits.waiting import PATIENCE, wait_until

FOUND = ["versions", "packages", "extras", "device", "load", "data", "storage"]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """The exit status, and by name a finding's mark and verdict."""
    capsys.readouterr()
    status = main(["doctor", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line.split(maxsplit=2) for line in captured.out.splitlines()]
    return status, {name: f"{mark} {verdict}" for mark, name, verdict in lines}


def test_a_place_where_all_is_well(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, found = doctor(capsys, "--dataset", "digits")
    assert (status, list(found)) == (0, FOUND)
    assert "torch" in found["versions"]
    assert "studies can be written" in found["storage"]
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", "--dataset", "digits", "--json"]) == 0
    assert all(finding["good"] for finding in json.loads(capsys.readouterr().out))
    assert "ok cifar10 is not in data; a search downloads it" in doctor(capsys)[1]["data"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")
def test_a_gpu_that_torch_cannot_use_is_a_fault_unless_it_was_hidden(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\n")
    driver.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    status, found = doctor(capsys, "--dataset", "digits")
    assert status == 1
    assert "cannot use this machine's GPU" in found["device"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    status, found = doctor(capsys, "--dataset", "digits")
    assert (status, found["device"].split()[0]) == (0, "ok")
    assert "CUDA_VISIBLE_DEVICES" in found["device"]


def test_what_is_wrong_is_said_in_one_line_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    status, found = doctor(
        capsys, "--dataset", "folder", "--data-dir", "none", "--studies-dir", "file"
    )
    assert status == 1
    assert found["data"].startswith("BAD ")
    assert found["storage"].startswith("BAD --studies-dir: expected a directory")
    url = "postgresql+psycopg://someone:secret@127.0.0.1:9/none"
    status, found = doctor(capsys, "--dataset", "digits", "--storage", url)
    assert found["storage"].startswith("BAD postgresql+psycopg://someone:***@127.0.0.1:9/none")
    assert "secret" not in str(found)
    _, found = doctor(capsys, "--dataset", "digits", "--study", "missing")
    assert found["study"].startswith("BAD ")
    assert "expected a study, got no such file" in found["study"]
    assert main(["doctor", "--repair"]) == 2
    said = "error: --repair: expected the study to repair with --study, got none\n"
    assert capsys.readouterr().err == said


def test_trials_without_a_worker_are_found_and_ended(
    capsys: pytest.CaptureFixture[str], request_of: RequestOf
) -> None:
    request = request_of(trials=2)
    location = request.location_for("digits")
    killed = [start_processes(1, request, pause=PATIENCE) for _ in range(2)]
    wait_until(lambda: trials_in(location, "RUNNING") == 2, killed[0])
    for process in killed:
        process.kill()
        process.communicate()
    folder = request.checkpoints_for(location)
    folder.mkdir(parents=True)
    (folder / "0123.pt").write_bytes(b"left")
    arguments = ["--dataset", "digits", "--study", "digits-5M"]
    arguments += ["--studies-dir", str(request.studies_dir)]
    before = read_study(location)
    status, found = doctor(capsys, *arguments)
    assert status == 1
    assert found["study"] == f"ok {location.path} is intact"
    assert "0 in training; without a worker: 0, 1;" in found["trials"]
    assert found["checkpoints"].startswith("BAD 1 not needed")
    assert read_study(location) == before  # it only looks
    status, found = doctor(capsys, *arguments, "--repair")
    assert status == 0
    assert found["trials"].endswith("2 without a worker ended and queued again")
    assert list(folder.iterdir()) == []
    assert doctor(capsys, *arguments)[0] == 0
    study = run_search(request).study
    assert study.trained == 2
    assert [t.architecture for t in study.trials[2:]] == [t.architecture for t in before.trials]


def test_the_checkpoint_of_a_trial_that_begins_meanwhile_is_kept(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    left = tmp_path / "left.pt"
    left.write_bytes(b"left")
    findings = look_at_study(one_trial.location, tmp_path, grace=60, repair=True)
    next(findings)  # the trials are read
    new = tmp_path / "new.pt"
    new.write_bytes(b"begun")
    *_, found = findings
    assert found.verdict == "1 unneeded removed, 0.0 MB"
    assert (left.exists(), new.exists()) == (False, True)


def test_the_checkpoint_of_a_design_that_is_trained_and_proposed_again_is_kept(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    path = tmp_path / f"{checkpoint_name('a design')}.pt"
    path.write_bytes(b"epoch 3")
    with open_store(one_trial.location) as store, worker_name() as worker:
        trained, again = (store.study.ask() for _ in range(2))
        trained.set_user_attr("worker", worker)
        for trial in (trained, again):
            trial.set_user_attr("key", "a design")
        again.set_user_attr("outcome", Outcome.DUPLICATE)
        store.study.tell(again, state=TrialState.PRUNED)
        *_, found = look_at_study(one_trial.location, tmp_path, grace=60, repair=True)
    assert found.verdict == "1, each of a trial that will resume from it"
    assert path.exists()


def test_a_study_that_is_being_made_is_one_line_and_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    location = StudyLocation.at("new", studies_dir=tmp_path)
    assert location.path is not None
    where = ["--study", "new", "--studies-dir", str(tmp_path)]

    def is_one_line() -> None:
        before = schema_of(location.path)
        for command in ("report", "train", "doctor"):
            capsys.readouterr()
            status = main([command, *where, *of_command[command]])
            captured = capsys.readouterr()
            said = captured.out.splitlines()[-1] if command == "doctor" else captured.err
            assert (status, said.count("\n") <= 1) == (1 if command == "doctor" else 2, True)
            assert f"{location.path}: expected a study, got a database where it does not" in said
        assert schema_of(location.path) == before

    of_command = {
        "report": ["--reports-dir", str(tmp_path / "reports")],
        "train": ["--out", str(tmp_path / "runs")],
        "doctor": ["--dataset", "digits"],
    }
    location.path.touch()
    is_one_line()
    with open_store(location):
        is_one_line()  # before the search has said what it searches
    for table in ("alembic_version", "trial_values", "version_info"):  # as they are made last
        with closing(sqlite3.connect(location.path)) as database, database:
            database.execute(f"DROP TABLE {table}")
        is_one_line()
    with open_store(location) as opened:  # a search makes what is missing
        assert opened.study.trials == []


def schema_of(path: Path | None) -> list[str]:
    """All that is in an SQLite file, as commands."""
    with closing(sqlite3.connect(path or "")) as database:
        return list(database.iterdump())


def test_a_disk_without_room(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        status, found = doctor(capsys, "--dataset", "digits", "--studies-dir", str(disk))
    assert status == 1
    assert found["storage"].endswith("GB free; free some space")


def test_the_innermost_file_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    mounted = [("/", "ext4"), (tmp_path, "ext4"), (inner, "ext4"), (inner, "nfs4")]  # in this order
    disks = [SimpleNamespace(mountpoint=str(place), fstype=kind) for place, kind in mounted]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: disks)
    assert network_file_system(inner / "studies") == "nfs4"
    assert network_file_system(tmp_path / "studies") is None

    def refused(all: bool) -> list[object]:
        raise OSError

    monkeypatch.setattr(psutil, "disk_partitions", refused)
    assert network_file_system(inner) is None


def test_a_network_file_system_is_known(tmp_path: Path) -> None:
    assert network_file_system(tmp_path) is None
    places = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind, *_ in places:
        if kind in ("nfs", "nfs4", "9p", "virtiofs"):
            assert network_file_system(Path(place)) in ("nfs", "nfs4", "9p", "virtiofs")


@pytest.mark.parametrize(("load", "busy"), [(0.3, False), (5.25, True)])
def test_the_load_of_the_machine_is_told_and_is_no_fault(
    load: float,
    busy: bool,
    capsys: pytest.CaptureFixture[str],
    own_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    status, found = doctor(capsys, "--dataset", "digits")
    assert status == 0
    assert found["load"].startswith(f"ok {load:.1f} processes on 2 cores")
    assert ("NOTE" in found["load"]) == busy
