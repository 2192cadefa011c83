"""Which files in a folder are images: the same for training and for prediction."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.data.opening import leads_nowhere, unreadable
from nas.runtime import signals

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
# Folders that systems and archives put beside a person's own.
_OF_SYSTEMS = re.compile(
    r"__macosx|__pycache__|@eadir|@tmp|@recently-snapshot|#snapshot|[@#]recycle|recycler"
    r"|\$recycle\.bin|lost\+found|found\.\d{3}|system volume information",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder and below, relative to it and sorted; hidden names are left out."""

    images: tuple[str, ...]
    others: tuple[str, ...]  # files whose names do not end as images


def is_image_name(name: str) -> bool:
    """Whether it ends as the name of an image, in capitals or not."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_entered(name: str) -> bool:
    """Whether a folder of this name is looked into: none that is hidden or of the system."""
    return not name.startswith(".") and not _OF_SYSTEMS.fullmatch(name)


def identity(path: str | Path) -> tuple[int, int]:
    """What all paths to one folder have in common: its device and its number there.

    Raises:
        OSError: it is not there, or the system does not let us look.
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino


def list_images(
    folder: str | Path,
    on_error: Callable[[OSError], None],
    elsewhere: frozenset[tuple[int, int]] = frozenset(),
) -> Listing:
    """The files in a folder and in the folders below; links are followed, each folder read once.

    Everything with the name of an image is listed, even a pipe or a broken link:
    who opens it says what is wrong. So is any link that leads nowhere, which may have been a folder
    of images. Folders with the identities in `elsewhere` are not entered, and those that cannot be
    read are handed to `on_error`, which may raise.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    images: list[str] = []
    others: list[str] = []
    seen = set(elsewhere)

    def is_first(path: str) -> bool:
        try:
            found = identity(path)
        except OSError:
            return True  # reading it will say why
        is_new = found not in seen
        seen.add(found)
        return is_new

    is_first(os.fspath(folder))
    for place, subfolders, names in os.walk(folder, onerror=on_error, followlinks=True):
        signals.check()
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if is_entered(name) and is_first(os.path.join(place, name))
        ]
        inside = os.path.relpath(place, folder)
        prefix = "" if inside == os.curdir else f"{inside}/"
        for name in names:
            if not name.startswith("."):
                is_image = is_image_name(name) or leads_nowhere(os.path.join(place, name))
                (images if is_image else others).append(prefix + name)
    return Listing(tuple(sorted(images)), tuple(sorted(others)))


def loose_images(folder: Path) -> list[str]:
    """The names of the image files right in it, sorted."""
    with readable(folder), os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and is_image_name(entry.name) and not entry.is_dir()
        )


def class_folders(folder: Path) -> dict[str, tuple[str, ...]]:
    """The visible folders in it by class, sorted; none if there is no such folder.

    A name with an accent is the same class in both of Unicode's forms, of which one system writes
    the first and another the second.

    Raises:
        DataError: it cannot be read.
    """
    found: dict[str, list[str]] = {}
    with readable(folder):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for name in sorted(e.name for e in entries if e.is_dir() and is_entered(e.name)):
                    found.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return {name: tuple(found[name]) for name in sorted(found)}


def dead_links(folder: Path) -> list[str]:
    """The names of visible links in it that lead nowhere, and may have been class folders."""
    with readable(folder):
        return sorted(
            name
            for name in os.listdir(folder)
            if is_entered(name) and not is_image_name(name) and leads_nowhere(folder / name)
        )


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raises a `DataError` where the system does not let us read the folder in the block."""
    try:
        yield
    except OSError as error:
        raise unreadable(error.filename or folder, str(error.strerror)) from error
