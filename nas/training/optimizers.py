"""The optimizers that a recipe can name. A member of `Optimizer` is all that declares one.

Needs no torch, since recipes are read where nothing is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

_FUSED = {"cpu": (2, 11), "cuda": (2, 11)}  # from the oldest torch that nas works with


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerInfo:
    """What is known of an optimizer."""

    name: str  # in recipes
    torch: str  # class of torch.optim
    lr: float  # usual learning rate
    batch_size: int  # that the usual rate is for
    family: str  # a rate found for one suits all of its family
    proportional: bool = False  # whether the rate grows as the batch does, else as its root
    momentum: bool = False  # whether it takes the recipe's
    arguments: Mapping[str, object] = field(default_factory=dict)  # others of the class
    fused: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # device -> torch from which
    capturable: bool = False  # in a CUDA graph where it isn't fused, too: torch's argument


class Optimizer(StrEnum):
    """What turns gradients into steps; torch.optim's defaults where a recipe says nothing."""

    info: OptimizerInfo

    def __new__(cls, info: OptimizerInfo) -> Self:
        """The name, as a text, with what is known."""
        member = str.__new__(cls, info.name)
        member._value_ = info.name
        member.info = info
        return member

    SGD = OptimizerInfo(
        name="sgd",
        torch="SGD",
        lr=0.1,  # He et al. 2016, arXiv:1512.03385
        batch_size=128,
        family="sgd",
        proportional=True,
        momentum=True,
        fused=_FUSED,
    )
    NESTEROV = OptimizerInfo(
        name="nesterov",
        torch="SGD",
        lr=0.1,  # Zagoruyko and Komodakis 2016, arXiv:1605.07146
        batch_size=128,
        family="sgd",
        proportional=True,
        momentum=True,
        arguments={"nesterov": True},
        fused=_FUSED,
    )
    ADAM = OptimizerInfo(
        name="adam",
        torch="Adam",
        lr=1e-3,  # Kingma and Ba 2015, arXiv:1412.6980
        batch_size=128,
        family="adam",
        fused=_FUSED,
        capturable=True,
    )
    ADAMW = OptimizerInfo(
        name="adamw",
        torch="AdamW",
        lr=1e-3,  # Loshchilov and Hutter 2019, arXiv:1711.05101
        batch_size=128,
        family="adam",
        fused=_FUSED,
        capturable=True,
    )
    ADADELTA = OptimizerInfo(
        name="adadelta",
        torch="Adadelta",
        lr=0.1,  # FlexRes, 94.12%
        batch_size=32,
        family="adadelta",
        capturable=True,
    )
    ADAGRAD = OptimizerInfo(
        name="adagrad",
        torch="Adagrad",
        lr=0.01,  # torch's default
        batch_size=128,
        family="adagrad",
        fused={"cpu": (2, 11), "cuda": (2, 12)},
    )


def fused_on(device: str, torch: tuple[int, int]) -> frozenset[Optimizer]:
    """The optimizers that are one kernel, which counts its steps on the device.

    Args:
        device: the type, such as ``cuda``.
        torch: its version, as (major, minor).
    """
    return frozenset(
        o for o in Optimizer if device in o.info.fused and torch >= o.info.fused[device]
    )
