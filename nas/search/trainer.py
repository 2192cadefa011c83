"""How a search trains one candidate: the seam between the loop over trials and the training."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nas.data.types import ImageDataset
from nas.runtime.sharing import GpuLock, run_shared
from nas.search.candidates import Candidate
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.loop import OnBatches, OnEpoch, OnStart, TrainingResult, finish, task_of
from nas.training.plan import RunPlan
from nas.training.tuning import tuned

Trainer = Callable[
    [Candidate, OnStart, OnEpoch, Checkpoint | None, OnBatches | None], TrainingResult
]
"""Trains a candidate, from its checkpoint where there is one, as `nas.training.loop.finish`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTraining:
    """How all candidates of a search are trained."""

    dataset: ImageDataset  # resident on the device
    config: TrainingConfig  # which each candidate's training choices change
    seed: int  # of weights, order and augmentation
    device: torch.device
    lock: GpuLock | None = None  # of the device, where other workers train on it, too

    def train(
        self,
        candidate: Candidate,
        on_start: OnStart,
        on_epoch: OnEpoch,
        checkpoint: Checkpoint | None,
        on_batches: OnBatches | None = None,
    ) -> TrainingResult:
        """Trains a candidate; where memory lacks beside other workers, once more alone.

        As `nas.training.loop.finish`; from the checkpoint, if there is one.
        """
        plan = self._plan_of(candidate)

        def work() -> TrainingResult:
            run = plan.begin(self.device)
            return finish(
                run,
                on_start=on_start,
                on_epoch=on_epoch,
                on_batches=on_batches,
                checkpoint=checkpoint,
            )

        return run_shared(work, self.device, self.lock)

    def checkpoint_in(self, folder: Path, candidate: Candidate) -> Checkpoint:
        """The checkpoint of a candidate.

        It is the candidate's, not the trial's: a design that was queued again goes on from it, too.
        """
        path = folder / f"{checkpoint_name(candidate.key)}.pt"
        return self._plan_of(candidate).checkpoint(path, self.device)

    def _plan_of(self, candidate: Candidate) -> RunPlan:
        return RunPlan(
            architecture=candidate.architecture,
            dataset=self.dataset,
            config=tuned(self.config, candidate.training, task_of(self.dataset, self.device)),
            seed=self.seed,
        )


def checkpoint_name(key: str) -> str:
    """The name of the checkpoint of a candidate with this key, without `.pt`."""
    return hashlib.sha256(key.encode()).hexdigest()[:20]
