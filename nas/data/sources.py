"""Where each dataset comes from. Nothing is decoded before a part is asked for.

Shapes: N images, C channels, H x W pixels.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data import download, folders, reading
from nas.data.catalogue import DATASET_NAMES, DATASETS, DataError
from nas.data.decode import Decoded, Shape
from nas.data.levels import DEEPEST
from nas.data.split import TEST_SHARE, Purpose, draw
from nas.packages import importing
from nas.text import plural
from nas.values import did_you_mean


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images and labels as they come from a source, in an order that stays the same."""

    pixels_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    notes: tuple[str, ...] = ()  # what was done to the images
    left_out: int = 0  # broken files
    bits: int = DEEPEST  # of `nas.data.decode.Shape`


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset that can be read; whoever calls `read_test` looks at test images."""

    name: str
    classes: tuple[str, ...]  # in label order
    horizontal_flip: bool
    test_images: int
    read_train: Callable[[], Part]  # with the validation part
    read_test: Callable[[], Part]
    notes: tuple[str, ...] = ()


def open_source(name: str, data_dir: Path, *, split_seed: int, skip_broken: bool = False) -> Source:
    """The source of a dataset asked for by name; `auto` is none, see `open_auto`.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: where the dataset is, or is downloaded to.
        split_seed: of the test part, where that is drawn from the rest.
        skip_broken: whether files of a folder that are no readable images are left out, with a
            note, instead of refused.

    Raises:
        DataError: there is no such dataset, or what is in the data folder is not it.
    """
    check_name(name)
    if name == "digits":
        return _digits(split_seed)
    if os.path.isfile(data_dir):
        raise DataError(
            f"expected a folder, got the file {data_dir}: name a folder with --data-dir"
        )
    if name == "folder":
        return _own_folders(data_dir, split_seed, skip_broken)
    if name == "cifar10":
        found = folders.train_classes(data_dir)
        if found == DATASETS["cifar10"].classes:
            return _cifar10_folders(data_dir, split_seed, skip_broken)
        if found and not download.lies_in("cifar10", data_dir):
            raise DataError(
                f"expected the class folders of CIFAR-10 in {data_dir}/train, got "
                f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}: "
                "use --dataset folder for images of your own"
            )
    return _torchvision(name, data_dir)


def open_auto(data_dir: Path, *, split_seed: int, skip_broken: bool = False) -> Source:
    """CIFAR-10 as it is in the data folder, else as it can be downloaded.

    Arguments are those of `open_source`.

    Raises:
        DataError: what is in the data folder cannot be used.
    """
    if cifar10_lies_in(data_dir) or not data_dir.is_dir():
        return open_source("cifar10", data_dir, split_seed=split_seed, skip_broken=skip_broken)
    if folders.holds_classes(data_dir):
        raise DataError(
            f"expected CIFAR-10 in {data_dir}, or nothing, got other class folders: "
            "use --dataset folder for images of your own"
        )
    return _torchvision("cifar10", data_dir)


def cifar10_lies_in(data_dir: Path) -> bool:
    """Whether CIFAR-10 is there, as class folders or in torchvision's layout."""
    classes = DATASETS["cifar10"].classes
    return folders.train_classes(data_dir) == classes or download.lies_in("cifar10", data_dir)


def check_name(name: str) -> None:
    """Returns if there is a dataset of that name.

    Raises:
        DataError: there is none.
    """
    if name not in DATASET_NAMES:
        raise DataError(
            f"expected one of the datasets {', '.join(DATASET_NAMES)}, got {name!r}"
            + did_you_mean(name, DATASET_NAMES)
        )


def _torchvision(name: str, data_dir: Path) -> Source:
    info = DATASETS[name]

    def read(train: bool) -> Part:
        return Part(*download.read(name, data_dir, train=train))

    return Source(
        name=name,
        classes=info.classes,
        horizontal_flip=info.horizontal_flip,
        test_images=info.test_images,
        read_train=lambda: read(train=True),
        read_test=lambda: read(train=False),
    )


def _cifar10_folders(data_dir: Path, split_seed: int, skip_broken: bool) -> Source:
    info = DATASETS["cifar10"]
    shape = Shape(info.input.channels, info.input.height, info.input.width)
    if not (data_dir / "test").is_dir():
        raise DataError(
            f"expected CIFAR-10's test/ beside its train/ in {data_dir}, got none: add it, or use "
            "--dataset folder to hold back a part of train/ instead"
        )
    listed = folders.list_folders(data_dir, split_seed=split_seed)
    notes = listed.notes
    if (len(listed.train), len(listed.test)) != (info.train_images, info.test_images):
        notes += (
            f"{data_dir} holds {len(listed.train):,} training and "
            f"{plural(len(listed.test), 'test image')}, not CIFAR-10's {info.train_images:,} "
            f"and {info.test_images:,}",
        )
    return Source(
        name="cifar10",
        classes=info.classes,
        horizontal_flip=info.horizontal_flip,
        test_images=len(listed.test),
        read_train=lambda: _part(
            listed.train, *reading.read_train(listed, shape, skip_broken=skip_broken)
        ),
        read_test=lambda: _part(
            listed.test, *reading.read_test(listed, shape, exact=True, skip_broken=skip_broken)
        ),
        notes=notes,
    )


def _own_folders(data_dir: Path, split_seed: int, skip_broken: bool) -> Source:
    listed = folders.list_folders(data_dir, split_seed=split_seed)

    def read_train() -> Part:
        return _part(listed.train, *reading.read_train(listed, skip_broken=skip_broken))

    def read_test() -> Part:
        train = read_train()
        _, height, width, channels = train.pixels_NHWC.shape
        shape = Shape(channels, height, width, train.bits)
        return _part(
            listed.test,
            *reading.read_test(listed, shape, exact=False, skip_broken=skip_broken),
        )

    return Source(
        name="folder",
        classes=listed.classes,
        horizontal_flip=True,
        test_images=len(listed.test),
        read_train=read_train,
        read_test=read_test,
        notes=listed.notes,
    )


def _part(listed: folders.Files, files: folders.Files, decoded: Decoded) -> Part:
    left_out = len(listed) - len(files)
    return Part(decoded.pixels_NHWC, files.labels_N, decoded.notes, left_out, decoded.bits)


def _digits(split_seed: int) -> Source:
    info = DATASETS["digits"]

    def read(test: bool) -> Part:
        with importing():
            from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        labels = bunch.target.astype(np.int64)
        tested = draw(labels, TEST_SHARE, seed=split_seed, purpose=Purpose.TEST)
        chosen = tested if test else ~tested
        return Part(pixels[chosen], labels[chosen])

    return Source(
        name=info.name,
        classes=info.classes,
        horizontal_flip=info.horizontal_flip,
        test_images=info.test_images,
        read_train=lambda: read(test=False),
        read_test=lambda: read(test=True),
    )
