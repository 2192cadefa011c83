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

from nas import values
from nas.architecture import ImageInput
from nas.data import download
from nas.data.catalogue import DataError
from nas.data.duplicates import digests_of, first_of_each, of_two_classes
from nas.data.notes import (
    note_on_balance,
    note_on_contrast,
    note_on_duplicates,
    note_on_levels,
    note_on_subset,
)
from nas.data.sources import Part, Source, open_auto, open_source
from nas.data.split import Purpose, draw, validation_share
from nas.data.types import ImageDataset, Images, TestPart
from nas.text import plural

_CHUNK = 4096  # images at a time, of which copies are made: to count them, of 8 bytes a pixel


def load_dataset(
    name: str,
    data_dir: Path | str,
    *,
    split_seed: int = 0,
    subset: float = 1.0,
    skip_broken: bool = False,
    drop_duplicates: bool = False,
) -> ImageDataset:
    """The training and validation part of a dataset; no test image is decoded.

    The validation part is a stratified tenth of the training images, or a fifth where they are
    fewer than 20,000. It depends on the images and the split seed alone. `auto` gives CIFAR-10, or
    the bundled digits with a note where CIFAR-10 cannot be had.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: where the dataset is, or is downloaded to.
        split_seed: which images are validated on, at least 0.
        subset: share of each class of the training part to keep, above 0 up to 1; at least one
            image of each class stays.
        skip_broken: whether files of a folder that are not readable images are left out, with a
            note, instead of refused.
        drop_duplicates: whether of images with equal pixels only the first is kept, before the
            validation part is drawn, and none of those that are of two classes.

    Raises:
        RequestError: `split_seed` or `subset` is out of range.
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
        PackageError: a package that reads it cannot be imported.
    """
    subset, split_seed = values.share("subset", subset), values.seed("split_seed", split_seed)
    data_dir = Path(data_dir)
    if name == "auto":
        source = open_auto(data_dir, split_seed=split_seed, skip_broken=skip_broken)
    else:
        source = open_source(name, data_dir, split_seed=split_seed, skip_broken=skip_broken)
    try:
        return _load(source, split_seed, subset, drop_duplicates)
    except download.DownloadError as error:
        if name != "auto":
            raise
        note = (
            f"CIFAR-10 is not in {data_dir} and could not be downloaded ({error.reason}): using "
            "the bundled handwritten digits instead"
        )
    digits = open_source("digits", data_dir, split_seed=split_seed)
    digits = replace(digits, notes=(note, *source.notes))
    return _load(digits, split_seed, subset, drop_duplicates)


def load_test(
    name: str, data_dir: Path, *, split_seed: int = 0, skip_broken: bool = False
) -> TestPart:
    """The test part: the only way to a test image, for a final result and nothing else.

    Arguments are those of `load_dataset`, but for `auto`, which may have become another dataset.

    Raises:
        DataError: the dataset is not there, cannot be downloaded or cannot be used.
    """
    if name == "auto":
        raise DataError("expected the name of a dataset to test on, got 'auto': name the dataset")
    source = open_source(name, data_dir, split_seed=split_seed, skip_broken=skip_broken)
    part = source.read_test()
    images = Images(torch.from_numpy(part.pixels_NHWC), torch.from_numpy(part.labels_N))
    return TestPart(images=images, notes=part.notes)


