"""What only a CUDA device can show; run with `pytest -m gpu`."""

import dataclasses
from pathlib import Path

import pytest
import torch

from nas.architecture import PRESETS, ImageInput
from nas.commands import main
from nas.data.types import ImageDataset
from nas.model import build
from nas.runtime.arithmetic import has_bfloat16
from nas.runtime.precision import Precision
from nas.runtime.verdicts import read_verdict
from nas.search.run import run_search
from nas.study.records import Outcome
from nas.training import graphs
from nas.training.backend import PLAIN_NORMS, backend_for, fused_norm_on
from nas.training.checkpoint import load_checkpoint, save_checkpoint
from nas.training.config import fast
from nas.training.loop import Run, task_of
from nas.training.optimizers import Optimizer
from nas.training.teacher import Teacher
from tests.kits.norms import check_what_is_no_number, deviations
from tests.kits.studies import RequestOf
from tests.kits.training import make_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs an NVIDIA GPU that torch can use: see nas doctor",
    ),
]
CUDA = torch.device("cuda", 0)
INPUT = ImageInput(channels=3, height=32, width=32, classes=10)


def images(count: int = 2048) -> ImageDataset:
    return make_dataset(train_images=count, height=32, width=32, classes=10).to(CUDA)


def new_run(
    dataset: ImageDataset,
    optimizer: Optimizer,
    precision: str = "bfloat16",
    teacher: Teacher | None = None,
) -> Run:
    config = dataclasses.replace(
        fast(task_of(dataset, CUDA)),
        optimizer=optimizer,
        lr=0.01,
        epochs=4,
        batch_size=128,
        precision=Precision(precision),
    )
    model = build(PRESETS["resnet20"], INPUT, generator=torch.Generator().manual_seed(0))
    return Run(model, dataset, config, seed=0, device=CUDA, teacher=teacher)


def test_the_doctor_finds_nothing_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    status = main(["doctor", "--device", "cuda", "--dataset", "digits"])
    output = capsys.readouterr().out
    assert status == 0, output
    verdict = read_verdict(CUDA)
    assert verdict is not None
    assert verdict.good
    assert verdict.capture


def flat(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", Optimizer)
def test_a_captured_step_trains_as_an_uncaptured_one(
    optimizer: Optimizer, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision == "bfloat16" and not has_bfloat16(CUDA):
        pytest.skip("this GPU has no bfloat16")
    dataset = images()
    captured = new_run(dataset, optimizer, precision)
    losses = [captured.train_epoch().train_loss for _ in range(4)]
    counts_on_device = optimizer is not Optimizer.ADAGRAD or optimizer in backend_for(CUDA).fused
    assert captured.captured == counts_on_device, captured.not_captured
    monkeypatch.setenv(graphs.OFF, "1")
    eager = new_run(dataset, optimizer, precision)
    expected = [eager.train_epoch().train_loss for _ in range(4)]
    assert not eager.captured
    assert losses == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_captured_step_with_a_teacher_trains_as_an_uncaptured_one(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision == "bfloat16" and not has_bfloat16(CUDA):
        pytest.skip("this GPU has no bfloat16")
    dataset = images()
    seeds = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    teacher = Teacher([build(PRESETS["resnet20"], INPUT, generator=seed) for seed in seeds])
    captured = new_run(dataset, Optimizer.NESTEROV, precision, teacher)
    losses = [captured.train_epoch().train_loss for _ in range(4)]
    assert captured.captured, captured.not_captured
    monkeypatch.setenv(graphs.OFF, "1")
    eager = new_run(dataset, Optimizer.NESTEROV, precision, teacher)
    assert losses == pytest.approx([eager.train_epoch().train_loss for _ in range(4)], rel=0.05)


def test_a_continued_run_stays_close_to_an_uninterrupted_one(tmp_path: Path) -> None:
    dataset = images()
    whole = new_run(dataset, Optimizer.NESTEROV, "float32")
    for _ in range(4):
        whole.train_epoch()
    first = new_run(dataset, Optimizer.NESTEROV, "float32")
    for _ in range(2):
        first.train_epoch()
    save_checkpoint(tmp_path / "last.pt", first.state())
    second = new_run(dataset, Optimizer.NESTEROV, "float32")
    second.load_state(load_checkpoint(tmp_path / "last.pt"))
    for _ in range(2):
        second.train_epoch()
    difference = (flat(second) - flat(whole)).norm() / flat(whole).norm()
    assert difference < 0.05
    assert [e.epoch for e in second.history] == [1, 2, 3, 4]


def test_a_run_with_fused_norms_is_that_with_torchs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert callable(fused_norm_on(CUDA)), fused_norm_on(CUDA)
    dataset = images(1024)
    fused = new_run(dataset, Optimizer.NESTEROV, "float32")
    monkeypatch.setenv(PLAIN_NORMS, "1")
    plain = new_run(dataset, Optimizer.NESTEROV, "float32")
    start = flat(plain)
    for run in (fused, plain):
        run.train_epoch()
    assert (flat(fused) - flat(plain)).norm() < 0.05 * (flat(plain) - start).norm()
    for found, expected in zip(fused.model.buffers(), plain.model.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shape", [(512, 64, 32, 32), (7, 24, 5, 5), (512, 4, 1, 1), (64, 136, 8, 8)]
)
def test_a_fused_norm_computes_what_torch_does(
    shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    check_what_is_no_number(CUDA)
    for deviation in deviations(shape, dtype, CUDA):
        assert deviation.relative < (1e-4 if dtype == torch.float32 else 1e-2), deviation


def test_out_of_memory_is_an_outcome_and_gives_the_memory_back(
    request_of: RequestOf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = tmp_path_factory.mktemp("space") / "wide.toml"
    space.write_text("stages = 1\nblocks = 1\nchannels = [4, 4096]\nkernels = 1\npool = 8\n")
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(4e8 / total)  # the wide one needs more
    try:
        result = run_search(
            request_of(trials=2, max_parameters=10**9, space=space, device="cuda", subset=1.0)
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.study.outcomes[Outcome.OUT_OF_MEMORY] == 1
    assert result.study.outcomes[Outcome.TRAINED] == 1
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < 100_000_000
