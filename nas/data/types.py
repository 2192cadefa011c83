"""Images in memory, ready to train on.

Shapes: N images, C channels, H x W pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nas.architecture import ImageInput
from nas.data.levels import DEEPEST
from nas.errors import RequestError
from nas.runtime.devices import is_out_of_memory
from nas.text import plural


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Images:
    """Images with their labels, all on one device.

    Raises:
        ValueError: the types or lengths do not match.
    """

    pixels_NHWC: Tensor  # uint8
    labels_N: Tensor  # int64, 0..classes-1

    def __post_init__(self) -> None:
        pixels, labels = self.pixels_NHWC, self.labels_N
        if pixels.dtype != torch.uint8 or pixels.dim() != 4:
            raise ValueError(
                f"pixels_NHWC must be uint8 with 4 dimensions, got {pixels.dtype} {pixels.shape}"
            )
        if labels.dtype != torch.int64 or labels.shape != pixels.shape[:1]:
            raise ValueError(
                f"labels_N must be int64, one for each of {plural(len(pixels), 'image')}, "
                f"got {labels.dtype} {labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def largest_share(self) -> float:
        """The share of the class that most images are of: what guessing gets right."""
        return int(self.labels_N.bincount().max()) / len(self)

    def to(self, device: torch.device | str) -> "Images":
        """The same images on that device.

        Raises:
            RequestError: they do not fit into its memory.
        """
        try:
            return Images(self.pixels_NHWC.to(device), self.labels_N.to(device))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise RequestError(
                f"--device: expected room for {self.pixels_NHWC.nbytes / 1e6:,.0f} MB of images on "
                f"{device}, got an out-of-memory error; free memory there, or name another device"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestPart:
    """The test part of a dataset, for a final result and nothing else."""

    images: Images
    notes: tuple[str, ...] = ()  # what a reader must know of these images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageDataset:
    """What a search may see of a dataset: its training and validation part, not its test part.

    Raises:
        ValueError: classes, means or standard deviations do not match the input.
    """

    name: str
    input: ImageInput
    classes: tuple[str, ...]  # in label order
    train: Images
    validation: Images
    test_images: int  # how many there are; they are not here
    mean: tuple[float, ...]  # per channel, 0..1; of the training part, whatever the subset
    std: tuple[float, ...]  # likewise; above 0
    horizontal_flip: bool  # whether a mirrored image still shows its class
    digest: str  # 16 hex digits: which images are trained and validated on, before the subset
    subset: float  # share of the training part that `train` holds
    split_seed: int
    notes: tuple[str, ...] = ()  # what a reader must know, such as a fallback to other data
    bits: int = DEEPEST  # 8 to 16: those in use in gray images of more than 8

    def __post_init__(self) -> None:
        if len(self.classes) != self.input.classes:
            raise ValueError(
                f"classes must be {plural(self.input.classes, 'name')}, got {len(self.classes)}"
            )
        if not len(self.mean) == len(self.std) == self.input.channels:
            raise ValueError(
                f"mean and std must have {plural(self.input.channels, 'value')}, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")

    def to(self, device: torch.device | str) -> "ImageDataset":
        """The same dataset with its images on that device.

        Raises:
            RequestError: they do not fit into its memory.
        """
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))
