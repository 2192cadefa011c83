"""Captured steps train as plain ones do, shown on the strict double of CUDA graphs."""

import dataclasses
import sys

import pytest
import torch
from torch import Tensor, nn

from nas.data.types import ImageDataset
from nas.runtime.devices import is_out_of_memory
from nas.training import graphs
from nas.training.backend import Backend, backend_for
from nas.training.config import Augment, TrainingConfig
from nas.training.graphs import CudaGraphs, cuda_graphs
from nas.training.loop import Run
from nas.training.optimizers import Optimizer
from nas.training.teacher import Teacher
from tests.kits.cuda_double import CudaDouble, record
from tests.kits.training import CPU, make_config, make_dataset, make_model

IN_CAPTURE = torch.AcceleratorError if hasattr(torch, "AcceleratorError") else RuntimeError
POLICIES = (
    (),
    (Augment.CROP, Augment.FLIP),
    (Augment.CROP, Augment.ALTERNATING_FLIP, Augment.TRIVIAL, Augment.CUTOUT),
    (Augment.CROP, Augment.MIXUP),
    (Augment.CROP, Augment.CUTMIX),
)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> CudaDouble:
    # A double of the device is no device that torch knows to capture on.
    supported = "_get_capturable_supported_devices"
    names = {o.info.torch_class for o in Optimizer if o.info.torch_class}
    for module in {getattr(torch.optim, name).__module__ for name in names}:
        if hasattr(sys.modules[module], supported):
            monkeypatch.setattr(sys.modules[module], supported, lambda supports_xla=True: ["cpu"])
    monkeypatch.delenv(graphs.OFF, raising=False)
    return CudaDouble(monkeypatch)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset(train_images=200)


def new_run(
    dataset: ImageDataset,
    config: TrainingConfig,
    backend: Backend | None = None,
    teacher: Teacher | None = None,
) -> Run:
    model = make_model(dataset)
    return Run(model, dataset, config, seed=0, device=CPU, backend=backend, teacher=teacher)


def with_graphs(**changes: object) -> Backend:
    plain = {"graphs": CudaGraphs(CPU), "values_at_once": 3 * 16 * 3 * 64, "fixed_shapes": True}
    return Backend(**{**plain, **changes})  # type: ignore[arg-type]


def everything(run: Run) -> dict[str, Tensor]:
    """Weights, statistics, averages, counters and what the optimizer keeps."""
    state = run.state()
    optimizer = state["optimizer"]["state"]
    kept = {f"{i} {n}": v for i, values in optimizer.items() for n, v in values.items()}
    averaged = state["averaged"]["model"] if state["averaged"] else {}
    return {
        **state["model"],
        **{f"averaged {name}": value for name, value in averaged.items()},
        **{name: value for name, value in kept.items() if isinstance(value, Tensor)},
    }


def assert_equal_runs(run: Run, other: Run) -> None:
    mine, theirs = everything(run), everything(other)
    assert mine.keys() == theirs.keys()
    different = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    assert different == []
    assert [r.train_loss for r in run.history] == [r.train_loss for r in other.history]


def train(run: Run, epochs: int = 2) -> Run:
    for _ in range(epochs):
        run.train_epoch()
    return run


@pytest.mark.parametrize("optimizer", Optimizer)
def test_captured_steps_equal_plain_ones_with_every_optimizer(
    optimizer: Optimizer, cuda: CudaDouble, dataset: ImageDataset
) -> None:
    config = make_config(optimizer=optimizer, lr=0.02, ema=0.9, label_smoothing=0.1)
    captured = train(new_run(dataset, config, with_graphs()))
    assert captured.captured
    assert captured.not_captured is None
    assert cuda.graphs[0].replays == 2 * 12 - 3  # all steps after the warm-up
    # The same kernels, so the same rate on the device, without a graph.
    plain = new_run(dataset, config, with_graphs(graphs=Uncaptured()))
    assert_equal_runs(captured, train(plain))
    assert not plain.captured


class Uncaptured(CudaGraphs):
    """Graphs that record nothing: a step's replay is the step."""

    def __init__(self) -> None:
        super().__init__(CPU)

    def record(self, step: object) -> object:  # type: ignore[override]
        raise graphs.CaptureError("not to be recorded")


