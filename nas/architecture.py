"""What a design is: pure data, validated once, with one canonical key per network.

The network (He et al. 2016, arXiv:1512.03385, with the pooled head of the CIFAR variants)::

    image -> stem: conv 3x3 (stride 1) - BN - ReLU
          -> stage i = 1..N: B_i blocks
             block(x) = ReLU(shortcut(x) + BN(conv F_i x F_i(ReLU(BN(conv F_i x F_i(x))))))
             the first block of a stage carries the stage's stride; padding keeps the size
             shortcut: identity when the shape is kept, else conv K_i x K_i with that stride - BN
          -> average pool P x P (stride P, floor) -> flatten -> linear with bias
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from nas.text import plural
from nas.values import LARGEST, flag, keep_plain, several, whole

STEM_KERNEL = 3
MAX_BLOCKS = 1000  # of a stage; ResNet-1202, the deepest in use, has 200
NAME_BYTES = 8  # of a class, where its name is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """What a network reads and answers: image shape and number of classes.

    Raises:
        ValueError: a value is not a whole number of at least 1.
    """

    channels: int
    height: int  # pixels
    width: int  # pixels
    classes: int
    name_bytes: int = field(default=0, compare=False, repr=False)  # of all names, above 8 a class

    def __post_init__(self) -> None:
        keep_plain(self, dict.fromkeys(("channels", "height", "width", "classes"), whole))
        keep_plain(self, {"name_bytes": partial(whole, least=0)})

    @classmethod
    def named(cls, shape: tuple[int, int, int], classes: Sequence[str]) -> "ImageInput":
        """Images of (channels, height, width), with the names of their classes known."""
        channels, height, width = shape
        size = sum(len(name.encode(errors="surrogatepass")) for name in classes)
        return cls(
            channels=channels,
            height=height,
            width=width,
            classes=len(classes),
            name_bytes=max(0, size - NAME_BYTES * len(classes)),
        )

    def __str__(self) -> str:
        size = f"{self.channels}x{self.height}x{self.width}"
        return f"{size}, {plural(self.classes, 'class', 'classes')}"


@dataclass(frozen=True, slots=True)
class Field:
    """What every design says of itself; spaces, options, records and tables loop over these."""

    name: str  # of the field of `Architecture`
    letter: str
    example: str  # as typed on the command line
    default: int | None = None  # of all stages, where a person says nothing


STAGE_FIELDS = (
    Field("blocks", "B", "2,1,1,1"),
    Field("channels", "C", "64,128,256,512"),
    Field("kernels", "F", "3", default=3),
    Field("shortcut_kernels", "K", "1", default=1),
)
"""Those with a value per stage, in the order in which they are proposed."""

FIELDS = (*STAGE_FIELDS, Field("pool", "P", "4"))
FIELD_NAMES = tuple(field.name for field in FIELDS)
LETTERS = {"stages": "N", **{field.name: field.letter for field in FIELDS}}
"""The choices of a design, and the letter by which each is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One residual network, described. All per-stage fields have one entry per stage.

    Raises:
        ValueError: a field is out of range, or the per-stage lists differ in length.
    """

    blocks: tuple[int, ...]  # B
    channels: tuple[int, ...]  # C
    kernels: tuple[int, ...]  # F, odd
    shortcut_kernels: tuple[int, ...]  # K, odd; inert in a stage without a projection
    pool: int  # P
    strides: tuple[int, ...] = ()  # empty: 1, 2, 2, ...
    stem_channels: int = 0  # 0: the channels of the first stage
    stem_bias: bool = False
    shortcut_norm: bool = True  # BN after a projection

    def __post_init__(self) -> None:
        lists = {
            name: several(name, getattr(self, name), "whole numbers, one per stage")
            for name in (*(field.name for field in STAGE_FIELDS), "strides")
        }
        stages = len(lists["blocks"])
        if stages == 0:
            raise ValueError("blocks must name at least one stage, got an empty list")
        lists["strides"] = lists["strides"] or (1,) + (2,) * (stages - 1)
        for name, given in lists.items():
            most = MAX_BLOCKS if name == "blocks" else LARGEST
            values = tuple(whole(name, value, most=most) for value in given)
            if len(values) != stages:
                raise ValueError(
                    f"{name} must have one value per stage: {stages} as in "
                    f"blocks={_joined(self.blocks)}, got {len(values)} ({_joined(values)})"
                )
            for value in values:
                if name.endswith("kernels") and value % 2 == 0:
                    raise ValueError(f"{name} must be odd, such as 1, 3 or 5, got {value}")
            object.__setattr__(self, name, values)
        keep_plain(self, {"pool": whole, "stem_bias": flag, "shortcut_norm": flag})
        stem_channels = whole("stem_channels", self.stem_channels, 0) or self.channels[0]
        object.__setattr__(self, "stem_channels", stem_channels)

    @property
    def stages(self) -> int:
        """N, the number of stages."""
        return len(self.blocks)

    @property
    def projections(self) -> tuple[bool, ...]:
        """Per stage: whether its first shortcut has weights, since the shape changes there."""
        inputs = (self.stem_channels, *self.channels)
        return tuple(
            stride != 1 or before != after
            for stride, before, after in zip(self.strides, inputs, self.channels, strict=False)
        )

    def canonical(self) -> "Architecture":
        """The same network in its one canonical form.

        Inert choices get their plainest value, and a stage that only continues the one before it
        (stride 1, same channels and kernel) becomes part of it.
        """
        stages: list[tuple[int, ...]] = []  # B, C, F, K and stride
        for b, c, f, k, s, projection in zip(
            self.blocks,
            self.channels,
            self.kernels,
            self.shortcut_kernels,
            self.strides,
            self.projections,
            strict=True,
        ):
            if stages and not projection and f == stages[-1][2]:
                before = stages.pop()
                stages.append((before[0] + b, *before[1:]))
            else:
                stages.append((b, c, f, k if projection else 1, s))
        blocks, channels, kernels, shortcut_kernels, strides = zip(*stages, strict=True)
        return replace(
            self,
            blocks=blocks,
            channels=channels,
            kernels=kernels,
            shortcut_kernels=shortcut_kernels,
            strides=strides,
            shortcut_norm=self.shortcut_norm or not any(self.projections),
        )

    @property
    def key(self) -> str:
        """Equal for two designs exactly when they build the same network."""
        return str(self.canonical())

    def __str__(self) -> str:
        """The design in one line, in the field's letters; choices at their default are left out."""
        return self._notation(STAGE_FIELDS)

    @property
    def brief(self) -> str:
        """The same without the kernels where all of them are at their default: B2,2 C32,64 P4."""
        return self._notation(
            [f for f in STAGE_FIELDS if set(getattr(self, f.name)) != {f.default}]
        )

    def _notation(self, fields: Sequence[Field]) -> str:
        parts = [f"{f.letter}{_joined(getattr(self, f.name))}" for f in fields]
        parts.append(f"P{self.pool}")
        if self.strides != (1,) + (2,) * (self.stages - 1):
            parts.append(f"strides{_joined(self.strides)}")
        if self.stem_channels != self.channels[0] or self.stem_bias:
            parts.append(f"stem{self.stem_channels}{'+bias' if self.stem_bias else ''}")
        if not self.shortcut_norm:
            parts.append("shortcuts-without-BN")
        return " ".join(parts)


