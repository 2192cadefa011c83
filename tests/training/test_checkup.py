"""What `nas doctor --device` finds out, on the CPU and on the double of a GPU."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nas.architecture import Architecture
from nas.commands import main
from nas.runtime.verdicts import Verdict, read_verdict, write_verdict
from nas.search.device_check import check_device
from nas.search.environment import Finding
from nas.training.backend import Backend
from nas.training.checkup import Checkup, Compared
from nas.training.graphs import CudaGraphs, cuda_graphs
from tests.kits.cuda_double import CudaDouble
from tests.kits.training import CPU, TINY, norm_that

DESIGN = dataclasses.replace(TINY, pool=8)
GPU = torch.device("cuda", 0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CudaDouble:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NAS_NO_GRAPH", raising=False)
    return CudaDouble(monkeypatch)


def checkup_of(backend: Callable[[torch.device], Backend]) -> Checkup:
    return Checkup(CPU, batch_size=8, backend_of=backend)


def with_graphs(device: torch.device) -> Backend:
    return Backend(graphs=CudaGraphs(device), fixed_shapes=True)


def test_captured_steps_that_train_right_agree(cuda: CudaDouble) -> None:
    found = checkup_of(with_graphs).captured(DESIGN)
    assert found.reason is None
    assert found.agree
    assert found.difference < 1e-5
    assert min(found.plain_rate, found.rate) > 0


def test_captured_steps_that_do_not_follow_the_rate_are_found_out(
    cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nas.training.step as step

    def only_once(optimizer: torch.optim.Optimizer, lr: float) -> None:
        for group in optimizer.param_groups:  # planted: what comes after the first is lost
            if group.setdefault("planted", lr) == lr:
                group["lr"] = torch.tensor(lr) if isinstance(group["lr"], torch.Tensor) else lr
            elif not isinstance(group["lr"], torch.Tensor):
                group["lr"] = lr

    monkeypatch.setattr(step, "set_learning_rate", only_once)
    assert not checkup_of(with_graphs).captured(DESIGN).agree


def test_a_capture_that_fails_is_told_with_its_reason(cuda: CudaDouble) -> None:
    cuda.at_end = RuntimeError("CUDA error: out of luck")
    found = checkup_of(with_graphs).captured(DESIGN)
    assert found.reason == "RuntimeError: CUDA error: out of luck"
    assert checkup_of(lambda device: Backend()).captured(DESIGN).reason is not None


def test_fused_norms_that_train_otherwise_are_found_out() -> None:
    right = checkup_of(lambda device: Backend(fused_norm=norm_that(adds=True))).fused(DESIGN)
    wrong = checkup_of(lambda device: Backend(fused_norm=norm_that(adds=False))).fused(DESIGN)
    assert right.reason is None
    assert right.agree
    assert right.gain > 0
    assert not wrong.agree
    assert checkup_of(lambda device: Backend()).fused(DESIGN).reason is not None


def test_losses_that_differ_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = checkup_of(lambda device: Backend()).losses()
    assert losses.agree
    assert losses.cpu == pytest.approx(2.3, abs=1.0)  # ten classes
    assert not dataclasses.replace(losses, float32=losses.cpu + 0.01).agree
    assert not dataclasses.replace(losses, bfloat16=losses.cpu + 0.1).agree


def test_a_run_on_the_cpu_continues_exactly() -> None:
    assert checkup_of(lambda device: Backend()).continued() == 0.0


def test_the_cpu_is_shown_in_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--device", "cpu", "--dataset", "digits", "--json"]) == 0
    found = {f["name"]: f["verdict"] for f in json.loads(capsys.readouterr().out)}
    assert list(found)[-6:-2] == ["hardware", "losses", "resume", "precision"]
    said = r"(bfloat16 is \d+\.\d\d times as fast as float32|float32 is .* as bfloat16)"
    assert re.fullmatch(said, found["precision"])
    assert main(["doctor", "--device", "gpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Verdicts


def test_a_verdict_is_kept_for_a_gpu_a_driver_and_a_torch(
    cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert read_verdict(GPU) is None
    verdict = Verdict(good=True, capture=True, checked="2026-01-02")
    write_verdict(GPU, verdict)
    assert read_verdict(GPU) == verdict
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.0.0")
        assert read_verdict(GPU) is None
    (tmp_path / "cache/nas/devices.json").write_text("{damaged")
    assert read_verdict(GPU) is None
    write_verdict(GPU, verdict)
    assert read_verdict(GPU) == verdict


@pytest.mark.parametrize("given", ["~/.cache", "relative"])
def test_a_cache_folder_that_is_not_absolute_is_ignored(
    cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    write_verdict(GPU, Verdict(good=True, capture=True, checked="2026-01-02"))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home/.cache/nas/devices.json").is_file()


def test_steps_are_not_captured_where_that_was_found_wrong(cuda: CudaDouble) -> None:
    assert cuda_graphs(GPU) is not None
    write_verdict(GPU, Verdict(good=False, capture=False, checked="2026-01-02"))
    assert cuda_graphs(GPU) is None
    assert cuda_graphs(GPU, heed_verdict=False) is not None


class Miscaptured(Checkup):
    """A device on which captured steps train wrongly."""

    def captured(self, design: Architecture = DESIGN) -> Compared:
        return Compared(None, difference=0.5, rate=1.0, plain_rate=1.0)


def untried(device: torch.device) -> Backend:
    raise RuntimeError("not tried")


@pytest.mark.parametrize("writable", [True, False])
def test_steps_that_are_wrong_are_not_captured_or_the_doctor_says_what_to_set(
    cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writable: bool
) -> None:
    about = SimpleNamespace(
        name="double", major=9, minor=0, multi_processor_count=1, total_memory=2**30
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    if not writable:
        (tmp_path / "cache").write_text("a file, no folder")
    checkup = Miscaptured(CPU, batch_size=4, backend_of=untried)
    found = {f.name: f for f in check_device(GPU, checkup)}
    assert not found["graph"].good
    assert found["verdict"].good is writable
    assert ("NAS_NO_GRAPH=1" in found["verdict"].verdict) is not writable
    if not writable:
        assert cuda_graphs(GPU) is not None  # as the doctor says
        monkeypatch.setenv("NAS_NO_GRAPH", "1")
    assert cuda_graphs(GPU) is None


class Broken(Checkup):
    """A device on which everything fails in torch's ways."""

    def losses(self) -> None:  # type: ignore[override]
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def continued(self) -> float:
        raise RuntimeError("CUDA error: an illegal memory access\nmore")


def test_what_fails_is_a_line_and_no_end() -> None:
    found = {f.name: f for f in check_device(CPU, Broken(CPU, batch_size=4))}
    assert found["losses"] == Finding("losses", False, "failed: out of memory")
    assert found["resume"].verdict == "failed: CUDA error: an illegal memory access"
    assert found["precision"].good
