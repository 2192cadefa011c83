"""A person's own images: one folder per class.

Either `train/<class>/*` and, where there is a test part, `test/<class>/*`; or `<class>/*`.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.cache import cached, file_key
from nas.data.catalogue import DataError
from nas.data.decode import (
    EXTENSIONS,
    Decoded,
    Shape,
    broken_in_words,
    decode_readable,
    decode_suited,
    plain,
)
from nas.data.split import TEST_SHARE, Purpose, draw
from nas.runtime import signals

_TRAIN_AND_VALIDATE = ("train", "validate")
_TRAIN_VALIDATE_TEST = (*_TRAIN_AND_VALIDATE, "test")
_TEST = ("test",)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, undecodable, ends of lines


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


def train_classes(data_dir: Path) -> tuple[str, ...]:
    """The class names under `train/`, sorted; empty if that layout does not lie there."""
    return _subfolders(data_dir / "train")


def holds_classes(data_dir: Path) -> bool:
    """Whether class folders with images lie there, in either layout."""
    root = data_dir / "train" if train_classes(data_dir) else data_dir
    return any(_images(root / name)[0] for name in _subfolders(root))


def list_folders(data_dir: Path, *, split_seed: int) -> ClassFolders:
    """What lies in a data folder. Without `test/`, a fifth of each class becomes the test part.

    Raises:
        DataError: there are no usable class folders.
    """
    classes = train_classes(data_dir)
    if not data_dir.is_dir():
        raise DataError(
            f"expected a folder of images, got {data_dir}, which does not exist: "
            "name the folder with --data-dir"
        )
    has_parts = bool(classes)
    classes = classes or _subfolders(data_dir)
    _check_classes(data_dir, classes)
    part = "train" if has_parts else ""
    roots = (data_dir / part, data_dir / part)
    files, ignored = _list_part(data_dir, part, classes)
    notes = []
    if has_parts and (data_dir / "test").is_dir():
        found = _subfolders(data_dir / "test")
        if found != classes:
            odd = sorted(set(found) ^ set(classes))[0]
            where = "train/, but not in test/" if odd in classes else "test/, but not in train/"
            raise DataError(
                f"expected the same classes in train/ and test/ of {data_dir}, got {odd!r} in "
                f"{where}: add or remove that folder"
            )
        _check_counts(roots[0], classes, files, _TRAIN_AND_VALIDATE)
        test, ignored_test = _list_part(data_dir, "test", classes)
        ignored |= ignored_test
        roots = (data_dir / part, data_dir / "test")
        stems = ("train", "test")
    else:
        _check_counts(roots[0], classes, files, _TRAIN_VALIDATE_TEST)
        drawn = draw(files.labels_N, TEST_SHARE, seed=split_seed, purpose=Purpose.TEST)
        files, test = files.where(~drawn), files.where(drawn)
        stems = (f"train-split{split_seed}", f"test-split{split_seed}")
        notes.append(
            f"{data_dir} has no test part: {len(test)} of its {len(drawn)} images are held back"
        )
    unused = sorted({"val", "valid", "validation"} & set(_subfolders(data_dir)))
    if has_parts and unused:
        notes.append(f"{data_dir / unused[0]} is left alone: a part of train/ is validated on")
    if ignored:
        endings = sorted({os.path.splitext(name)[1].lower() or "none" for name in ignored})
        notes.append(
            f"{len(ignored):,} files in {data_dir} are ignored: their names do not end as images "
            f"({plain(', '.join(endings[:5]))}{', ...' if len(endings) > 5 else ''})"
        )
    return ClassFolders(
        data_dir=data_dir,
        classes=classes,
        train=files,
        test=test,
        train_stem=stems[0],
        test_stem=stems[1],
        train_root=roots[0],
        test_root=roots[1],
        notes=tuple(notes),
    )


def read_train(
    folders: ClassFolders, shape: Shape | None = None, *, skip_broken: bool
) -> tuple[Files, Decoded]:
    """The training files and their pixels, of the given shape or of the one that suits them.

    Raises:
        DataError: files are no readable images (with `skip_broken`: so many that a class is too
            small), or not of the given shape.
    """
    decoded = _read(folders, folders.train, folders.train_stem, shape, exact=True)
    files, decoded = _without_broken(folders, folders.train, decoded, "training", skip_broken)
    _check_counts(folders.train_root, folders.classes, files, _TRAIN_AND_VALIDATE)
    return files, decoded


def read_test(
    folders: ClassFolders, shape: Shape, *, exact: bool, skip_broken: bool
) -> tuple[Files, Decoded]:
    """The test files and their pixels, fitted to the shape of the training part.

    Raises:
        DataError: files are no readable images (with `skip_broken`: all of a class), or with
            `exact` not of that shape.
    """
    decoded = _read(folders, folders.test, folders.test_stem, shape, exact=exact)
    files, decoded = _without_broken(folders, folders.test, decoded, "test", skip_broken)
    _check_counts(folders.test_root, folders.classes, files, _TEST)
    return files, decoded


def _read(
    folders: ClassFolders, files: Files, stem: str, shape: Shape | None, *, exact: bool
) -> Decoded:
    absolute = [os.path.join(folders.data_dir, path) for path in files.paths]

    def read() -> Decoded:
        if shape is not None:
            return decode_readable(absolute, shape, exact=exact)
        return decode_suited(absolute)

    settings = "suited" if shape is None else f"{shape} {'exact' if exact else 'fitted'}"
    with _readable(folders.data_dir):
        key = file_key(folders.data_dir, files.paths, settings)
    kind = "own" if shape is None or not exact else "fixed"
    return cached(folders.data_dir, f"{kind}-{stem}", key, read)


def _without_broken(
    folders: ClassFolders, files: Files, decoded: Decoded, called: str, skip_broken: bool
) -> tuple[Files, Decoded]:
    """The files that could be read, with a note about the others."""
    if not decoded.broken:
        return files, decoded
    called = f"{called} files in {folders.data_dir}"
    broken = broken_in_words(files.paths, decoded.broken, called)
    if not skip_broken:
        raise DataError(
            f"expected images, got {broken}: repair or remove them, or leave them out "
            "with --skip-broken"
        )
    readable = np.ones(len(files), dtype=np.bool_)
    readable[list(decoded.broken)] = False
    note = f"left out: {broken}"
    return files.where(readable), replace(decoded, notes=(note, *decoded.notes))


def _check_classes(data_dir: Path, classes: Sequence[str]) -> None:
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
                f"'{plain(name)}': rename that folder"
            )


def _check_counts(root: Path, classes: Sequence[str], files: Files, uses: tuple[str, ...]) -> None:
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


def _list_part(data_dir: Path, part: str, classes: Sequence[str]) -> tuple[Files, set[str]]:
    """The image files of one part, and the paths of other files among them."""
    paths: list[str] = []
    counts = []
    ignored: set[str] = set()
    for name in classes:
        signals.check()
        relative = f"{part}/{name}" if part else name
        images, others = _images(data_dir / relative)
        if not images:
            raise DataError(
                f"{data_dir / relative}: expected images directly in this class folder, got none: "
                f"add some ({', '.join(sorted(EXTENSIONS))}), or give --data-dir the folder whose "
                "own folders are the classes"
            )
        paths += [f"{relative}/{image}" for image in images]
        counts.append(len(images))
        ignored |= {f"{relative}/{other}" for other in others}
    return Files(tuple(paths), np.repeat(np.arange(len(classes)), counts)), ignored


def _images(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the image files, sorted, and of the visible files that are no images."""
    images: list[str] = []
    others: list[str] = []
    with _readable(folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_file():
                continue
            is_image = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
            (images if is_image else others).append(entry.name)
    return sorted(images), others


def _subfolders(folder: Path) -> tuple[str, ...]:
    """The names of the visible folders in it, sorted; none if there is no such folder."""
    with _readable(folder):
        if not folder.is_dir():
            return ()
        with os.scandir(folder) as entries:
            return tuple(
                sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
            )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: expected to be able to read it, got: {error.strerror}: "
            "check the path and its permissions"
        ) from error
