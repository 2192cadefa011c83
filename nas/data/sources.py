"""Where each dataset comes from. Nothing is decoded before a part is asked for.

Shapes: N images, C channels, H x W pixels.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data import download, folders
from nas.data.cache import cached, file_key
from nas.data.catalogue import DATASET_NAMES, DATASETS, OWN_FOLDER, DataError
from nas.data.decode import Decoded, Shape, broken_in_words, decode_readable, decode_suited
from nas.data.levels import DEEPEST
from nas.data.listing import readable
from nas.data.split import TEST_SHARE, Purpose, draw
from nas.packages import importing
from nas.text import plural
from nas.values import did_you_mean

_CIFAR10_TRAIN = 50_000  # training images


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images and labels as they come from a source, in an order that stays the same."""

    pixels_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    notes: tuple[str, ...] = ()  # what was done to the images
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

    Arguments are those of `nas.data.loading.load_dataset`.

    Raises:
        DataError: there is no such dataset, or what is in the data folder is not it.
    """
    if name not in DATASET_NAMES:
        raise DataError(
            f"expected one of the datasets {', '.join(DATASET_NAMES)}, got {name!r}"
            + did_you_mean(name, DATASET_NAMES)
        )
    if name == "digits":
        return _known(name, lambda train: _digits(split_seed, train=train))
    check_place(name, data_dir)
    if name == OWN_FOLDER:
        listed = folders.list_folders(data_dir, split_seed=split_seed)
        return _of_folders(name, listed, None, skip_broken)
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


def check_place(name: str, data_dir: Path) -> None:
    """Checks, without loading PyTorch, that a dataset can be in a data folder.

    Raises:
        DataError: it is a file, or has no class folders where `folder` was asked for.
    """
    if name != "digits" and os.path.isfile(data_dir):
        raise DataError(
            f"expected a folder, got the file {data_dir}: name a folder with --data-dir"
        )
    if name == OWN_FOLDER:
        folders.layout_of(data_dir)


def open_auto(data_dir: Path, *, split_seed: int, skip_broken: bool = False) -> Source:
    """CIFAR-10 as it is in the data folder, else as it can be downloaded.

    Arguments are those of `open_source`.

    Raises:
        DataError: what is in the data folder cannot be used.
    """
    as_folders = folders.train_classes(data_dir) == DATASETS["cifar10"].classes
    if as_folders or download.lies_in("cifar10", data_dir) or not data_dir.is_dir():
        return open_source("cifar10", data_dir, split_seed=split_seed, skip_broken=skip_broken)
    if folders.holds_classes(data_dir):
        raise DataError(
            f"expected CIFAR-10 in {data_dir}, or nothing, got other class folders: "
            "use --dataset folder for images of your own"
        )
    return _torchvision("cifar10", data_dir)


def _known(name: str, read: Callable[[bool], Part]) -> Source:
    """A dataset of the catalogue, whose `read` takes whether the training part is wanted."""
    info = DATASETS[name]
    return Source(
        name=name,
        classes=info.classes,
        horizontal_flip=info.horizontal_flip,
        test_images=info.test_images,
        read_train=lambda: read(True),
        read_test=lambda: read(False),
    )


def _torchvision(name: str, data_dir: Path) -> Source:
    return _known(name, lambda train: Part(*download.read(name, data_dir, train=train)))


def _digits(split_seed: int, *, train: bool) -> Part:
    with importing():
        from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int64)
    tested = draw(labels, TEST_SHARE, seed=split_seed, purpose=Purpose.TEST)
    chosen = ~tested if train else tested
    return Part(pixels[chosen], labels[chosen])


def _cifar10_folders(data_dir: Path, split_seed: int, skip_broken: bool) -> Source:
    info = DATASETS["cifar10"]
    if not (data_dir / "test").is_dir():
        raise DataError(
            f"expected CIFAR-10's test/ beside its train/ in {data_dir}, got none: add it, or use "
            "--dataset folder to hold back a part of train/ instead"
        )
    listed = folders.list_folders(data_dir, split_seed=split_seed)
    source = _of_folders(info.name, listed, Shape(*info.shape), skip_broken)
    if (len(listed.train), len(listed.test)) == (_CIFAR10_TRAIN, info.test_images):
        return source
    note = (
        f"{data_dir} holds {len(listed.train):,} training and "
        f"{plural(len(listed.test), 'test image')}, not CIFAR-10's {_CIFAR10_TRAIN:,} "
        f"and {info.test_images:,}"
    )
    return replace(source, notes=(*source.notes, note))


def _of_folders(
    name: str, listed: folders.ClassFolders, shape: Shape | None, skip_broken: bool
) -> Source:
    """A dataset in class folders, of that very shape or of one that suits the training images."""
    exact = shape is not None

    def read_train() -> Part:
        return _read(listed, shape, exact=exact, skip_broken=skip_broken)

    def read_test() -> Part:
        wanted = shape
        if wanted is None:
            train = read_train()
            _, height, width, channels = train.pixels_NHWC.shape
            wanted = Shape(channels, height, width, train.bits)
        return _read(listed, wanted, exact=exact, skip_broken=skip_broken, test=True)

    return Source(
        name=name,
        classes=listed.classes,
        horizontal_flip=True,
        test_images=len(listed.test),
        read_train=read_train,
        read_test=read_test,
        notes=listed.notes,
    )


def _read(
    listed: folders.ClassFolders,
    shape: Shape | None,
    *,
    exact: bool,
    skip_broken: bool,
    test: bool = False,
) -> Part:
    """A part in class folders, from the cache where it is there.

    Without a shape it gets the one that suits the files. An image of another shape is fitted to it,
    or with `exact` an error.
    """
    files = listed.test if test else listed.train
    absolute = [os.path.join(listed.data_dir, path) for path in files.paths]

    def decode() -> Decoded:
        if shape is None:
            return decode_suited(absolute)
        return decode_readable(absolute, shape, exact=exact)

    settings = "suited"
    if shape is not None:
        settings = f"{shape} of {shape.bits} bits, {'exact' if exact else 'fitted'}"
    with readable(listed.data_dir):
        key = file_key(listed.data_dir, files.paths, settings)
    stem = f"{'fixed' if exact else 'own'}-{files.stem}"
    decoded = cached(listed.data_dir, stem, key, decode)
    notes = decoded.notes
    if decoded.broken:
        called = "test file" if test else "training file"
        files_in = f"{plural(len(files), called)} in {listed.data_dir}"
        broken = broken_in_words(files.paths, decoded.broken, files_in)
        if not skip_broken:
            raise DataError(
                f"expected images, got {broken}: repair or remove them, or leave them out "
                "with --skip-broken"
            )
        notes = (f"left out: {broken}", *notes)
    whole_N = np.ones(len(files), dtype=np.bool_)
    whole_N[list(decoded.broken)] = False
    kept = files.where(whole_N)
    folders.check_counts(listed.classes, kept, folders.TO_TEST if test else folders.TO_TRAIN)
    return Part(decoded.pixels_NHWC, kept.labels_N, notes, decoded.bits)
