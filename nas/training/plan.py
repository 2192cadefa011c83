"""A training run as data, and how it is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.architecture import Architecture
from nas.data.types import ImageDataset
from nas.model import build
from nas.training.checkpoint import Checkpoint
from nas.training.config import TrainingConfig
from nas.training.loop import Run
from nas.training.teacher import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One design, one recipe, one seed, on one dataset."""

    architecture: Architecture
    dataset: ImageDataset  # resident on the device that trains
    config: TrainingConfig
    seed: int  # of weights, order and augmentation
    teacher: Teacher | None = None

    def identity(self) -> dict[str, Any]:
        """What decides the weights, as plain values; the same in every version of nas."""
        return {
            "design": str(self.architecture),
            "dataset": self.dataset.name,
            "images": self.dataset.digest,
            "subset": self.dataset.subset,
            "seed": self.seed,
            "recipe": self.config.identity(),
            **({"teacher": self.teacher.identity()} if self.teacher else {}),
        }

    def begin(self, device: torch.device) -> Run:
        """The run before its first epoch, on the device."""
        model = build(
            self.architecture,
            self.dataset.input,
            generator=torch.Generator().manual_seed(self.seed),
            zero_last_gamma=self.config.zero_last_gamma,
        )
        return Run(
            model,
            self.dataset,
            self.config,
            seed=self.seed,
            device=device,
            teacher=self.teacher,
        )

    def checkpoint(
        self, path: Path, device: torch.device, *, kept: bool = False, parents: bool = True
    ) -> Checkpoint:
        """The file from which the run goes on, on this kind of device; see `Checkpoint`."""
        identity = {**self.identity(), "device": device.type}
        return Checkpoint(path, identity, kept=kept, parents=parents)
