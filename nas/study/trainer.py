"""How a search trains one candidate: the seam between the loop over trials and the training."""

from collections.abc import Callable

import torch

from nas.data.types import ImageDataset
from nas.model import build
from nas.study.proposals import Candidate
from nas.training.config import TrainingConfig
from nas.training.loop import EpochResult, TrainingResult, task_of, train
from nas.training.tuning import tuned

OnEpoch = Callable[[EpochResult], bool]  # returns whether to stop
Trainer = Callable[[Candidate, OnEpoch], TrainingResult]


def make_trainer(
    dataset: ImageDataset, config: TrainingConfig, *, seed: int, device: torch.device
) -> Trainer:
    """Trains on this dataset, resident on the device, with this seed.

    Args:
        dataset: the images.
        config: the recipe; each candidate's training choices change it.
        seed: of weights, order and augmentation.
        device: where.
    """
    task = task_of(dataset)

    def train_candidate(candidate: Candidate, on_epoch: OnEpoch) -> TrainingResult:
        own = tuned(config, candidate.training, task)
        model = build(
            candidate.architecture,
            dataset.input,
            generator=torch.Generator().manual_seed(seed),
            zero_last_gamma=own.zero_last_gamma,
        )
        return train(model, dataset, own, seed=seed, device=device, on_epoch=on_epoch)

    return train_candidate
