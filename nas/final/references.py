"""What others published for CIFAR-10, to compare with.

All are test accuracies of other trainings: other recipes, lengths, and often the best of many looks
at the test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DATASET = "cifar10"
"""Where all of them were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published test accuracy."""

    accuracy: float  # 0..1
    source: str  # with what was special about the training
    parameters: int | None = None  # as published, of a design that is no preset


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

LITERATURE: Mapping[str, Published] = MappingProxyType(
    {
        "ResNet-110": Published(
            accuracy=0.9357, source="He et al. 2016, 164 epochs", parameters=1_700_000
        ),
        "WRN-40-2": Published(
            accuracy=0.947,
            source="Zagoruyko and Komodakis 2016, 200 epochs",
            parameters=2_240_000,
        ),
        "WRN-40-2, AutoAugment": Published(
            accuracy=0.963, source="Cubuk et al. 2019, with a learned policy", parameters=2_240_000
        ),
        "Shake-Shake 26 2x32d": Published(
            accuracy=0.9645, source="Gastaldi 2017, 1,800 epochs", parameters=2_900_000
        ),
        "NASNet-A": Published(
            accuracy=0.9735, source="Zoph et al. 2018, with cutout", parameters=3_300_000
        ),
        "DARTS v2": Published(
            accuracy=0.9724, source="Liu et al. 2019, with cutout", parameters=3_300_000
        ),
        "PC-DARTS": Published(
            accuracy=0.9743, source="Xu et al. 2020, with cutout", parameters=3_600_000
        ),
        "PyramidNet-110 a84": Published(
            accuracy=0.9574, source="Han et al. 2017, 300 epochs", parameters=3_800_000
        ),
    }
)
"""By name: networks of other families, parameters rounded as published."""