def _load(source: Source, split_seed: int, subset: float, drop_duplicates: bool) -> ImageDataset:
    part = source.read_train()
    first_N = first_of_each(digests_of(part.pixels_NHWC))
    if drop_duplicates:
        part = _without_duplicates(part, first_N, source.classes)
        first_N = np.arange(len(part.labels_N))
    labels_N = part.labels_N
    share = validation_share(len(labels_N))
    validating_N = draw(labels_N, share, seed=split_seed, purpose=Purpose.VALIDATION)
    training_N = ~validating_N
    counts_CL = _level_counts(part.pixels_NHWC, training_N)
    mean, std = _mean_and_std(counts_CL)
    notes = [
        *source.notes,
        *part.notes,
        *note_on_contrast(part.pixels_NHWC),
        *note_on_levels(counts_CL),
        *note_on_duplicates(first_N, labels_N, validating_N),
        *note_on_balance(source.classes, labels_N[training_N], labels_N[validating_N]),
    ]
    _, height, width, channels = part.pixels_NHWC.shape
    whole = ImageDataset(
        name=source.name,
        input=ImageInput.named((channels, height, width), source.classes),
        classes=source.classes,
        train=_images(part, training_N),
        validation=_images(part, validating_N),
        test_images=source.test_images,
        mean=mean,
        std=std,
        horizontal_flip=source.horizontal_flip,
        digest=_digest(part),
        subset=1.0,
        split_seed=split_seed,
        notes=tuple(notes),
        bits=part.bits,
    )
    return reduced(whole, subset)


def reduced(dataset: ImageDataset, subset: float) -> ImageDataset:
    """A whole dataset with a share of each class of its training part, as `load_dataset` gives it.

    At least one image of each class stays.
    """
    if subset == 1:
        return dataset
    labels_N = dataset.train.labels_N
    kept_N = torch.from_numpy(
        draw(labels_N.numpy(), subset, seed=dataset.split_seed, purpose=Purpose.SUBSET)
    )
    train = Images(dataset.train.pixels_NHWC[kept_N], labels_N[kept_N])
    notes = note_on_subset(subset, len(train), len(dataset.classes))
    return replace(dataset, train=train, subset=subset, notes=(*dataset.notes, *notes))


def _without_duplicates(part: Part, first_N: NDArray[np.int64], classes: Sequence[str]) -> Part:
    """The part with one image of those that are equal, and none of those of two classes."""
    kept_N = (first_N == np.arange(len(first_N))) & ~of_two_classes(first_N, part.labels_N)
    if kept_N.all():
        return part
    counts = np.bincount(part.labels_N[kept_N], minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise DataError(
            f"expected at least 2 different training images of {name}, got {counts.min()} without "
            "the duplicates: add images, or leave out --drop-duplicates"
        )
    dropped = plural(int((~kept_N).sum()), "duplicate training image")
    return replace(
        part,
        pixels_NHWC=part.pixels_NHWC[kept_N],
        labels_N=part.labels_N[kept_N],
        notes=(*part.notes, f"left out: {dropped}"),
    )


def _images(part: Part, chosen_N: NDArray[np.bool_]) -> Images:
    return Images(
        torch.from_numpy(part.pixels_NHWC[chosen_N]), torch.from_numpy(part.labels_N[chosen_N])
    )


def _level_counts(pixels_NHWC: NDArray[np.uint8], chosen_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many pixels of the chosen images have each of the 256 levels, per channel."""
    channels = pixels_NHWC.shape[3]
    counts_CL = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(pixels_NHWC), _CHUNK):
        chunk = pixels_NHWC[start : start + _CHUNK][chosen_N[start : start + _CHUNK]]
        for channel in range(channels):
            counts_CL[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    return counts_CL


def _mean_and_std(counts_CL: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, 0..1; a channel without contrast has a standard deviation of 1."""
    shares = counts_CL / counts_CL.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = shares @ values
    variance = shares @ values**2 - mean**2
    # Below the variance of a single odd pixel in a million million, it is rounding.
    std = np.where(variance > 1e-15, np.sqrt(np.maximum(variance, 0)), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _digest(part: Part) -> str:
    """Of shape, labels and pixels as NCHW, in which studies have always recorded it."""
    pixels_NCHW = part.pixels_NHWC.transpose(0, 3, 1, 2)
    digest = hashlib.sha256(str(pixels_NCHW.shape).encode())
    digest.update(part.labels_N.tobytes())
    for start in range(0, len(pixels_NCHW), _CHUNK):
        digest.update(np.ascontiguousarray(pixels_NCHW[start : start + _CHUNK]).data)
    return digest.hexdigest()[:16]
