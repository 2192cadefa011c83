"""Datasets by name: `load_dataset` for a search, `load_test` for the one final look.

The test part leaves this package through `load_test` alone; `load_dataset` never asks a source for
it. Shapes: N images, C channels, H x W pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas.architecture import ImageInput
from nas.data import download
from nas.data.catalogue import DataError
from nas.data.sources import Part, Source, open_auto, open_source
from nas.data.split import Purpose, draw, validation_share
from nas.data.types import ImageDataset, Images, TestPart
from nas.numbers import percent

# Largest class over smallest from which the classes are called unbalanced: with two classes always
# giving the same answer is then right for 3 of 4 images. SVHN has 2.98.
UNBALANCED = 3
FEW = 10  # training images per class, below which a subset trains on almost nothing

_CHUNK = 4096  # images counted at a time: NumPy counts 8-byte copies of the pixels


def load_dataset(
    name: str,
    data_dir: Path,
    *,
    split_seed: int = 0,
    subset: float = 1.0,
    skip_broken: bool = False,
) -> ImageDataset:
    """The training and validation part of a dataset; no test image is decoded.

    The validation part is a stratified tenth of the training images, or a fifth where they are
    fewer than 20,000. It depends on the images and the split seed alone. `auto` gives CIFAR-10, or
    the bundled digits with a note where CIFAR-10 cannot be had.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: where the dataset lies, or is downloaded to.
        split_seed: which images are validated on, at least 0.
        subset: share of each class of the training part to keep, above 0 up to 1; at least one
            image of each class stays.
        skip_broken: whether files of a folder that are no readable images are left out, with a
            note, instead of refused.

    Raises:
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
    """
    if not 0 < subset <= 1:
        raise DataError(f"expected a subset above 0 and up to 1, got {subset}: use 1 for all")
    if split_seed < 0:
        raise DataError(f"expected a split seed of at least 0, got {split_seed}: use 0, 1, 2, ...")
    if name != "auto":
        source = open_source(name, data_dir, split_seed=split_seed, skip_broken=skip_broken)
        return _load(source, split_seed=split_seed, subset=subset)
    source = open_auto(data_dir, split_seed=split_seed, skip_broken=skip_broken)
    try:
        return _load(source, split_seed=split_seed, subset=subset)
    except download.DownloadError as error:
        note = (
            f"CIFAR-10 is not in {data_dir} and could not be downloaded ({error.reason}): "
            "taking the bundled handwritten digits instead"
        )
    digits = load_dataset("digits", data_dir, split_seed=split_seed, subset=subset)
    return replace(digits, notes=(note, *source.notes, *digits.notes))


def load_test(
    name: str, data_dir: Path, *, split_seed: int = 0, skip_broken: bool = False
) -> TestPart:
    """The test part: the only way to a test image, for a final result and nothing else.

    Args:
        name: as `ImageDataset.name` says; `auto` is refused, since it may have become another.
        data_dir: as for `load_dataset`.
        split_seed: as for `load_dataset`; matters where the test part was drawn from the rest.
        skip_broken: as for `load_dataset`.

    Raises:
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
    """
    if name == "auto":
        raise DataError("expected the name of a dataset to test on, got 'auto': name the dataset")
    source = open_source(name, data_dir, split_seed=split_seed, skip_broken=skip_broken)
    part = source.read_test()
    images = Images(torch.from_numpy(part.pixels_NCHW), torch.from_numpy(part.labels_N))
    return TestPart(images=images, left_out=part.left_out, notes=part.notes)


def _load(source: Source, *, split_seed: int, subset: float) -> ImageDataset:
    part = source.read_train()
    labels_N = part.labels_N
    share = validation_share(len(labels_N))
    validating_N = draw(labels_N, share, seed=split_seed, purpose=Purpose.VALIDATION)
    training_N = ~validating_N
    mean, std = _mean_and_std(part.pixels_NCHW, training_N)
    notes = [
        *source.notes,
        *part.notes,
        *_note_on_balance(source.classes, labels_N[training_N], labels_N[validating_N]),
    ]
    if subset < 1:
        members = np.flatnonzero(training_N)
        kept = draw(labels_N[members], subset, seed=split_seed, purpose=Purpose.SUBSET)
        training_N[members[~kept]] = False
        left, classes = int(training_N.sum()), len(source.classes)
        if left < FEW * classes:
            notes.append(
                f"a subset of {subset:g} leaves {left:,} training images for {classes} classes, "
                f"fewer than {FEW} for each: accuracies will say little"
            )
    _, channels, height, width = part.pixels_NCHW.shape
    return ImageDataset(
        name=source.name,
        input=ImageInput(
            channels=channels, height=height, width=width, classes=len(source.classes)
        ),
        classes=source.classes,
        train=_images(part, training_N),
        validation=_images(part, validating_N),
        test_images=source.test_images,
        mean=mean,
        std=std,
        horizontal_flip=source.horizontal_flip,
        digest=_digest(part),
        subset=subset,
        split_seed=split_seed,
        notes=tuple(notes),
    )


def _note_on_balance(
    classes: Sequence[str], training_N: NDArray[np.int64], validating_N: NDArray[np.int64]
) -> list[str]:
    """What an accuracy hides where one class has many more images than another.

    Args:
        classes: their names.
        training_N: labels of the training part.
        validating_N: labels of the validation part.
    """
    counts = np.bincount(training_N, minlength=len(classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNBALANCED * counts[least]:
        return []
    share = float(np.mean(validating_N == most))
    return [
        f"the classes are unbalanced: {counts[most]:,} training images of {classes[most]}, "
        f"{counts[least]:,} of {classes[least]}. Always answering {classes[most]} would reach "
        f"{percent(share)} validation accuracy, so a high accuracy can hide errors on rare classes"
    ]


def _images(part: Part, chosen_N: NDArray[np.bool_]) -> Images:
    return Images(
        torch.from_numpy(part.pixels_NCHW[chosen_N]), torch.from_numpy(part.labels_N[chosen_N])
    )


def _mean_and_std(
    pixels_NCHW: NDArray[np.uint8], chosen_N: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, 0..1; a channel without contrast has a standard deviation of 1."""
    channels = pixels_NCHW.shape[1]
    counts = np.zeros((channels, 256))
    for start in range(0, len(pixels_NCHW), _CHUNK):
        chunk = pixels_NCHW[start : start + _CHUNK][chosen_N[start : start + _CHUNK]]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = shares @ values
    variance = shares @ values**2 - mean**2
    # Below the variance of a single odd pixel in a million million, it is rounding.
    std = np.where(variance > 1e-15, np.sqrt(np.maximum(variance, 0)), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _digest(part: Part) -> str:
    digest = hashlib.sha256(str(part.pixels_NCHW.shape).encode())
    digest.update(part.labels_N.tobytes())
    digest.update(np.ascontiguousarray(part.pixels_NCHW).data)
    return digest.hexdigest()[:16]
