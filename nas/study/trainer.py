"""How a search trains one design: the seam between the loop over trials and the training."""

from collections.abc import Callable

import torch

from nas.architecture import Architecture
from nas.data.types import ImageDataset
from nas.model import build
from nas.training.config import TrainingConfig
from nas.training.loop import EpochResult, TrainingResult, train

OnEpoch = Callable[[EpochResult], bool]  # returns whether to stop
Trainer = Callable[[Architecture, OnEpoch], TrainingResult]


def make_trainer(
    dataset: ImageDataset, config: TrainingConfig, *, seed: int, device: torch.device
) -> Trainer:
    """Trains a design on this dataset, resident on the device, with this recipe and seed."""

    def train_design(architecture: Architecture, on_epoch: OnEpoch) -> TrainingResult:
        model = build(
            architecture,
            dataset.input,
            generator=torch.Generator().manual_seed(seed),
            zero_last_gamma=config.zero_last_gamma,
        )
        return train(model, dataset, config, seed=seed, device=device, on_epoch=on_epoch)

    return train_design
