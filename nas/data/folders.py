"""A person's own images: one folder per class.

Either `train/<class>/*` and, where there is a test part, `test/<class>/*`; or `<class>/*`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.catalogue import DataError
from nas.data.layout import (
    check_classes,
    check_links,
    check_no_parts,
    check_test_classes,
    identities,
)
from nas.data.listing import (
    EXTENSIONS,
    class_folders,
    is_image_name,
    list_images,
    loose_images,
    readable,
)
from nas.data.split import TEST_SHARE, Purpose, draw
from nas.text import are, plural, printable

TO_TRAIN = ("train", "validate")  # what at least one image of a class is needed for, each
TO_TEST = ("test",)


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Image files of one part, sorted by class and then by name."""

    root: Path  # where the class folders lie
    stem: str  # names the cache; a test part drawn by seed makes it depend on the seed
    paths: tuple[str, ...]  # relative to the data folder
    labels_N: NDArray[np.int64]
    others: tuple[str, ...]  # paths of files beside them that are not read

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, chosen_N: NDArray[np.bool_], *, stem: str = "") -> "Files":
        """The chosen files, in the same order."""
        return replace(
            self,
            stem=stem or self.stem,
            paths=tuple(self.paths[i] for i in np.flatnonzero(chosen_N)),
            labels_N=self.labels_N[chosen_N],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """The files of a data folder, listed but not read."""

    data_dir: Path
    classes: tuple[str, ...]  # sorted
    train: Files  # with the validation part
    test: Files
    notes: tuple[str, ...]


def train_classes(data_dir: Path) -> tuple[str, ...]:
    """The class names under `train/`, sorted; empty if that layout does not lie there."""
    return tuple(class_folders(data_dir / "train"))


def holds_classes(data_dir: Path) -> bool:
    """Whether class folders with images lie there, in either layout."""
    root = data_dir / "train" if train_classes(data_dir) else data_dir
    subfolders = [name for names in class_folders(root).values() for name in names]
    return any(loose_images(root / name) for name in subfolders)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the class folders of a data folder lie."""

    train: Path  # the data folder itself, where it has no parts
    test: Path | None
    folders: Mapping[str, Sequence[str]]  # the names of the folders in `train`, by class


def layout_of(data_dir: Path) -> Layout:
    """Where the class folders lie; no image is listed, which takes long where there are many.

    Raises:
        DataError: there are no usable class folders.
    """
    with readable(data_dir):
        if not data_dir.is_dir():
            raise DataError(
                f"expected a folder of images, got {data_dir}, which does not exist: "
                "name the folder with --data-dir"
            )
    has_parts = bool(train_classes(data_dir))
    train = data_dir / "train" if has_parts else data_dir
    test = data_dir / "test" if has_parts and (data_dir / "test").is_dir() else None
    check_links(data_dir, train, test or train)
    folders = class_folders(train)
    check_classes(data_dir, tuple(folders))
    if not has_parts:
        check_no_parts(data_dir, [name for names in folders.values() for name in names])
    return Layout(train, test, folders)


def list_folders(data_dir: Path, *, split_seed: int) -> ClassFolders:
    """What is in a data folder. Without `test/`, a fifth of each class becomes the test part.

    Raises:
        DataError: there are no usable class folders.
    """
    layout = layout_of(data_dir)
    folders, classes = layout.folders, tuple(layout.folders)
    has_parts, has_test = layout.train != data_dir, layout.test is not None
    train_root, test_root = layout.train, layout.test or layout.train
    test_folders = class_folders(test_root) if has_test else {}
    parts = ((train_root, folders), (test_root, test_folders))
    elsewhere = identities(
        [root / name for root, found in parts for names in found.values() for name in names],
        above=[train_root, test_root, data_dir, *data_dir.resolve().parents],
    )
    train = _list_part(data_dir, "train" if has_parts else "", folders, elsewhere)
    listed = [train]
    notes = []
    if has_test:
        check_test_classes(data_dir, classes, tuple(test_folders))
        check_counts(classes, train, TO_TRAIN)
        test = _list_part(data_dir, "test", test_folders, elsewhere)
        listed.append(test)
    else:
        check_counts(classes, train, TO_TRAIN + TO_TEST)
        drawn = draw(train.labels_N, TEST_SHARE, seed=split_seed, purpose=Purpose.TEST)
        test = train.where(drawn, stem=f"test-split{split_seed}")
        train = train.where(~drawn, stem=f"train-split{split_seed}")
        notes.append(
            f"{data_dir} has no test part: {len(test)} of its {plural(len(drawn), 'image')} "
            f"{are(len(test))} held back for testing"
        )
    unused = sorted({"val", "valid", "validation"} & set(class_folders(data_dir)))
    if has_parts and unused:
        notes.append(
            f"{data_dir / unused[0]} is not used: part of train/ serves as the validation images"
        )
    notes += _notes_on_files(data_dir, listed)
    return ClassFolders(
        data_dir=data_dir, classes=classes, train=train, test=test, notes=tuple(notes)
    )


def check_counts(classes: Sequence[str], files: Files, uses: tuple[str, ...]) -> None:
    """Refuses a class without an image for each of these uses."""
    counts = np.bincount(files.labels_N, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < len(uses):
            raise DataError(
                f"{files.root / name}: expected at least {plural(len(uses), 'readable image')}, "
                f"to {', '.join(uses[:-1])}"
                f"{' and ' if len(uses) > 1 else ''}{uses[-1]} on, got {count}: "
                "add images, or remove the class"
            )


def _list_part(
    data_dir: Path,
    part: str,
    folders: Mapping[str, Sequence[str]],
    elsewhere: frozenset[tuple[int, int]],
) -> Files:
    """The image files of one part, whose classes lie in these folders.

    Links from one class folder to another or to a folder above are not followed: `elsewhere` has
    the identities of all.
    """
    root = data_dir / part
    paths: list[str] = []
    others = [os.path.join(part, name) for name in loose_images(root)]
    counts = []
    for names in folders.values():
        before = len(paths)
        for name in names:
            relative = f"{part}/{name}" if part else name
            with readable(root / name):
                found = list_images(root / name, _raise, elsewhere)
            paths += [f"{relative}/{image}" for image in found.images]
            others += [f"{relative}/{other}" for other in found.others]
        counts.append(len(paths) - before)
        if not counts[-1]:
            raise DataError(
                f"{data_dir / relative}: expected images in this class folder, got none: add some "
                f"({', '.join(sorted(EXTENSIONS))}), or set --data-dir to the folder that holds "
                "the class folders"
            )
    labels_N = np.repeat(np.arange(len(folders)), counts)
    return Files(root, part or "train", tuple(paths), labels_N, tuple(others))


def _raise(error: OSError) -> None:
    raise error


def _notes_on_files(data_dir: Path, parts: Sequence[Files]) -> list[str]:
    """What a reader must know of where files lie and what they are called."""
    notes = []
    paths = [path for part in parts for path in part.paths]
    direct = 2 if parts[0].root != data_dir else 1  # slashes in the path of an image of a class
    if nested := [path for path in paths if path.count("/") > direct]:
        notes.append(
            f"{len(nested):,} of {plural(len(paths), 'image')} in {data_dir} are in subfolders of "
            f"a class folder, such as {printable(os.path.dirname(nested[0]))}, and belong to that "
            "class"
        )
    others = [path for part in parts for path in part.others]
    if loose := [path for path in others if is_image_name(path)]:
        notes.append(
            f"{plural(len(loose), 'image')} in {data_dir} {are(len(loose))} ignored: not in a "
            f"class folder, such as {printable(loose[0])}"
        )
    if unknown := [path for path in others if not is_image_name(path)]:
        endings = sorted({os.path.splitext(path)[1].lower() or "none" for path in unknown})
        notes.append(
            f"{plural(len(unknown), 'file')} in {data_dir} {are(len(unknown))} ignored: unknown "
            "file endings "
            f"({printable(', '.join(endings[:5]))}{', ...' if len(endings) > 5 else ''})"
        )
    return notes
