"""Averaged weights: what is evaluated in place of the last ones, where a recipe says so."""

import copy
from typing import Any

import torch
from torch import nn


class AveragedWeights:
    """Exponential moving average of weights and norm statistics, after every step.

    The first steps average over what there is, so that fresh weights are soon forgotten: step t has
    a decay of at most t / (t + 9).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._updates = 0
        # Training and loading change these tensors in place, so they are looked up only once.
        self._means, self._values = (
            [tensor for tensor in one.state_dict().values() if tensor.is_floating_point()]
            for one in (self.model, model)
        )

    def update(self) -> None:
        """Moves the average towards the model's weights and norm statistics, in few kernels."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + 9))
        torch._foreach_lerp_(self._means, self._values, 1 - decay)

    def state(self) -> dict[str, Any]:
        """The average, as tensors and plain values."""
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to what `state` gave."""
        self.model.load_state_dict(state["model"])
        self._updates = state["updates"]
