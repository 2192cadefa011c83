"""One optimizer step: forward, backward, update; on CUDA replayed as a graph where that works."""

import torch
from torch import nn
from torch.nn import functional as F

from nas.runtime.arithmetic import arithmetic
from nas.training.batches import Batch
from nas.training.config import Optimizer, TrainingConfig
from nas.training.optimizers import set_learning_rate

_WARMUP_STEPS = 3  # before a capture: cuDNN chooses its kernels, the optimizer makes its state


class TrainingStep:
    """Moves a model by one batch and sums up the loss, without waiting for the device.

    On CUDA the first steps run one kernel after another; then the step is captured as a graph,
    which takes the host's time between kernels out of thin networks. When the capture fails, the
    steps go on as before.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._smoothing = config.label_smoothing
        self._device = device
        self._precision = config.precision
        self._loss_sum = torch.zeros((), device=device)
        self._steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_batch: Batch | None = None
        # Adagrad counts its steps on the host, which a graph would freeze.
        self._may_capture = device.type == "cuda" and config.optimizer is not Optimizer.ADAGRAD
        if self._may_capture:  # a rate on the host would be frozen in the graph
            assert all(group["lr"].is_cuda for group in optimizer.param_groups)

    @property
    def captured(self) -> bool:
        """Whether steps are replayed from a graph."""
        return self._graph is not None

    def __call__(self, batch: Batch, lr: float) -> None:
        """One step with this learning rate."""
        set_learning_rate(self._optimizer, lr)
        if self._may_capture and self._graph is None and self._steps >= _WARMUP_STEPS:
            self._capture(batch)
        if self._graph is None or self._graph_batch is None:
            self._run(batch)
        else:
            self._graph_batch.images_NCHW.copy_(batch.images_NCHW)
            self._graph_batch.targets.copy_(batch.targets)
            self._graph.replay()
        self._steps += 1

    def take_loss_sum(self) -> float:
        """The sum of the losses since the last call; waits for the device."""
        total = self._loss_sum.item()
        self._loss_sum.zero_()
        return total

    def _run(self, batch: Batch) -> None:
        with arithmetic(self._device, self._precision):
            logits_NK = self._model(batch.images_NCHW)
        loss = F.cross_entropy(logits_NK.float(), batch.targets, label_smoothing=self._smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._loss_sum += loss.detach()

    def _capture(self, batch: Batch) -> None:
        fixed = Batch(
            batch.images_NCHW.clone(memory_format=torch.preserve_format), batch.targets.clone()
        )
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize(self._device)
            with torch.cuda.graph(graph):
                self._run(fixed)
        except Exception:  # whatever it is, a step without a graph shows whether it matters
            self._may_capture = False
            self._optimizer.zero_grad(set_to_none=True)
            return
        self._graph, self._graph_batch = graph, fixed
