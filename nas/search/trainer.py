"""How a search trains one candidate: the seam between the loop over trials and the training."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from nas.data.types import ImageDataset
from nas.files import remove_unfinished
from nas.model import build
from nas.runtime.sharing import GpuLock, run_shared
from nas.search.candidates import Candidate
from nas.training.config import TrainingConfig
from nas.training.folder import RunPlan
from nas.training.loop import EpochResult, TrainingResult, task_of, train
from nas.training.resuming import EpochCheckpoint
from nas.training.tuning import tuned

OnStart = Callable[[Sequence[EpochResult]], None]  # takes the epochs that are done already
OnEpoch = Callable[[EpochResult], bool]  # returns whether to stop


class Trainer(Protocol):
    """Trains a candidate, from its checkpoint where there is one."""

    def __call__(
        self,
        candidate: Candidate,
        on_start: OnStart,
        on_epoch: OnEpoch,
        checkpoint: EpochCheckpoint | None,
    ) -> TrainingResult:
        """As `nas.training.loop.train`."""


def make_trainer(
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    lock: GpuLock | None = None,
) -> Trainer:
    """Trains on this dataset, resident on the device, with this seed.

    Args:
        dataset: the images.
        config: the recipe; each candidate's training choices change it.
        seed: of weights, order and augmentation.
        device: where.
        lock: of the device, where other workers train on it, too. A candidate that has too little
            memory beside them is trained once more, alone, from its checkpoint if there is one.
    """
    task = task_of(dataset)

    def train_candidate(
        candidate: Candidate,
        on_start: OnStart,
        on_epoch: OnEpoch,
        checkpoint: EpochCheckpoint | None,
    ) -> TrainingResult:
        own = tuned(config, candidate.training, task)

        def work() -> TrainingResult:
            model = build(
                candidate.architecture,
                dataset.input,
                generator=torch.Generator().manual_seed(seed),
                zero_last_gamma=own.zero_last_gamma,
            )
            return train(
                model,
                dataset,
                own,
                seed=seed,
                device=device,
                on_epoch=on_epoch,
                on_start=on_start,
                checkpoint=checkpoint,
            )

        return run_shared(work, device, lock)

    return train_candidate


def checkpoint_name(key: str) -> str:
    """The name of the checkpoint of a candidate with this key, without `.pt`."""
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def make_checkpoints(
    folder: Path,
    dataset: ImageDataset,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
) -> Callable[[Candidate], EpochCheckpoint]:
    """The checkpoint of each candidate that `make_trainer` trains, in this folder.

    It is the candidate's, not the trial's: a design that was queued again goes on from it, too.
    """
    remove_unfinished(folder)

    def checkpoint_of(candidate: Candidate) -> EpochCheckpoint:
        own = tuned(config, candidate.training, task_of(dataset))
        plan = RunPlan(architecture=candidate.architecture, dataset=dataset, config=own, seed=seed)
        identity = {**plan.identity(), "device": device.type, "torch": str(torch.__version__)}
        return EpochCheckpoint(folder / f"{checkpoint_name(candidate.key)}.pt", identity)

    return checkpoint_of
