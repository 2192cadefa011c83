"""What training asks of a GPU, traced on fake tensors: no wait for the device, and few kernels."""

import dataclasses
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nas.architecture import PRESETS, ImageInput
from nas.data.types import ImageDataset, Images
from nas.model import ResNet
from nas.runtime.precision import Precision
from nas.training.backend import Backend
from nas.training.config import Augment, TrainingConfig
from nas.training.graphs import torch_version
from nas.training.loop import Run, predict
from nas.training.optimizers import Optimizer
from tests.kits.cuda_trace import Trace, fake_cuda, place

INPUT = ImageInput(channels=3, height=32, width=32, classes=10)
BATCH, STEPS = 512, 8
TRACED = 3  # steps; all but the first are alike
GPU = Backend(values_at_once=STEPS * BATCH * 3 * 32 * 32, fixed_shapes=True)
STRONG = (Augment.CROP, Augment.ALTERNATING_FLIP, Augment.TRIVIAL, Augment.CUTOUT)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that fake tensors have no memory
        with fake_cuda(monkeypatch) as device:
            yield device


def images(count: int, device: torch.device) -> Images:
    pixels_NHWC = torch.empty((count, 32, 32, 3), dtype=torch.uint8, device=device)
    return Images(pixels_NHWC, torch.empty((count,), dtype=torch.int64, device=device))


def make_images(device: torch.device) -> ImageDataset:
    return ImageDataset(
        name="fake",
        input=INPUT,
        classes=tuple("abcdefghij"),
        train=images(STEPS * BATCH, device),
        validation=images(1000, device),
        test_images=0,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        horizontal_flip=True,
        digest="0" * 16,
        subset=1.0,
        split_seed=0,
    )


def config_of(**changes: object) -> TrainingConfig:
    plain: dict[str, object] = {
        "epochs": 2,
        "batch_size": BATCH,
        "lr": 0.1,
        "augment": (Augment.CROP, Augment.FLIP),
        "ema": 0.99,
        "precision": Precision.BFLOAT16,
    }
    return TrainingConfig(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.fixture
def new_run(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> "NewRun":
    return NewRun(device, monkeypatch)


class NewRun:
    """Makes runs on the fake device, whose backward pass only makes gradients: torch has no fake
    of autograd's threads for a device that is not there."""

    def __init__(self, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dataset = make_images(device)
        self._device = device
        self._monkeypatch = monkeypatch

    def __call__(self, config: TrainingConfig, backend: Backend = GPU) -> Run:
        with torch.device("meta"):
            model = ResNet(PRESETS["resnet20"], INPUT)
        place(model, self._device)
        run = Run(model, self.dataset, config, seed=0, device=self._device, backend=backend)

        def backward(loss: Tensor) -> None:
            assert loss.dtype is torch.float32
            for parameter in model.parameters():
                parameter.grad = torch.empty_like(parameter)

        self._monkeypatch.setattr(Tensor, "backward", backward)
        for group in run._optimizer.param_groups:  # as with graphs; the optimizer's own check
            group["lr"] = torch.empty((), device=self._device)  # of a rate reads it, once a run
            if "capturable" in group:
                group["capturable"] = True
        return run


def kernels_per_batch(run: Run) -> float:
    trace = Trace()
    with trace:
        batches = sum(1 for _ in run._batches.epoch(1))
    assert trace.copies == []
    return trace.total / batches


@pytest.mark.parametrize(
    ("augment", "before", "budget"),
    [((Augment.CROP, Augment.FLIP), 14, 5), (STRONG, 231, 40)],
    ids=["crop and flip", "trivialaugment and cutout"],
)
def test_batches_take_few_kernels(
    augment: tuple[Augment, ...], before: int, budget: int, new_run: NewRun
) -> None:
    config = config_of(augment=augment)
    one_by_one = kernels_per_batch(new_run(config, dataclasses.replace(GPU, values_at_once=0)))
    assert kernels_per_batch(new_run(config)) <= budget
    assert before - 4 <= one_by_one  # so the budget says something


def trace_steps(run: Run) -> Trace:
    """The first steps of an epoch."""
    run.model.train()
    batches = list(run._batches.epoch(1))[:TRACED]
    trace = Trace()
    with trace:
        for batch in batches:
            run._step(batch, 0.1)
            if run._averaged:
                run._averaged.update()
    return trace


@pytest.mark.parametrize("optimizer", Optimizer)
def test_steps_never_wait_for_the_device(optimizer: Optimizer, new_run: NewRun) -> None:
    if optimizer is Optimizer.ADAGRAD and torch_version() < (2, 12):
        pytest.skip("needs torch 2.12, whose Adagrad is one kernel on a GPU: pip install -U torch")
    run = new_run(config_of(optimizer=optimizer))
    assert trace_steps(run).copies == []  # and a read of a value would have raised


def test_a_host_read_in_a_step_would_be_seen(new_run: NewRun) -> None:
    run = new_run(config_of())
    run.model.register_forward_hook(lambda module, inputs, logits_NK: print(logits_NK.sum().item()))
    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        trace_steps(run)


def test_a_copy_in_a_step_would_be_seen(new_run: NewRun, device: torch.device) -> None:
    run = new_run(config_of())
    run.model.register_forward_hook(
        lambda module, inputs, logits_NK: logits_NK + torch.tensor([0.0] * 10, device=device)
    )
    assert len(trace_steps(run).copies) == TRACED


def test_a_step_has_a_budget_of_kernels(new_run: NewRun) -> None:
    """Forward pass and optimizer of ResNet-20, 21 convolutions with norms: 133 before."""
    trace = trace_steps(new_run(config_of(ema=None)))
    assert trace.kernels["convolution"] == trace.kernels["native_batch_norm"] == 21 * TRACED
    assert trace.total / TRACED <= 116
    counting = 9 + 2  # sums of blocks, the loss, and little else: no count of batches per norm
    assert trace.kernels["add_"] + trace.kernels["add"] <= counting * TRACED


def test_precision_is_that_of_the_recipe(new_run: NewRun) -> None:
    half = new_run(config_of())
    assert trace_steps(half).inputs["convolution"] == {torch.bfloat16}
    state = half.state()
    kept = [*state["model"].values(), *state["averaged"]["model"].values()]
    kept += [v for s in state["optimizer"]["state"].values() for v in s.values()]
    floats = {t.dtype for t in kept if isinstance(t, Tensor) and t.is_floating_point()}
    assert floats == {torch.float32}
    exact = new_run(config_of(precision=Precision.FLOAT32))
    assert trace_steps(exact).inputs["convolution"] == {torch.float32}


def test_evaluation_has_the_shapes_of_training_and_no_other(new_run: NewRun) -> None:
    run = new_run(config_of())
    trained = trace_steps(run).convolutions
    assert len(trained) == 8

    def evaluated(batch_size: int | None) -> Trace:
        trace = Trace()
        with trace:
            predict(
                run.model,
                new_run.dataset.validation,
                new_run.dataset,
                normalize=run._batches.normalize,
                batch_size=batch_size,
                precision=run.config.precision,
            )
        return trace

    padded = evaluated(GPU.evaluation_batch(BATCH))
    assert padded.convolutions == trained
    assert padded.copies == []
    assert len(evaluated(None).convolutions - trained) == 8  # in batches of another size, but one


def test_bordered_images_are_made_once_for_all_runs(new_run: NewRun) -> None:
    new_run(config_of())
    with Trace() as second:
        new_run(config_of())
    assert second.kernels["index_select"] == 0
    with Trace() as other:  # with another border they are made again
        new_run(config_of(crop_padding=4))
    assert other.kernels["index_select"] == 2
