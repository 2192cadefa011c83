"""The runs of a final training: each has a folder, which says whether it is done.

Processes need nothing but these folders to share the runs. One holds a run's lock while it trains
it, and the lock goes with the process: whoever finds an unfinished run without a lock goes on from
its checkpoint.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from nas.architecture import Architecture
from nas.data.types import ImageDataset
from nas.errors import RequestError
from nas.files import remove_unfinished, replacing
from nas.final.request import RESULT
from nas.model import ResNet, build
from nas.runtime import signals
from nas.runtime.devices import device_name, free_memory, is_out_of_memory
from nas.runtime.sharing import GpuLock, run_shared
from nas.search.events import CaptureFailed
from nas.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nas.training.config import TrainingConfig
from nas.training.evaluation import predict
from nas.training.loop import EpochResult, finish
from nas.training.plan import RunPlan
from nas.training.teacher import Teacher

_CHECKPOINT = "checkpoint.pt"
_WEIGHTS = "weights.pt"
_KEPT = ("failed", "seconds", "device", "torch", "out_of_memory")  # there, beside arrays
_POLL = 0.5  # seconds between two looks whether other processes have finished a run


@dataclass(frozen=True, slots=True)
class Run:
    """One design with one seed on one part of the images."""

    name: str  # of the design, for people
    architecture: Architecture
    seed: int
    on: str  # one of nas.final.request.PARTS
    teacher: tuple["Run", ...] = ()  # whose networks it learns from


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run."""

    run: Run
    failed: str | None  # why, if it did: the loss diverged, or there was no memory
    predictions_I: NDArray[np.int64]  # of the validation images, in float32; empty if it failed
    epochs: tuple[EpochResult, ...]
    seconds: float
    device: str
    torch: str  # its version
    out_of_memory: bool = False  # that is why it failed

    def correct(self, labels_I: Tensor) -> NDArray[np.bool_]:
        """Which validation images a run that has not failed gets right, (I,)."""
        right: NDArray[np.bool_] = self.predictions_I == labels_I.cpu().numpy()
        return right


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins, or goes on after some epochs."""

    run: Run
    epochs_done: int


@dataclass(frozen=True, slots=True)
class RunEpochEnded:
    """A run has done an epoch."""

    run: Run
    result: EpochResult


@dataclass(frozen=True, slots=True)
class RunBatchesDone:
    """A run is in the middle of an epoch. Comes about once a second."""

    run: Run
    done: int
    batches: int  # of the epoch


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is done, here or in another process."""

    run: Run
    val_accuracy: float | None  # 0..1; None if it failed
    seconds: float


RunEvent = RunStarted | RunEpochEnded | RunBatchesDone | RunEnded | CaptureFailed
OnRunEvent = Callable[[RunEvent], None]


