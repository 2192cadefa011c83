"""How a machine is shared out, and what is known of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas.architecture import ImageInput
from nas.runtime.devices import open_device
from nas.runtime.machine import Share, free_bytes, usable_cores, workers_for
from nas.runtime.waiting import passive_waiting


@pytest.fixture
def threads_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
PLENTY = 10**12  # bytes


def share(
    workers: int | str = "auto",
    threads: int | None = None,
    *,
    device: torch.device = CPU,
    side: int = 32,
    useful: int = 10,
    cores: int = 2,
    images: int = 1_000,
    free: int = PLENTY,
) -> Share:
    input = ImageInput(channels=3, height=side, width=8, classes=10)
    return workers_for(
        workers,
        threads,
        device=device,
        input=input,
        images=images,
        useful=useful,
        cores=cores,
        free=free,
    )


def test_small_images_are_trained_by_a_process_of_one_thread_on_each_core() -> None:
    assert share() == Share(2, 1)
    assert share(cores=8) == Share(8, 1)
    assert share(side=64) == Share(2, 1)


def test_no_more_processes_than_help_or_than_memory_is_there_for() -> None:
    assert share(cores=64) == Share(10, 6)
    assert share(cores=8, useful=0) == share(cores=8, free=0) == Share(1, 8)
    assert share(cores=8, free=3_500_000_000) == Share(3, 2)
    assert share(cores=8, free=3_500_000_000, images=1_000_000) == Share(1, 8)


def test_large_images_and_a_gpu_have_one_process() -> None:
    assert share(side=65, cores=8) == share(device=GPU, cores=8) == Share(1, 8)


def test_what_is_asked_for_holds() -> None:
    assert share(4, device=GPU, cores=8, useful=0) == Share(4, 2)
    assert share(4, side=224, free=0) == Share(4, 1)
    assert share(threads=4, cores=8) == Share(2, 4)
    assert share(threads=4, cores=2) == Share(1, 4)
    assert share(3, 5) == Share(3, 5)


def test_this_machine_has_a_core_and_memory() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert free_bytes() > 0


def test_threads_that_were_set_for_a_training_leave_the_cores_what_they_are(
    monkeypatch: pytest.MonkeyPatch, threads_back: None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    before = usable_cores()
    for threads in (1, 64):
        open_device("cpu", threads)
        assert (torch.get_num_threads(), usable_cores()) == (threads, before)


def test_torch_takes_no_more_threads_than_there_are_cores_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads_back: None
) -> None:
    monkeypatch.setattr("nas.runtime.machine.CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("100000 100000")
    torch.set_num_threads(3)
    open_device("cpu")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", 4), ("", 4)]
)
def test_a_container_s_limits_count(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.runtime.machine.CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text(quota)
    (tmp_path / "memory.max").write_text("1234\n")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert usable_cores() == cores
    assert free_bytes() == 1234
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes() == 234
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 600\n")
    assert free_bytes() == 834  # what was read from files is given up when needed
    (tmp_path / "memory.current").write_text("2000\n")
    assert free_bytes() == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert usable_cores() == 1


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_wait_passively_unless_a_person_says_how(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(variable, raising=False)
    assert passive_waiting() == {"OMP_WAIT_POLICY": "PASSIVE"}
    monkeypatch.setenv(name, "1")
    assert passive_waiting() == {}
