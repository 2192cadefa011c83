"""What must hold of the folders in a data folder, before an image in them is opened."""

import os
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nas.data.catalogue import DataError
from nas.data.listing import (
    class_folders,
    dead_links,
    identity,
    is_entered,
    loose_images,
    readable,
)
from nas.data.opening import leads_nowhere
from nas.text import plural, printable

_NAME_OF_PART = re.compile(r"(?<![a-z])(train(ing)?|test(ing)?|val(id(ation)?)?)(?![a-z])", re.I)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, undecodable, ends of lines


def check_links(data_dir: Path, train_root: Path, test_root: Path) -> None:
    """Refuses links that lead nowhere where parts and classes are looked for."""
    dead = [data_dir / part for part in ("train", "test") if leads_nowhere(data_dir / part)]
    dead += [root / name for root in (train_root, test_root) for name in dead_links(root)]
    if dead:
        raise DataError(
            f"{printable(dead[0])}: expected a folder of images, got a broken link: repair or "
            "remove it"
        )


def check_classes(data_dir: Path, classes: Sequence[str]) -> None:
    """Refuses fewer than two classes, and names that are not one line of text."""
    remedy = f"put the images of each class into a folder such as {data_dir}/train/cat"
    if not classes:
        raise DataError(
            f"expected one folder of images per class in {data_dir}, got none: {remedy}"
        )
    if len(classes) == 1:
        raise DataError(
            f"expected at least 2 class folders in {data_dir}, got only {classes[0]!r}: {remedy}"
        )
    for name in classes:
        if any(unicodedata.category(letter) in _UNPRINTABLE for letter in name):
            raise DataError(
                f"expected class folders in {data_dir} with names of one line of text, got "
                f"'{printable(name)}': rename that folder"
            )


def check_no_parts(data_dir: Path, names: Sequence[str]) -> None:
    """Refuses folders with names of parts: what is in them are no images of one class.

    With images right in them only whole names count, so that `train-station` may be a class.
    """
    if not all(map(_NAME_OF_PART.search, names)):
        return
    came = (
        f"expected one folder of images per class in {data_dir}, got folders named like parts of "
        f"a dataset ({', '.join(names)})"
    )
    if any(loose_images(data_dir / name) for name in names):
        if all(map(_NAME_OF_PART.fullmatch, names)):
            raise DataError(
                f"{came} with images in no class folder: put the training images of each class "
                f"into a folder such as {data_dir}/train/cat"
            )
    elif any(class_folders(data_dir / name) for name in names):
        raise DataError(
            f"{came}: name them train and test, or set --data-dir to the folder that holds the "
            "class folders"
        )


def check_test_classes(data_dir: Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Refuses a test part with other classes than the training part's."""
    if train == test:
        return
    expected = f"expected the classes of {data_dir}/train in {data_dir}/test, got"
    instead = f"move {data_dir}/test out of {data_dir}, and part of train/ is held back instead"
    loose = len(loose_images(data_dir / "test"))
    if not test and not loose:
        if any(map(is_entered, os.listdir(data_dir / "test"))):
            raise DataError(f"{expected} no images: {instead}")
        raise DataError(
            f"{expected} an empty folder: remove it, and part of train/ is held back instead"
        )
    if not set(train) & set(test):
        came = f"{plural(loose, 'image')} in no class folder" if loose else "none of them"
        raise DataError(
            f"{expected} {came}: images without a class cannot be tested on, but nas predict says "
            f"what is on them; {instead}"
        )
    for name in train:
        if name not in test:
            raise DataError(f"{expected} no {name!r}: put images of it there, or {instead}")
    (odd, *_) = sorted(set(test) - set(train))
    raise DataError(
        f"{expected} {odd!r} too: put images of it into train/, or move that folder out of test/"
    )


def identities(folders: Sequence[Path], *, above: Sequence[Path]) -> frozenset[tuple[int, int]]:
    """The identities of class folders and of those above them.

    Raises:
        DataError: two class folders are one, by a link.
    """
    known: dict[tuple[int, int], Path] = {}
    for folder in folders:
        with readable(folder):
            other = known.setdefault(identity(folder), folder)
        if other is not folder:
            raise DataError(
                f"expected a folder for each class, got one that is named both {printable(other)} "
                f"and {printable(folder)}: remove the link"
            )
    for folder in above:
        with suppress(OSError):  # it need not be readable itself
            known.setdefault(identity(folder), folder)
    return frozenset(known)