def stage_sizes(architecture: Architecture, input: ImageInput) -> list[tuple[int, int]]:
    """Height and width of every stage's maps, in pixels: a stride divides, rounding up."""
    height, width = input.height, input.width
    sizes = []
    for stride in architecture.strides:
        height, width = -(-height // stride), -(-width // stride)
        sizes.append((height, width))
    return sizes


def head_size(architecture: Architecture, input: ImageInput) -> tuple[int, int]:
    """Height and width of the pooled map that the classifier reads.

    Raises:
        ValueError: the pool is larger than the last map.
    """
    height, width = stage_sizes(architecture, input)[-1]
    if architecture.pool > min(height, width):
        raise ValueError(
            f"pool must be in 1..{min(height, width)}, since the last map of this design is "
            f"{height}x{width} for {input.height}x{input.width} images, got {architecture.pool}"
        )
    return height // architecture.pool, width // architecture.pool


def _joined(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _plain(blocks: tuple[int, ...], channels: tuple[int, ...], pool: int) -> Architecture:
    stages = len(blocks)
    return Architecture(
        blocks=blocks,
        channels=channels,
        kernels=(3,) * stages,
        shortcut_kernels=(1,) * stages,
        pool=pool,
    )


_WIDE = (64, 128, 256, 512)

PRESETS: Mapping[str, Architecture] = MappingProxyType(
    {
        "resnet18": _plain((2, 2, 2, 2), _WIDE, 4),
        "resnet10": _plain((1, 1, 1, 1), _WIDE, 4),
        "resnet12": _plain((2, 1, 1, 1), _WIDE, 4),
        "resnet12-1211": _plain((1, 2, 1, 1), _WIDE, 4),
        "resnet14": _plain((3, 1, 1, 1), _WIDE, 4),
        "resnet20": _plain((3, 3, 3), (16, 32, 64), 8),
        "mlperf-tiny-resnet": _plain((1, 1, 1), (16, 32, 64), 8),
        "flexres10": _plain((1, 1, 1, 1), _WIDE, 4),
        "flexres18": _plain((2, 2, 2, 2), (64, 157, 211, 270), 4),
        "flexres20": _plain((2, 2, 2, 3), (64, 128, 185, 245), 4),
        "flexres22-1": _plain((3, 3, 2, 3), (64, 128, 128, 256), 4),
        "flexres22-2": _plain((3, 2, 3, 2), (64, 128, 192, 256), 4),
        "flexres32": _plain((4, 4, 4, 3), (32, 64, 128, 256), 4),
        "resnet18-narrow-stem": Architecture(
            blocks=(2, 2, 2, 2),
            channels=_WIDE,
            kernels=(3, 3, 3, 3),
            shortcut_kernels=(1, 1, 1, 1),
            pool=2,
            strides=(2, 2, 2, 2),
            stem_channels=32,
            stem_bias=True,
            shortcut_norm=False,
        ),
    }
)
"""The hand-made networks that the project compares with, for 32x32 images of 10 classes."""
