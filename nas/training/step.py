"""One optimizer step: forward, backward, update; replayed as a graph where that works."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from nas.runtime.arithmetic import arithmetic
from nas.training.backend import Backend
from nas.training.batches import Batch
from nas.training.config import TrainingConfig
from nas.training.graphs import CaptureError, CudaGraphs
from nas.training.muon import Muon
from nas.training.teacher import Teacher

_WARMUP_STEPS = 3  # before a capture: cuDNN chooses its kernels, the optimizer makes its state


def make_optimizer(
    model: nn.Module, config: TrainingConfig, backend: Backend
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the model's weights.

    Norms and biases have no weight decay unless the recipe says so. The fastest implementation that
    torch has for the device is taken. Where steps are captured as graphs the learning rate is a
    tensor, so that a graph follows it, if the optimizer keeps all it counts on the device, too.
    """
    device = next(model.parameters()).device
    if config.decay_all:
        groups = [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    else:
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    info = config.optimizer.info
    fused = config.optimizer in backend.fused
    captured = backend.graphs is not None and (fused or info.capturable)
    # Uncaptured with a number: foreach would read a tensor on the device 200 times a step.
    lr = torch.tensor(config.lr, device=device) if captured else config.lr
    if info.torch_class is None:
        return Muon(groups, lr, config.momentum)
    arguments = {**info.arguments, "fused" if fused else "foreach": True}
    if info.momentum is not None:
        arguments["momentum"] = config.momentum
    if info.capturable:
        arguments["capturable"] = captured
    made: torch.optim.Optimizer = getattr(torch.optim, info.torch_class)(groups, lr=lr, **arguments)
    return made


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


class TrainingStep:
    """Trains a model on one batch and adds its loss to a sum, without waiting for the device.

    With `graphs` the first steps run one kernel after another; then the step is captured as a
    graph, which takes the host's time between kernels out of thin networks. When the capture
    fails, the steps go on as before.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainingConfig,
        device: torch.device,
        graphs: CudaGraphs | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.not_captured: str | None = None  # why, once a capture has failed
        self._model = model
        self._optimizer = optimizer
        self._smoothing = config.label_smoothing
        self._teacher = teacher  # on the device
        self._device = device
        self._precision = config.precision
        self._loss_sum = torch.zeros((), device=device)
        self._steps = 0
        by_tensor = all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)
        self._graphs = graphs if by_tensor else None  # a graph would not follow a number
        self._replay: Callable[[], None] | None = None
        self._fixed: Batch | None = None  # what is replayed reads it

    @property
    def captured(self) -> bool:
        """Whether steps are replayed from a graph."""
        return self._replay is not None

    def __call__(self, batch: Batch, lr: float) -> None:
        """One step with this learning rate."""
        set_learning_rate(self._optimizer, lr)
        if self._graphs is not None:
            if self._steps < _WARMUP_STEPS:
                self._steps += 1
                with self._graphs.measured():
                    self._run(batch)
                return
            if self._replay is None:
                self._capture(batch, self._graphs)
        if self._replay is None or self._fixed is None:
            self._run(batch)
        else:
            self._fixed.images_NCHW.copy_(batch.images_NCHW)
            self._fixed.targets.copy_(batch.targets)
            self._replay()

    def take_loss_sum(self) -> float:
        """The sum of the losses since the last call; waits for the device."""
        total = self._loss_sum.item()
        self._loss_sum.zero_()
        return total

    def _run(self, batch: Batch) -> None:
        with arithmetic(self._device, self._precision):
            logits_NK = self._model(batch.images_NCHW)
            taught_NK = self._teacher(batch.images_NCHW) if self._teacher else None
        logits_NK = logits_NK.float()
        loss = F.cross_entropy(logits_NK, batch.targets, label_smoothing=self._smoothing)
        if self._teacher is not None and taught_NK is not None:
            loss = self._teacher.loss(loss, logits_NK, taught_NK)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._loss_sum += loss.detach()

    def _capture(self, batch: Batch, graphs: CudaGraphs) -> None:
        try:
            fixed = Batch(
                batch.images_NCHW.clone(memory_format=torch.preserve_format), batch.targets.clone()
            )
            self._replay = graphs.record(lambda: self._run(fixed))
            self._fixed = fixed
        except (CaptureError, torch.OutOfMemoryError) as error:
            self.not_captured = str(error).splitlines()[0]
            self._graphs = None
            self._optimizer.zero_grad(set_to_none=True)  # those of a step that was never done
