"""Datasets by name: `load_dataset` for a search, `load_test` for the one final look.

The test part leaves this package through `load_test` alone; `load_dataset` never asks a source for
it. Shapes: N images, C channels, H x W pixels.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas.architecture import ImageInput
from nas.data import download
from nas.data.catalogue import DataError
from nas.data.sources import (
    Part,
    Source,
    open_auto,
    open_source,
)
from nas.data.split import Purpose, draw, validation_share
from nas.data.types import ImageDataset, Images

_CHUNK = 4096  # images counted at a time: NumPy counts 8-byte copies of the pixels


def load_dataset(
    name: str, data_dir: Path, *, split_seed: int = 0, subset: float = 1.0
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

    Raises:
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
    """
    if not 0 < subset <= 1:
        raise DataError(f"expected a subset above 0 and up to 1, got {subset}: use 1 for all")
    if split_seed < 0:
        raise DataError(f"expected a split seed of at least 0, got {split_seed}: use 0, 1, 2, ...")
    if name != "auto":
        source = open_source(name, data_dir, split_seed=split_seed)
        return _load(source, split_seed=split_seed, subset=subset)
    source = open_auto(data_dir, split_seed=split_seed)
    try:
        return _load(source, split_seed=split_seed, subset=subset)
    except download.DownloadError as error:
        note = (
            f"CIFAR-10 is not in {data_dir} and could not be downloaded ({error.reason}): "
            "taking the bundled handwritten digits instead"
        )
    digits = load_dataset("digits", data_dir, split_seed=split_seed, subset=subset)
    return replace(digits, notes=(note, *source.notes, *digits.notes))


def load_test(name: str, data_dir: Path, *, split_seed: int = 0) -> Images:
    """The test part: the only way to a test image, for a final result and nothing else.

    Args:
        name: as `ImageDataset.name` says; `auto` is refused, since it may have become another.
        data_dir: as for `load_dataset`.
        split_seed: as for `load_dataset`; matters where the test part was drawn from the rest.

    Raises:
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
    """
    if name == "auto":
        raise DataError("expected the name of a dataset to test on, got 'auto': name the dataset")
    part = open_source(name, data_dir, split_seed=split_seed).read_test()
    return Images(torch.from_numpy(part.pixels_NCHW), torch.from_numpy(part.labels_N))


def _load(source: Source, *, split_seed: int, subset: float) -> ImageDataset:
    part = source.read_train()
    labels_N = part.labels_N
    share = validation_share(len(labels_N))
    validating_N = draw(labels_N, share, seed=split_seed, purpose=Purpose.VALIDATION)
    training_N = ~validating_N
    mean, std = _mean_and_std(part.pixels_NCHW, training_N)
    if subset < 1:
        members = np.flatnonzero(training_N)
        kept = draw(labels_N[members], subset, seed=split_seed, purpose=Purpose.SUBSET)
        training_N[members[~kept]] = False
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
        notes=(*source.notes, *part.notes),
    )


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
