"""Distillation: a run that learns from the probabilities of trained networks, beside the labels.

Hinton, Vinyals and Dean 2015 (arXiv:1503.02531). Shapes: N images, C channels, H x W pixels, K
classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.model import ResNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """How much is learned from a teacher, and how soft its answers are made.

    The weight is that of Tian et al. 2020 (arXiv:1910.10699) on CIFAR. Their temperature of 4 takes
    away what teachers trained with smoothed labels have to teach (Chandrasegaran et al. 2022,
    arXiv:2206.14532), as those of most recipes here are.
    """

    temperature: float = 1.0  # what logits are divided by, the teacher's and the student's
    weight: float = 0.9  # of the teacher in the loss; the labels have the rest


class Teacher(nn.Module):
    """Trained networks whose mean probabilities are learned from, on the very images of a batch.

    Args:
        networks: one or more, for the same images and classes; evaluated, never changed.
        how: how to learn from them.

    Raises:
        ValueError: there is no network, or they read different images.
    """

    def __init__(self, networks: Sequence[ResNet], how: Distillation | None = None) -> None:
        if len(inputs := {network.input for network in networks}) != 1:
            raise ValueError(
                "networks of a teacher must read the same images, got "
                f"{', '.join(map(str, inputs)) or 'no network'}"
            )
        super().__init__()
        (self.input,) = inputs
        self.how = how or Distillation()
        self._networks = nn.ModuleList(networks).eval().requires_grad_(False)
        self._digest = networks_digest([network.state_dict() for network in networks])

    def identity(self) -> dict[str, Any]:
        """What decides what is learned from it, as plain values."""
        return {"networks": self._digest, **asdict(self.how)}

    @torch.no_grad()
    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Its probabilities at the temperature, (N, K) in float32, of normalized images."""
        soft = [
            F.softmax(network(images_NCHW).float() / self.how.temperature, dim=1)
            for network in self._networks
        ]
        return torch.stack(soft).mean(dim=0)

    def loss(self, of_labels: Tensor, logits_NK: Tensor, taught_NK: Tensor) -> Tensor:
        """(1 - weight) x loss of the labels + weight x T^2 x KL(teacher || student).

        With T^2 the gradients of the second part keep their size whatever the temperature.

        Args:
            of_labels: the loss without a teacher, a scalar.
            logits_NK: the student's, in float32.
            taught_NK: the teacher's probabilities for the same images.
        """
        temperature, weight = self.how.temperature, self.how.weight
        soft_NK = F.log_softmax(logits_NK / temperature, dim=1)
        divergence = F.kl_div(soft_NK, taught_NK, reduction="batchmean")
        return (1 - weight) * of_labels + weight * temperature**2 * divergence


def networks_digest(states: Sequence[Mapping[str, Tensor]]) -> str:
    """Of the weights of several networks in that order, as 16 hex digits."""
    digest = hashlib.sha256()
    for state in states:
        for name, tensor in state.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()[:16]
