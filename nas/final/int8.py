"""Int8 files of the exported network: made from training images, judged on the validation images.

Shapes: N images, I validation images.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.types import ImageDataset, Images
from nas.export.formats import CALIBRATION, FORMATS, Format
from nas.export.int8_files import Int8Files, Quantized, int8_files
from nas.export.spec import ModelError, ModelSpec
from nas.final import words
from nas.final.records import Int8Accuracy, Int8Record
from nas.model import ResNet
from nas.space import Limits
from nas.training.evaluation import predict

Right = NDArray[np.bool_]
"""Which images a network classifies rightly, (N,)."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An int8 network that loses little on the validation images, and its files."""

    files: Int8Files
    validation: Int8Accuracy

    def records(self, test: Int8Accuracy | None = None) -> list[Int8Record]:
        """A record of each file."""
        return [
            Int8Record(
                file=name,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                validation=self.validation,
                test=test,
            )
            for name, content in self.files.contents.items()
        ]


@dataclass(frozen=True, slots=True)
class Int8:
    """What came of making int8 files."""

    accepted: tuple[Accepted, ...]
    refused: tuple[str, ...]  # why there is no file, a line for each network

    @property
    def networks(self) -> tuple[Quantized, ...]:
        """The int8 networks, one for each of `accepted`."""
        return tuple(one.files.network for one in self.accepted)

    @property
    def contents(self) -> dict[str, bytes]:
        """The files by their names."""
        return {n: c for one in self.accepted for n, c in one.files.contents.items()}


def make_int8(
    names: Iterable[str],
    network: ResNet,
    spec: ModelSpec,
    dataset: ImageDataset,
    *,
    on: str,
    limits: Limits,
    most: float,
) -> Int8:
    """The int8 files of a trained network that lose little accuracy on the validation images.

    The ranges of int8 are found on training images. No test image is read.

    Args:
        names: of the formats.
        network: trained, on the CPU.
        spec: what it reads and answers.
        dataset: that it was trained on.
        on: the part of it.
        limits: of the study; a file for a microcontroller must not be above that of flash.
        most: percentage points of validation accuracy that may be lost.
    """
    groups: dict[str, list[Format]] = {}  # by what makes them: each makes one int8 network
    for format in map(FORMATS.__getitem__, names):
        groups.setdefault(format.package, []).append(format)
    accepted, refused = [], []
    validation = dataset.validation
    in_float_I: Right | None = None
    for formats in groups.values():
        called = " and ".join(format.file for format in formats)
        try:
            files = int8_files(formats, network, spec, calibration_images(dataset))
        except ModelError as error:
            refused.append(f"{called}: {error}")
            continue
        most_flash = limits.get("flash")
        if files.flash is not None and most_flash is not None and files.flash > most_flash:
            refused.append(words.int8_too_large(called, files.flash, most_flash))
            continue
        if in_float_I is None:
            in_float_I = right_answers(predict(network, validation, dataset), validation)
        right_I = right_in_int8(files.network, validation)
        accuracy = Int8Accuracy.of(right_I, in_float_I)
        if round(100 * accuracy.lost.value, 9) > most:
            images = words.validation_images(len(validation), on)
            refused.append(words.int8_refused(called, accuracy, images, most))
        else:
            accepted.append(Accepted(files, accuracy))
    return Int8(tuple(accepted), tuple(refused))


def calibration_images(dataset: ImageDataset) -> Tensor:
    """The training images that the ranges of int8 are found on, uint8, (N, C, H, W).

    They are spread evenly over the training part, which may be sorted by class.
    """
    images = dataset.train
    number = min(CALIBRATION, len(images))
    chosen_N = torch.arange(number) * len(images) // number
    return _channels_first(images.pixels_NHWC.cpu()[chosen_N])


def right_in_int8(network: Quantized, images: Images) -> Right:
    """Which images an int8 network classifies rightly."""
    return right_answers(network.logits(_channels_first(images.pixels_NHWC.cpu())), images)


def right_answers(logits_NK: Tensor, images: Images) -> Right:
    """Which images are classified rightly by these logits."""
    right_N: Right = (logits_NK.cpu().argmax(dim=1) == images.labels_N.cpu()).numpy()
    return right_N


def _channels_first(pixels_NHWC: Tensor) -> Tensor:
    return pixels_NHWC.permute(0, 3, 1, 2).contiguous()