@pytest.mark.parametrize("augment", POLICIES, ids=lambda policy: "+".join(policy) or "none")
def test_captured_steps_equal_plain_ones_with_every_augmentation(
    augment: tuple[Augment, ...], cuda: CudaDouble, dataset: ImageDataset
) -> None:
    config = make_config(augment=augment, crop_padding=1, cutout_size=3)
    captured = train(new_run(dataset, config, with_graphs()))
    assert captured.captured
    assert_equal_runs(captured, train(new_run(dataset, config)))


@pytest.mark.parametrize("augment", [POLICIES[2], POLICIES[3]], ids=["cutout", "mixup"])
def test_captured_steps_with_a_teacher_equal_plain_ones(
    augment: tuple[Augment, ...], cuda: CudaDouble, dataset: ImageDataset
) -> None:
    config = make_config(augment=augment, crop_padding=1, cutout_size=3, ema=0.9)
    teacher = Teacher([make_model(dataset, seed) for seed in (1, 2)])
    captured = train(new_run(dataset, config, with_graphs(), teacher))
    assert captured.captured
    assert_equal_runs(captured, train(new_run(dataset, config, teacher=teacher)))
    with pytest.raises(AssertionError):  # the teacher is in the graph
        assert_equal_runs(captured, train(new_run(dataset, config)))


def test_a_continued_run_is_captured_again_and_ends_as_an_uninterrupted_one(
    cuda: CudaDouble, dataset: ImageDataset
) -> None:
    config = make_config(epochs=3, ema=0.9)
    whole = train(new_run(dataset, config, with_graphs()), 3)
    first = train(new_run(dataset, config, with_graphs()), 1)
    second = new_run(dataset, config, with_graphs())
    second.load_state(first.state())
    train(second, 2)
    assert second.captured
    assert_equal_runs(second, whole)


def test_no_memory_moves_between_steps(cuda: CudaDouble, dataset: ImageDataset) -> None:
    for optimizer in Optimizer:
        run = train(new_run(dataset, make_config(optimizer=optimizer, ema=0.9), with_graphs()), 1)
        places = {name: tensor.data_ptr() for name, tensor in everything(run).items()}
        train(run, 1)
        assert {name: tensor.data_ptr() for name, tensor in everything(run).items()} == places


# Captures that fail


def test_a_capture_that_fails_at_its_end_leaves_the_stream_and_the_run_as_they_were(
    cuda: CudaDouble, dataset: ImageDataset
) -> None:
    cuda.at_end = RuntimeError("CUDA error: operation failed due to a previous error\nmore")
    config = make_config()
    run = train(new_run(dataset, config, with_graphs()))
    assert not run.captured
    assert run.not_captured == (
        "RuntimeError: CUDA error: operation failed due to a previous error"
    )
    assert cuda.current is cuda.default
    assert len(cuda.graphs) == 1  # it is not tried at every step
    assert_equal_runs(run, train(new_run(dataset, config)))


def test_out_of_memory_in_a_capture_is_no_end(cuda: CudaDouble, dataset: ImageDataset) -> None:
    config = make_config()
    run = new_run(dataset, config, with_graphs())
    calls = []

    def no_room(module: nn.Module, inputs: object) -> None:
        calls.append(len(cuda.graphs))
        if len(calls) == 4:  # the one in the capture, after three that warm up
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    handle = run.model.register_forward_pre_hook(no_room)
    run.train_epoch()
    handle.remove()
    assert calls[3] == 1
    assert run.not_captured is not None
    assert run.not_captured.startswith("OutOfMemoryError: CUDA out of memory.")
    assert cuda.current is cuda.default
    assert_equal_runs(train(run, 1), train(new_run(dataset, config)))


def test_a_design_that_fills_the_memory_is_not_captured(
    cuda: CudaDouble, dataset: ImageDataset
) -> None:
    cuda.peak = cuda.free
    run = train(new_run(dataset, make_config(), with_graphs()), 1)
    assert run.not_captured == "it needs 1.8 GB more, 1.0 are free"
    assert cuda.graphs == []


