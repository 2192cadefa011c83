"""One loop for a 3-second trial and a 600-epoch retrain, stoppable after every epoch.

Shapes: N images, H x W pixels, C channels, K classes.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from nas import values
from nas.data.types import ImageDataset
from nas.model import ResNet
from nas.runtime import signals
from nas.training.averaging import AveragedWeights
from nas.training.backend import Backend, backend_for
from nas.training.batches import TrainBatches
from nas.training.checkpoint import Checkpoint
from nas.training.config import Task, TrainingConfig
from nas.training.evaluation import Evaluation, predict
from nas.training.memory import give_back_memory, keep_freed_memory
from nas.training.schedules import rate
from nas.training.step import TrainingStep, make_optimizer
from nas.training.teacher import Teacher

OnBatches = Callable[[int, int], None]  # takes the batches of an epoch that have begun, and all
REPORT_INTERVAL = 1.0  # seconds between two calls of it


def task_of(dataset: ImageDataset, device: torch.device) -> Task:
    """What a recipe for this dataset on this device is sized to."""
    gpu = device.type == "cuda"
    return Task(dataset.input, len(dataset.train), dataset.horizontal_flip, gpu)


class Ending(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"  # by `on_epoch`
    DIVERGED = "diverged"  # a loss was not finite


class Diverged(ArithmeticError):
    """A loss was not finite; the message says which and when."""


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One epoch of a run."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch's batches, as the recipe smooths and mixes labels
    val_loss: float
    val_accuracy: float  # 0..1
    seconds: float  # training and validation
    images_per_second: float  # training images over the training part of `seconds`


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A run, to its end or to where it stopped."""

    ending: Ending
    epochs: tuple[EpochResult, ...]
    seconds: float  # with those of epochs that were done before it was continued
    reason: str | None = None  # of a run that diverged
    not_captured: str | None = None  # why its steps were not replayed from a graph, if that failed

    @property
    def val_accuracy(self) -> float | None:
        """Accuracy after the last epoch, 0..1; None when no epoch came to its end."""
        return self.epochs[-1].val_accuracy if self.epochs else None

    @property
    def images_per_second(self) -> float | None:
        """Training images per second over all epochs; None when no epoch came to its end."""
        if not self.epochs:
            return None
        return len(self.epochs) / sum(1 / epoch.images_per_second for epoch in self.epochs)


