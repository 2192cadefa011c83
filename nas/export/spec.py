"""What an exported network is beside its weights: pure data, as `architecture.json` holds it.

Whoever has this description and the weights can compute the same logits without this package.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.architecture import Architecture, ImageInput, head_size
from nas.counting import count_parameters
from nas.text import in_one_line, plural
from nas.values import real, several, text, whole

WEIGHTS = "model.safetensors"
DESCRIPTION = "architecture.json"
GRAPH = "model.onnx"
METRICS = "metrics.json"
CARD = "README.md"

_FORMAT = "nas model"
_VERSION = 1


class ModelError(ValueError):
    """A model folder cannot be used: what was expected, what came, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A network's design, what it reads and what its answers mean.

    Raises:
        ValueError: the fields do not belong together.
    """

    architecture: Architecture
    input: ImageInput
    classes: tuple[str, ...]  # in label order
    mean: tuple[float, ...]  # per channel, of pixels divided by 255
    std: tuple[float, ...]  # likewise; above 0
    bits: int = 16  # in use in gray images of more than 8 bits; older models take 16

    def __post_init__(self) -> None:
        channels = self.input.channels
        if channels not in (1, 3):
            raise ValueError(f"input must have 1 channel (gray) or 3 (RGB), got {channels}")
        head_size(self.architecture, self.input)
        names = several("classes", self.classes, "names")
        object.__setattr__(self, "classes", tuple(text("classes", name) for name in names))
        if len(self.classes) != self.input.classes:
            expected = plural(self.input.classes, "name")
            raise ValueError(f"classes must be {expected}, got {len(self.classes)}")
        for name, above in (("mean", None), ("std", 0)):
            given = several(name, getattr(self, name), "numbers, one per channel")
            values = tuple(real(name, value, above=above) for value in given)
            if len(values) != channels:
                raise ValueError(f"{name} must have a number per channel, got {list(values)}")
            object.__setattr__(self, name, values)
        object.__setattr__(self, "bits", whole("bits", self.bits, 8, 16))

    @property
    def preparation(self) -> str:
        """What is done to an image file before the network, in one sentence of steps."""
        color = "gray" if self.input.channels == 1 else "RGB"
        if self.bits < 16:
            color += f" (of gray pixels of 16 bits: pixel / {1 << (self.bits - 8)}, at most 255)"
        return (
            "decode; apply the EXIF orientation; lay transparent images over white; "
            f"convert to 8-bit {color}; resize to cover {self.input.height}x{self.input.width} "
            "pixels (height x width) with a bicubic filter and crop the centre; per channel "
            "(pixel / 255 - mean) / std"
        )

    def check_network(self, architecture: Architecture, input: ImageInput) -> None:
        """Refuses a network of another design, or with other images or classes.

        Raises:
            ValueError: it is not the one described.
        """
        if (architecture, input) != (self.architecture, self.input):
            raise ValueError(
                f"network must be {self.architecture} for {self.input}, "
                f"got {architecture} for {input}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` makes the same description of them."""
        input = self.input
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "design": str(self.architecture),
            "parameters": count_parameters(self.architecture, input),
            "architecture": dataclasses.asdict(self.architecture),
            "input": {n: getattr(input, n) for n in ("channels", "height", "width", "classes")},
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "preparation": {
                "in_words": self.preparation,
                "orientation": "exif",
                "transparency": "over white",
                "mode": "L" if input.channels == 1 else "RGB",
                "resize": "cover, centre crop",
                "bits": self.bits,
                "resampling": "bicubic",
                "divide_by": 255,
            },
        }

    @classmethod
    def from_dict(cls, document: object) -> "ModelSpec":
        """The description that `to_dict` wrote.

        Raises:
            ModelError: it is of another version, or no such description.
        """
        if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
            raise ModelError("expected the description of a model exported by nas, got another")
        if document.get("version") != _VERSION:
            raise ModelError(
                f"expected a model of version {_VERSION}, got version "
                f"{str(document.get('version'))[:40]}"
            )
        try:
            return cls(
                architecture=Architecture(**document["architecture"]),
                input=ImageInput(**document["input"]),
                classes=document["classes"],
                mean=document["mean"],
                std=document["std"],
                bits=document.get("preparation", {}).get("bits", 16),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ModelError(
                "expected the description of a model exported by nas, got a damaged one "
                f"({type(error).__name__}: {in_one_line(error)[:160]})"
            ) from error
