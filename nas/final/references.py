"""What others published for the reference designs, to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published test accuracy; on CIFAR-10."""

    accuracy: float  # 0..1
    source: str  # with what was special about the training


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "resnet18": Published(
            accuracy=0.9302, source="kuangliu/pytorch-cifar, its best epoch on the test set"
        ),
        "resnet20": Published(accuracy=0.9125, source="He et al. 2016, 164 epochs"),
        "flexres10": Published(accuracy=0.8785, source="FlexRes, 20 epochs"),
        "flexres18": Published(accuracy=0.8335, source="FlexRes, 20 epochs"),
        "flexres20": Published(accuracy=0.8363, source="FlexRes, 20 epochs"),
        "flexres22-2": Published(accuracy=0.9412, source="FlexRes, 400 epochs with mixup"),
        "flexres32": Published(accuracy=0.8280, source="FlexRes, 20 epochs"),
        "resnet18-narrow-stem": Published(
            accuracy=0.8243, source="student report, 10 epochs without augmentation"
        ),
    }
)
"""By the name of the preset; the designs of nas.architecture.PRESETS."""