@pytest.mark.parametrize(("version", "again"), [("2.11.0+cu128", False), ("2.12.1", True)])
def test_a_process_that_cannot_recover_does_not_try_again(
    version: str, again: bool, cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    failing = CudaGraphs(CPU)
    cuda.at_end = RuntimeError("no")
    with failing.stream(), pytest.raises(graphs.CaptureError):
        failing.record(lambda: None)
    assert (cuda_graphs(CPU) is not None) == again


def test_graphs_can_be_turned_off(cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    assert backend_for(device).graphs is not None
    monkeypatch.setenv("NAS_NO_GRAPH", "1")
    assert backend_for(device).graphs is None
    monkeypatch.setenv("NAS_NO_GRAPH", "0")
    assert backend_for(device).graphs is not None


def test_adagrad_is_captured_only_where_it_counts_on_the_device(
    cuda: CudaDouble, dataset: ImageDataset
) -> None:
    config = make_config(optimizer=Optimizer.ADAGRAD, lr=0.02)
    run = train(new_run(dataset, config, with_graphs(fused=frozenset())))
    assert (run.captured, run.not_captured) == (False, None)
    assert all(isinstance(g["lr"], float) for g in run._optimizer.param_groups)


# What the double is strict about


def test_a_rate_that_is_a_python_number_stays_in_the_graph(
    cuda: CudaDouble, dataset: ImageDataset
) -> None:
    weight, rate = torch.ones(3), [0.5]
    graph = record(lambda: weight.add_(torch.ones(3), alpha=-rate[0]))
    assert torch.equal(weight, torch.ones(3))  # a capture executes nothing
    graph.replay()
    rate[0] = 0.25
    graph.replay()
    assert torch.equal(weight, torch.zeros(3))  # in place of 0.25: twice the first rate

    config = make_config(optimizer=Optimizer.SGD)
    run = new_run(dataset, config, with_graphs())
    for group in run._optimizer.param_groups:  # planted: the rate is lost at the first step
        group["lr"] = nn.Parameter(group["lr"], requires_grad=False)
    monkey = run._optimizer.step

    def with_a_number() -> None:
        saved = [group["lr"] for group in run._optimizer.param_groups]
        for group in run._optimizer.param_groups:
            group["lr"] = numbers.setdefault("lr", 0.1)
        monkey()
        for group, lr in zip(run._optimizer.param_groups, saved, strict=True):
            group["lr"] = lr

    numbers: dict[str, float] = {}
    run._optimizer.step = with_a_number  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError):
        assert_equal_runs(train(run), train(new_run(dataset, config)))


@pytest.mark.parametrize(
    "bug",
    [
        lambda t: t.sum().item(),
        lambda t: bool(t.sum() > 0),
        lambda t: t[t > 0],
        lambda t: t.nonzero(),
        lambda t: torch.equal(t, t),
    ],
    ids=["item", "bool", "mask", "nonzero", "equal"],
)
def test_a_host_read_in_a_step_is_caught(
    bug: object, cuda: CudaDouble, dataset: ImageDataset
) -> None:
    assert callable(bug)
    run = new_run(dataset, make_config(), with_graphs())
    run.model.register_forward_hook(lambda module, inputs, logits_NK: [bug(logits_NK), None][1])
    run.train_epoch()
    assert not run.captured
    assert run.not_captured is not None
    assert "not permitted when stream is capturing" in run.not_captured


def test_memory_that_is_replaced_is_caught(cuda: CudaDouble, dataset: ImageDataset) -> None:
    config = make_config()
    run = new_run(dataset, config, with_graphs())
    run.train_epoch()
    with torch.no_grad():  # planted: as a load that makes new tensors, after the capture
        run.model.head.weight.data = run.model.head.weight.clone()
    run.train_epoch()
    with pytest.raises(AssertionError):
        assert_equal_runs(run, train(new_run(dataset, config)))


def test_a_batch_that_is_not_copied_is_caught(
    cuda: CudaDouble, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    run = new_run(dataset, config, with_graphs())
    run.train_epoch()
    fixed = run._step._fixed
    assert fixed is not None
    stale = dataclasses.replace(fixed, images_NCHW=fixed.images_NCHW.clone())
    run._step._fixed = stale  # planted: what the graph reads is never filled again
    run.train_epoch()
    with pytest.raises(AssertionError):
        assert_equal_runs(run, train(new_run(dataset, config)))


def test_words_for_a_lack_of_memory_reach_through_a_failed_capture(cuda: CudaDouble) -> None:
    double = CudaGraphs(CPU)

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with double.stream(), pytest.raises(graphs.CaptureError) as caught:
        double.record(full)
    assert is_out_of_memory(caught.value)