class RunFolder:
    """The folder of a run, whose name follows from all that decides its weights.

    Args:
        parent: where the folders of all runs lie.
        run: which.
        dataset: its images, of the part that the run is about.
        config: its recipe.
        teacher: what the run learns from, if it has one.
    """

    def __init__(
        self,
        parent: Path,
        run: Run,
        dataset: ImageDataset,
        config: TrainingConfig,
        teacher: Teacher | None = None,
    ) -> None:
        self._plan = RunPlan(
            architecture=run.architecture,
            dataset=dataset,
            config=config,
            seed=run.seed,
            teacher=teacher,
        )
        self._identity = {**self._plan.identity(), "on": run.on}
        identity = json.dumps(self._identity, sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9.-]", "-", run.name)
        self.path = (
            parent / f"{name}-seed{run.seed}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        )
        self.run = run

    def result(self) -> RunResult | None:
        """What came of the run; None until it is done, or if its files are damaged."""
        try:
            values = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
            predictions_I = np.array(values["predictions"], dtype=np.int64)
            if values["failed"] is None and len(predictions_I) != len(
                self._plan.dataset.validation
            ):
                return None
            return RunResult(
                self.run,
                predictions_I=predictions_I,
                epochs=tuple(EpochResult(**epoch) for epoch in values["epochs"]),
                **{name: values[name] for name in _KEPT},
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def val_accuracy(self, result: RunResult) -> float | None:
        """The accuracy of what came of the run, 0..1; None if it failed."""
        if result.failed:
            return None
        return float(result.correct(self._plan.dataset.validation.labels_N).mean())

    def network(self) -> ResNet:
        """The trained network of a run that is done and has not failed, on the CPU.

        Raises:
            RequestError: its file is missing or damaged.
        """
        model = build(self.run.architecture, self._plan.dataset.input)
        try:
            model.load_state_dict(load_checkpoint(self.path / _WEIGHTS)["model"])
        except (CheckpointError, KeyError, RuntimeError) as error:
            raise RequestError(
                f"{self.path / _WEIGHTS}: expected the weights of a finished run, got a damaged or "
                f"missing file; remove the folder {self.path}, and the same command trains it again"
            ) from error
        return model

    def forget_lack_of_memory(self) -> None:
        """Lets a run begin again that had too little memory: another device may have more."""
        result = self.result()
        if result is not None and result.out_of_memory:
            (self.path / RESULT).unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """What a process holds while it trains the run.

        Raises:
            OSError: the folder cannot be made, or that of the final training is gone.
        """
        self.path.parent.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)  # other parents were moved away, if they are not there
        return FileLock(self.path / ".lock", timeout=0)

    def train(
        self, device: torch.device, on_event: OnRunEvent, lock: GpuLock | None = None
    ) -> RunResult:
        """Trains the run, from its checkpoint if there is one, and writes what came of it.

        Args:
            device: where; the images of `dataset` lie there.
            on_event: gets every epoch.
            lock: of the device, where other workers train on it, too. A run that has too little
                memory beside them is trained once more, alone.

        Raises:
            OSError: the result cannot be written.
        """
        run, dataset = self.run, self._plan.dataset
        checkpoint = self._plan.checkpoint(self.path / _CHECKPOINT, device, parents=False)
        where, version = device_name(device), str(torch.__version__)
        nothing = np.empty(0, dtype=np.int64)

        def on_start(done: Sequence[EpochResult]) -> None:
            on_event(RunStarted(run, len(done)))

        def on_epoch(result: EpochResult) -> bool:
            on_event(RunEpochEnded(run, result))
            return False

        def on_batches(done: int, batches: int) -> None:
            on_event(RunBatchesDone(run, done, batches))

        def work() -> RunResult:
            training = self._plan.begin(device)
            result = finish(
                training,
                on_start=on_start,
                on_epoch=on_epoch,
                on_batches=on_batches,
                checkpoint=checkpoint,
            )
            if result.not_captured:
                on_event(CaptureFailed(result.not_captured))
            failed, predictions_I = result.reason, nothing
            if failed is None:
                logits_IK = predict(training.model, dataset.validation, dataset)
                predictions_I = logits_IK.argmax(dim=1).cpu().numpy()
                save_checkpoint(self.path / _WEIGHTS, {"model": training.model.state_dict()})
            return RunResult(
                run, failed, predictions_I, result.epochs, result.seconds, where, version
            )

        remove_unfinished(self.path)
        try:
            done = run_shared(work, device, lock)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failed = f"out of memory on {where}"
            done = RunResult(run, failed, nothing, (), 0.0, where, version, out_of_memory=True)
        self._write(done)
        if not done.out_of_memory:
            checkpoint.remove()
        return done

    def _write(self, result: RunResult) -> None:
        values: dict[str, Any] = {
            **self._identity,
            **{name: getattr(result, name) for name in _KEPT},
            "predictions": result.predictions_I.tolist(),
            "epochs": [dataclasses.asdict(epoch) for epoch in result.epochs],
        }
        with replacing(self.path / RESULT) as file:
            file.write((json.dumps(values) + "\n").encode())


def train_runs(
    folders: Sequence[RunFolder],
    *,
    device: torch.device,
    on_event: OnRunEvent,
    lock: GpuLock | None = None,
) -> None:
    """Trains those runs that are not done and that no other process trains; returns when all are.

    Args:
        folders: of the runs.
        device: where.
        on_event: gets what happens to the runs that this process trains, and the end of the others.
        lock: see `RunFolder.train`.

    Raises:
        OSError: a folder cannot be written.
        KeyboardInterrupt: on a signal.
    """
    left = list(folders)
    while left:
        begun = len(left)
        for folder in tuple(left):
            signals.check()
            result = folder.result()
            if result is None:
                try:
                    with folder.lock():  # another process may just have finished it
                        result = folder.result() or folder.train(device, on_event, lock)
                except Timeout:
                    continue
                finally:
                    free_memory(device)
            on_event(RunEnded(folder.run, folder.val_accuracy(result), result.seconds))
            left.remove(folder)
        if left and len(left) == begun:
            signals.sleep(_POLL)
