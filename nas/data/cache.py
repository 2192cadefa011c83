"""Decoded images kept on disk, so that a folder is decoded once.

A cache is in `.nas-cache` beside the data, or in the user's cache folder where that cannot be
written. It is only ever a saving: whatever is wrong with it, the images are decoded again.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.data.decode import Decoded
from nas.data.opening import leads_nowhere
from nas.files import cache_folder, remove_unfinished, replacing
from nas.runtime import signals

FOLDER = ".nas-cache"
_VERSION = "3"  # change it when the same files would decode to other pixels


def file_key(root: Path, paths: Sequence[str], settings: str) -> str:
    """What the decoded pixels depend on, as 32 hex digits: settings, file names, sizes and times.

    Raises:
        OSError: a file is gone.
    """
    digest = hashlib.sha256(f"{_VERSION}\0{settings}\0".encode())
    for path in paths:
        signals.check()  # on a network file system each may take its time
        digest.update(os.fsencode(path))
        try:
            status = os.stat(root / path)
        except OSError:
            if not leads_nowhere(root / path):
                raise
            digest.update(b"\0nowhere\0")
        else:
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:32]


def cached(data_dir: Path, stem: str, key: str, decode: Callable[[], Decoded]) -> Decoded:
    """What `decode` returned for this key, from disk if it is there, else from `decode`.

    A new file replaces those of the same stem, whose images have changed since. Where none can be
    written, a note says so.
    """
    name = f"{stem}-{key}.npz"
    for folder in _folders(data_dir):
        remove_unfinished(folder)
        found = _read(folder / name)
        if found is not None:
            return found
    decoded = decode()
    for folder in _folders(data_dir):
        if _write(folder, name, decoded):
            for old in folder.glob(f"{stem}-{'?' * len(key)}.npz"):
                if old.name != name:
                    old.unlink(missing_ok=True)
            return decoded
    note = (
        f"neither {data_dir / FOLDER} nor the user's cache folder can be written: images are "
        "decoded again at every start"
    )
    return replace(decoded, notes=(*decoded.notes, note))


def _folders(data_dir: Path) -> Iterator[Path]:
    yield data_dir / FOLDER
    if own := cache_folder():
        place = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
        yield own / place


def _read(path: Path) -> Decoded | None:
    try:
        # Reading a member checks its CRC, so a damaged file does not pass for images.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Decoded(
                arrays["pixels_NHWC"],
                tuple(arrays["notes"].tolist()),
                dict(zip(arrays["broken"].tolist(), arrays["reasons"].tolist(), strict=True)),
                int(arrays["bits"]),
            )
    except Exception:  # missing, or damaged in any of a zip file's many ways
        return None


def _write(folder: Path, name: str, decoded: Decoded) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as file:
            np.savez(
                file,
                pixels_NHWC=decoded.pixels_NHWC,
                notes=np.array(decoded.notes, dtype=np.str_),
                broken=np.array(list(decoded.broken), dtype=np.int64),
                reasons=np.array(list(decoded.broken.values()), dtype=np.str_),
                bits=np.int64(decoded.bits),
            )
    except OSError:  # not writable, or full
        return False
    return True