class Run:
    """A training run between two epochs: it can go on, be stored, and be continued exactly.

    Args:
        model: the network; trained in place, on the device.
        dataset: resident on the device.
        config: the recipe.
        seed: of the order of images and of their augmentation.
        device: where to train; opened with `nas.runtime.devices.open_device`.
        backend: how to use the device; for this run alone.
        teacher: what it learns from beside the labels; moved to the device.

    Raises:
        ValueError: the teacher reads other images than those of the dataset.
    """

    def __init__(
        self,
        model: ResNet,
        dataset: ImageDataset,
        config: TrainingConfig,
        *,
        seed: int,
        device: torch.device,
        backend: Backend | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        if teacher is not None and teacher.input != dataset.input:
            raise ValueError(f"teacher must read {dataset.input}, got one for {teacher.input}")
        if device.type == "cpu":
            keep_freed_memory()
        backend = backend or backend_for(device)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.fuse_norms(backend.fused_norm)
        self.model = model
        self.config = config
        self.seed = seed = values.seed("seed", seed)
        self.history: list[EpochResult] = []
        self._dataset = dataset
        self._device = device
        self._backend = backend
        if teacher is not None:
            teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher = teacher
        self._batches = TrainBatches(
            dataset, config, seed=seed, values_at_once=backend.values_at_once
        )
        self._optimizer = make_optimizer(model, config, backend)
        self._step = self._new_step()
        self._averaged = AveragedWeights(model, config.ema) if config.ema else None

    def _new_step(self) -> TrainingStep:
        return TrainingStep(
            self.model,
            self._optimizer,
            self.config,
            self._device,
            self._backend.graphs,
            self._teacher,
        )

    @property
    def eval_model(self) -> nn.Module:
        """The network whose accuracy counts: with `ema` the averaged one."""
        return self._evaluated_after(len(self.history))

    def _evaluated_after(self, epochs: int) -> nn.Module:
        at_end = epochs >= self.config.epochs
        if self._averaged is None or (at_end and not self.config.ema_at_end):
            return self.model
        return self._averaged.model

    @property
    def captured(self) -> bool:
        """Whether steps are replayed from a CUDA graph by now."""
        return self._step.captured

    @property
    def not_captured(self) -> str | None:
        """Why steps are not replayed from a graph, once that was tried in vain."""
        return self._step.not_captured

    @property
    def finished(self) -> bool:
        """Whether every epoch is done."""
        return len(self.history) >= self.config.epochs

    def train_epoch(self, on_batches: OnBatches | None = None) -> EpochResult:
        """Trains for one epoch, evaluates the model on the validation part and adds to `history`.

        Args:
            on_batches: called about once a second with the batches that are begun, and all of them.

        Raises:
            Diverged: a loss is not finite.
        """
        graphs = self._backend.graphs
        with graphs.stream() if graphs else nullcontext():
            result = self._train_epoch(len(self.history) + 1, on_batches)
        self.history.append(result)
        return result

    def _train_epoch(self, epoch: int, on_batches: OnBatches | None) -> EpochResult:
        started = time.perf_counter()
        due = started + REPORT_INTERVAL if on_batches else math.inf
        per_epoch = self._batches.per_epoch
        steps = self.config.epochs * per_epoch
        self.model.train()
        for i, batch in enumerate(self._batches.epoch(epoch)):
            signals.check()
            step = (epoch - 1) * per_epoch + i
            self._step(batch, self.config.lr * rate(self.config, step, steps))
            if self._averaged:
                self._averaged.update()
            self._backend.step_begun()
            if time.perf_counter() >= due and on_batches:
                on_batches(i + 1, per_epoch)
                due = time.perf_counter() + REPORT_INTERVAL
        train_loss = self._step.take_loss_sum() / per_epoch  # the only wait for the device
        train_seconds = time.perf_counter() - started
        images = self._dataset.validation
        logits_NK = predict(
            self._evaluated_after(epoch),
            images,
            self._dataset,
            normalize=self._batches.normalize,
            batch_size=self._batches.batch_size if self._backend.fixed_shapes else None,
            precision=self.config.precision,
        )
        validation = Evaluation.of(logits_NK, images.labels_N)
        if not math.isfinite(train_loss) or not math.isfinite(validation.loss):
            raise Diverged(
                f"loss not finite in epoch {epoch}: "
                f"train {train_loss:.3g}, validation {validation.loss:.3g}"
            )
        return EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=validation.loss,
            val_accuracy=validation.accuracy,
            seconds=time.perf_counter() - started,
            images_per_second=per_epoch * self._batches.batch_size / train_seconds,
        )

    def state(self) -> dict[str, Any]:
        """All that decides how the run goes on, as tensors and plain values.

        The order of images and their augmentation follow from the seed and the number of the epoch,
        so no state of a random generator is part of it.
        """
        return {
            "config": self.config.to_dict(),
            "seed": self.seed,
            "history": [dataclasses.asdict(result) for result in self.history],
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "averaged": self._averaged.state() if self._averaged else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to a state that a run of the same recipe, seed and design gave."""
        self.model.load_state_dict(state["model"])
        # The options stay those made for this device; a rate read from a file would lie elsewhere.
        options = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({**state["optimizer"], "param_groups": options})
        self._step = self._new_step()  # the optimizer has other tensors now
        if self._averaged:
            self._averaged.load_state(state["averaged"])
        self.history[:] = [EpochResult(**values) for values in state["history"]]


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the highest validation accuracy, the first of equals."""
    return max(history, key=lambda result: result.val_accuracy)


OnStart = Callable[[Sequence[EpochResult]], None]  # takes the epochs that are done already
OnEpoch = Callable[[EpochResult], bool]  # returns whether to stop


def train(
    model: ResNet,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    on_epoch: OnEpoch = lambda result: False,
) -> TrainingResult:
    """Trains the model in place; with `ema` it may end with averaged weights.

    Args:
        model: as of `Run`, like the next four.
        dataset: resident on the device.
        config: the recipe.
        seed: of order and augmentation.
        device: where.
        on_epoch: called after every epoch; True stops the run.

    Returns:
        The run. A loss that is not finite ends it as `Ending.DIVERGED`.
    """
    return finish(Run(model, dataset, config, seed=seed, device=device), on_epoch=on_epoch)


def finish(
    run: Run,
    *,
    on_start: OnStart = lambda done: None,
    on_epoch: OnEpoch = lambda result: False,
    on_batches: OnBatches | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Trains a run to its end, or until `on_epoch` says True or it diverges.

    The model then has the weights that were evaluated.

    Args:
        run: at its beginning, or after some epochs.
        on_start: called before the first epoch with those that are done already.
        on_epoch: called after every epoch; True stops the run. A KeyboardInterrupt it raises leaves
            a checkpoint of that epoch.
        on_batches: called about once a second, as in `Run.train_epoch`.
        checkpoint: where the run goes on from, if it is there, and is kept between epochs.

    Raises:
        CheckpointError: as `Checkpoint.restore`.
        OSError: as `Checkpoint.save`.
    """
    if checkpoint:
        checkpoint.restore(run)
    on_start(tuple(run.history))
    started = time.perf_counter() - sum(result.seconds for result in run.history)
    ending, reason = Ending.FINISHED, None
    while not run.finished:
        try:
            result = run.train_epoch(on_batches)
        except Diverged as error:
            ending, reason = Ending.DIVERGED, str(error)
            break
        if checkpoint and checkpoint.kept:
            checkpoint.save(run)
        try:
            stop = on_epoch(result)
        except KeyboardInterrupt:
            if checkpoint:
                checkpoint.save(run, at_once=True)
            raise
        if stop and not run.finished:
            ending = Ending.STOPPED
            break
        if checkpoint and not checkpoint.kept and not run.finished:
            checkpoint.save(run)  # only now: a worker that has lost its trial must not write
    if run.eval_model is not run.model:
        run.model.load_state_dict(run.eval_model.state_dict())
    run.model.fuse_norms(None)  # it may go elsewhere
    give_back_memory()
    seconds = time.perf_counter() - started
    return TrainingResult(ending, tuple(run.history), seconds, reason, run.not_captured)
