"""What training asks of a GPU, traced on fake tensors: no wait for the device, and few kernels."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.architecture import PRESETS, ImageInput
from nas.data.types import ImageDataset, Images
from nas.model import ResNet
from nas.runtime.precision import Precision
from nas.training.backend import Backend
from nas.training.config import Augment, TrainingConfig
from nas.training.evaluation import predict
from nas.training.graphs import torch_version
from nas.training.loop import Run
from nas.training.optimizers import Optimizer, fused_on

INPUT = ImageInput(channels=3, height=32, width=32, classes=10)
BATCH, STEPS = 512, 8
TRACED = 3  # steps; all but the first are alike
GPU = Backend(values_at_once=STEPS * BATCH * 3 * 32 * 32, fixed_shapes=True)
STRONG = (Augment.CROP, Augment.ALTERNATING_FLIP, Augment.TRIVIAL, Augment.CUTOUT)


_aten = torch.ops.aten
COPIES = (_aten._to_copy.default, _aten.copy_.default, _aten._pin_memory.default)


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that start a kernel, notes copies between devices and shapes.

    A view starts none. An operation on a list of tensors, as optimizers have them, counts as one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[str] = Counter()
        self.copies: list[str] = []
        self.convolutions: set[tuple[object, ...]] = set()
        self.inputs: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        fused = "_fused_" in str(function)  # an optimizer's, for which torch has no fake
        results = None if fused else function(*args, **kwargs)
        if function.namespace != "aten":
            return results
        name = function._schema.name.removeprefix("aten::")
        tensors = [t for t in tree_leaves((args, kwargs, results)) if isinstance(t, Tensor)]
        devices = {t.device.type for t in tensors if t.dim() > 0 or function in COPIES}
        if function in COPIES and len(devices) > 1:
            self.copies.append(f"{name} {[(tuple(t.shape), str(t.device)) for t in tensors]}")
        returns = function._schema.returns
        view = returns and all(r.alias_info and not r.alias_info.is_write for r in returns)
        if not view and not name.startswith(("empty", "detach")):
            self.kernels[name] += 1
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        self.inputs.setdefault(name, set()).update(t.dtype for t in given)
        if name in ("convolution", "conv2d"):
            images, weights, _, stride = args[:4]
            shape = (*images.shape, *weights.shape, tuple(stride), images.dtype)
            self.convolutions.add(shape)
        return results

    @property
    def total(self) -> int:
        """Kernels in all."""
        return sum(self.kernels.values())


def _from_host(values: Any, *, device: torch.device, dtype: Any = None) -> Tensor:
    """`torch.tensor` of values for a device: a copy from the host, of which a trace hears."""
    on_host = torch.empty(np.shape(values), dtype=dtype or torch.float32)
    return on_host.to(device)


class _Mode(FakeTensorMode):  # type: ignore[no-untyped-call]
    def __deepcopy__(self, memo: object) -> "_Mode":
        return self  # of the copy of a network, too


class _Generator(torch.Generator):
    """One on the CPU, which fake tensors of any device take."""

    def __new__(cls, device: object = None) -> "_Generator":
        return super().__new__(cls)


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A block in which `cuda:0` is there for fake tensors, and reading a value raises."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)
    monkeypatch.setattr(torch, "Generator", _Generator)
    monkeypatch.setattr(torch, "tensor", _from_host)
    with _Mode():
        yield torch.device("cuda", 0)


def place(model: nn.Module, device: torch.device) -> None:
    """Gives a network memory on a fake device, where torch cannot move one."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                order = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
                memory = torch.empty(parameter.shape, device=device, memory_format=order)
                module._parameters[name] = nn.Parameter(memory)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
    model.to = lambda **where: model  # type: ignore[method-assign, assignment]


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


def test_adagrad_alone_waits_for_a_later_torch() -> None:
    assert fused_on("cpu", (2, 11)) - fused_on("cuda", (2, 11)) == {Optimizer.ADAGRAD}
    assert fused_on("cpu", (2, 11)) == fused_on("cuda", (2, 12))


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

    padded = evaluated(BATCH)
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
