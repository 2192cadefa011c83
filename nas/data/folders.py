"""A person's own images: one folder per class.

Either `train/<class>/*` and, where there is a test part, `test/<class>/*`; or `<class>/*`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from nas.data.opening import plain
from nas.data.split import TEST_SHARE, Purpose, draw
from nas.text import are, plural

TRAIN_AND_VALIDATE = ("train", "validate")
TRAIN_VALIDATE_TEST = (*TRAIN_AND_VALIDATE, "test")


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Image files of one part, sorted by class and then by name."""

    paths: tuple[str, ...]  # relative to the data folder
    labels_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, chosen_N: NDArray[np.bool_]) -> "Files":
        """The chosen files, in the same order."""
        return Files(
            tuple(self.paths[i] for i in np.flatnonzero(chosen_N)), self.labels_N[chosen_N]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """The files of a data folder, listed but not read."""

    data_dir: Path
    classes: tuple[str, ...]  # sorted
    train: Files  # with the validation part
    test: Files
    train_stem: str  # names the cache; a test part drawn by seed makes it depend on the seed
    test_stem: str
    train_root: Path  # where the class folders of the part lie
    test_root: Path
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    """The files of one part, and what a reader must know of them."""

    files: Files
    nested: tuple[str, ...] = ()  # paths of images in folders inside a class folder
    ignored: tuple[str, ...] = ()  # paths of files that are not read


def train_classes(data_dir: Path) -> tuple[str, ...]:
    """The class names under `train/`, sorted; empty if that layout does not lie there."""
    return tuple(class_folders(data_dir / "train"))


def holds_classes(data_dir: Path) -> bool:
    """Whether class folders with images lie there, in either layout."""
    root = data_dir / "train" if train_classes(data_dir) else data_dir
    subfolders = [name for names in class_folders(root).values() for name in names]
    return any(loose_images(root / name) for name in subfolders)


def list_folders(data_dir: Path, *, split_seed: int) -> ClassFolders:
    """What is in a data folder. Without `test/`, a fifth of each class becomes the test part.

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
    has_test = has_parts and (data_dir / "test").is_dir()
    part = "train" if has_parts else ""
    train_root = data_dir / part
    test_root = data_dir / "test" if has_test else train_root
    check_links(data_dir, train_root, test_root)
    folders = class_folders(train_root)
    classes = tuple(folders)
    check_classes(data_dir, classes)
    if not has_parts:
        check_no_parts(data_dir, [name for names in folders.values() for name in names])
    test_folders = class_folders(test_root) if has_test else {}
    parts = ((train_root, folders), (test_root, test_folders))
    elsewhere = identities(
        [root / name for root, found in parts for names in found.values() for name in names],
        above=[train_root, test_root, data_dir, *data_dir.resolve().parents],
    )
    listed = _list_part(data_dir, part, folders, elsewhere)
    files, nested, ignored = listed.files, listed.nested, listed.ignored
    notes = []
    if has_test:
        check_test_classes(data_dir, classes, tuple(test_folders))
        check_counts(train_root, classes, files, TRAIN_AND_VALIDATE)
        listed = _list_part(data_dir, "test", test_folders, elsewhere)
        test, nested, ignored = listed.files, nested + listed.nested, ignored + listed.ignored
        stems = ("train", "test")
    else:
        check_counts(train_root, classes, files, TRAIN_VALIDATE_TEST)
        drawn = draw(files.labels_N, TEST_SHARE, seed=split_seed, purpose=Purpose.TEST)
        files, test = files.where(~drawn), files.where(drawn)
        stems = (f"train-split{split_seed}", f"test-split{split_seed}")
        notes.append(
            f"{data_dir} has no test part: {len(test)} of its {plural(len(drawn), 'image')} "
            f"{are(len(test))} held back"
        )
    unused = sorted({"val", "valid", "validation"} & set(class_folders(data_dir)))
    if has_parts and unused:
        notes.append(f"{data_dir / unused[0]} is left alone: a part of train/ is validated on")
    notes += _notes_on_files(data_dir, len(files) + len(test), nested, ignored)
    return ClassFolders(
        data_dir=data_dir,
        classes=classes,
        train=files,
        test=test,
        train_stem=stems[0],
        test_stem=stems[1],
        train_root=train_root,
        test_root=test_root,
        notes=tuple(notes),
    )


def check_counts(root: Path, classes: Sequence[str], files: Files, uses: tuple[str, ...]) -> None:
    """Refuses a class without an image for each of these uses."""
    counts = np.bincount(files.labels_N, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < len(uses):
            raise DataError(
                f"{root / name}: expected at least {len(uses)} readable "
                f"{'images' if len(uses) > 1 else 'image'}, to {', '.join(uses[:-1])}"
                f"{' and ' if len(uses) > 1 else ''}{uses[-1]} on, got {count}: "
                "add images, or remove the class"
            )


def _list_part(
    data_dir: Path,
    part: str,
    folders: Mapping[str, Sequence[str]],
    elsewhere: frozenset[tuple[int, int]],
) -> _Listed:
    """The image files of one part, whose classes lie in these folders.

    Links from one class folder to another or to a folder above are not followed: `elsewhere` has
    the identities of all.
    """
    root = data_dir / part
    paths: list[str] = []
    nested: list[str] = []
    ignored = [os.path.join(part, name) for name in loose_images(root)]
    counts = []
    for names in folders.values():
        before = len(paths)
        for name in names:
            relative = f"{part}/{name}" if part else name
            with readable(data_dir / relative):
                found = list_images(data_dir / relative, _raise, elsewhere)
            paths += [f"{relative}/{image}" for image in found.images]
            nested += [f"{relative}/{image}" for image in found.images if "/" in image]
            ignored += [f"{relative}/{other}" for other in found.others]
        counts.append(len(paths) - before)
        if not counts[-1]:
            raise DataError(
                f"{data_dir / relative}: expected images in this class folder, got none: "
                f"add some ({', '.join(sorted(EXTENSIONS))}), or give --data-dir the folder whose "
                "own folders are the classes"
            )
    files = Files(tuple(paths), np.repeat(np.arange(len(folders)), counts))
    return _Listed(files, tuple(nested), tuple(ignored))


def _raise(error: OSError) -> None:
    raise error


def _notes_on_files(
    data_dir: Path, images: int, nested: Sequence[str], ignored: Sequence[str]
) -> list[str]:
    """What a reader must know of where files lie and what they are called."""
    notes = []
    if nested:
        notes.append(
            f"{len(nested):,} of {plural(images, 'image')} in {data_dir} lie in folders inside "
            f"a class folder, such as {plain(os.path.dirname(nested[0]))}: they count to that class"
        )
    if loose := [path for path in ignored if is_image_name(path)]:
        notes.append(
            f"{plural(len(loose), 'image')} in {data_dir} {are(len(loose))} ignored, in no class "
            f"folder, such as {plain(loose[0])}"
        )
    if others := [path for path in ignored if not is_image_name(path)]:
        endings = sorted({os.path.splitext(path)[1].lower() or "none" for path in others})
        notes.append(
            f"{plural(len(others), 'file')} in {data_dir} {are(len(others))} ignored, whose names "
            "do not end as those of images "
            f"({plain(', '.join(endings[:5]))}{', ...' if len(endings) > 5 else ''})"
        )
    return notes
