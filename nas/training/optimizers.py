"""The optimizers that a recipe can name. A member of `Optimizer` is all that declares one.

Needs no torch, since recipes are read where nothing is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    """What is known of an optimizer."""

    name: str  # in recipes
    torch_class: str | None  # of torch.optim; None: nas.training.muon.Muon
    lr: float  # usual learning rate
    family: str  # a rate and a momentum found for one suit all of its family
    batch_size: int = 128  # that the usual rate is for
    proportional: bool = False  # whether the rate grows as the batch does, else as its root
    momentum: float | None = None  # usual one; None where it takes none
    arguments: Mapping[str, object] = field(default_factory=dict)  # others of the class
    fused: bool = False  # torch has it as one kernel
    capturable: bool = False  # in a CUDA graph where it isn't fused, too


class Optimizer(StrEnum):
    """What turns gradients into steps; torch.optim's defaults where a recipe says nothing."""

    info: OptimizerInfo

    def __new__(cls, info: OptimizerInfo) -> Self:
        """The name, as a text, with what is known."""
        member = str.__new__(cls, info.name)
        member._value_ = info.name
        member.info = info
        return member

    SGD = OptimizerInfo(  # He et al. 2016, arXiv:1512.03385
        "sgd", "SGD", lr=0.1, family="sgd", proportional=True, momentum=0.9, fused=True
    )
    NESTEROV = OptimizerInfo(  # Zagoruyko and Komodakis 2016, arXiv:1605.07146
        "nesterov",
        "SGD",
        lr=0.1,
        family="sgd",
        proportional=True,
        momentum=0.9,
        arguments={"nesterov": True},
        fused=True,
    )
    ADAM = OptimizerInfo(  # Kingma and Ba 2015, arXiv:1412.6980
        "adam", "Adam", lr=1e-3, family="adam", fused=True, capturable=True
    )
    ADAMW = OptimizerInfo(  # Loshchilov and Hutter 2019, arXiv:1711.05101
        "adamw", "AdamW", lr=1e-3, family="adam", fused=True, capturable=True
    )
    ADADELTA = OptimizerInfo(  # FlexRes, 94.12%
        "adadelta", "Adadelta", lr=0.1, family="adadelta", batch_size=32, capturable=True
    )
    ADAGRAD = OptimizerInfo(  # torch's default rate
        "adagrad", "Adagrad", lr=0.01, family="adagrad", fused=True
    )
    MUON = OptimizerInfo(  # Jordan et al. 2024; see nas.training.muon, and docs/training.md
        "muon", None, lr=0.2, family="muon", momentum=0.85, capturable=True
    )


def fused_on(device: str, torch: tuple[int, int]) -> frozenset[Optimizer]:
    """The optimizers that are one kernel, which counts its steps on the device.

    Args:
        device: cpu or cuda, on which Adagrad is one from torch 2.12 on.
        torch: its version, as (major, minor).
    """
    fused = {optimizer for optimizer in Optimizer if optimizer.info.fused}
    if device == "cuda" and torch < (2, 12):
        fused.remove(Optimizer.ADAGRAD)
    return frozenset(fused)
