"""The files of class folders to pixels, from the cache where they are there.

Shapes: N images, C channels, H x W pixels.
"""

import os
from dataclasses import replace

import numpy as np

from nas.data.cache import cached, file_key
from nas.data.catalogue import DataError
from nas.data.decode import Decoded, Shape, broken_in_words, decode_readable, decode_suited
from nas.data.folders import TRAIN_AND_VALIDATE, ClassFolders, Files, check_counts
from nas.data.listing import readable
from nas.text import plural

_TEST = ("test",)


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
    check_counts(folders.train_root, folders.classes, files, TRAIN_AND_VALIDATE)
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
    check_counts(folders.test_root, folders.classes, files, _TEST)
    return files, decoded


def _read(
    folders: ClassFolders, files: Files, stem: str, shape: Shape | None, *, exact: bool
) -> Decoded:
    absolute = [os.path.join(folders.data_dir, path) for path in files.paths]

    def read() -> Decoded:
        if shape is not None:
            return decode_readable(absolute, shape, exact=exact)
        return decode_suited(absolute)

    settings = "suited"
    if shape is not None:
        settings = f"{shape} of {shape.bits} bits, {'exact' if exact else 'fitted'}"
    with readable(folders.data_dir):
        key = file_key(folders.data_dir, files.paths, settings)
    kind = "own" if shape is None or not exact else "fixed"
    return cached(folders.data_dir, f"{kind}-{stem}", key, read)


def _without_broken(
    folders: ClassFolders, files: Files, decoded: Decoded, called: str, skip_broken: bool
) -> tuple[Files, Decoded]:
    """The files that could be read, with a note about the others."""
    if not decoded.broken:
        return files, decoded
    files_in = plural(len(files.paths), f"{called} file") + f" in {folders.data_dir}"
    broken = broken_in_words(files.paths, decoded.broken, files_in)
    if not skip_broken:
        raise DataError(
            f"expected images, got {broken}: repair or remove them, or leave them out "
            "with --skip-broken"
        )
    whole_N = np.ones(len(files), dtype=np.bool_)
    whole_N[list(decoded.broken)] = False
    note = f"left out: {broken}"
    return files.where(whole_N), replace(decoded, notes=(note, *decoded.notes))
