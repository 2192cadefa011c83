"""Datasets in torchvision's layout: found, downloaded or refused within seconds.

Importing this module imports neither torchvision nor SciPy.
"""

import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from nas.data.catalogue import DATASETS, DataError
from nas.files import remove_unfinished, temporary_folder
from nas.packages import PackageError, broken_package, importing
from nas.runtime import signals
from nas.text import in_one_line

PROBE_SECONDS = 6.0  # until a server that does not answer is given up, name look-up included
STALL_SECONDS = 30.0  # until a download that has stopped is given up

Result = TypeVar("Result")


class DownloadError(DataError):
    """A dataset is not there, or damaged, and cannot be downloaded."""

    def __init__(self, name: str, data_dir: Path, reason: str) -> None:
        self.reason = in_one_line(reason)
        got = "neither"
        if flaws := _flaws(name, data_dir):
            got = "a part of it"
            self.reason = f"{', '.join(flaws)}; {self.reason}"
        super().__init__(
            f"expected {DATASETS[name].title} in {data_dir} or on the network, got {got} "
            f"({self.reason}): put complete files into {data_dir}, or connect to the network"
        )


def probe(urls: Sequence[str], *, seconds: float = PROBE_SECONDS) -> str | None:
    """None as soon as one of the addresses answers, else why none does.

    It returns in time even where a name look-up or a server hangs, whose thread is left behind.
    """
    deadline = time.monotonic() + seconds
    asked = {_in_thread(functools.partial(_refusal, url, seconds)) for url in urls}
    reason: str | None = None
    while asked:
        signals.check()
        patience = deadline - time.monotonic()
        if patience <= 0:
            return f"no answer from {urlsplit(urls[0]).hostname} within {seconds:g} seconds"
        answered, asked = wait(asked, min(patience, signals.LOOK), FIRST_COMPLETED)
        for answer in answered:
            reason = answer.result()
            if reason is None:
                return None
    return reason


def lies_in(name: str, data_dir: Path) -> bool:
    """Whether all files of the dataset are there, in torchvision's layout."""
    return all(os.path.isfile(data_dir / path) for path in _files(name).needed)


def read(name: str, data_dir: Path, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels, as NHWC, and labels of the training or the test part; downloaded if not there.

    Raises:
        DownloadError: the files are missing or damaged and cannot be downloaded.
        DataError: the files cannot be read.
    """
    remove_unfinished(data_dir)
    if not lies_in(name, data_dir):
        _download(name, data_dir)
    try:
        dataset = _open(name, data_dir, train=train)
    except RuntimeError:  # what torchvision raises for files that fail their checksum
        _download(name, data_dir)
        dataset = _open(name, data_dir, train=train)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    pixels = np.asarray(dataset.data)
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    elif pixels.shape[1:] == DATASETS[name].shape:  # channels first
        pixels = pixels.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.asarray(labels, dtype=np.int64)


def _open(name: str, data_dir: Path, *, train: bool) -> Any:
    try:
        return _dataset(name, data_dir, train=train, download=False)
    except RuntimeError:
        raise
    except Exception as error:  # unpickling damaged files can raise anything
        if broken := broken_package(error):  # SciPy reads SVHN
            raise PackageError(broken) from error
        reason = in_one_line(error) or type(error).__name__
        places = sorted({str(data_dir / Path(file).parts[0]) for file in _files(name).needed})
        raise DataError(
            f"expected the files of {DATASETS[name].title} in {data_dir}, got damaged ones "
            f"({reason}): delete {' and '.join(places)} to download them again"
        ) from error


def _download(name: str, data_dir: Path) -> None:
    """Puts the files into place once all of them are there."""
    from torchvision.datasets.utils import check_integrity

    files = _files(name)
    archive = data_dir / files.archive
    at_hand = bool(files.archive) and check_integrity(archive, files.md5[files.archive])
    refusal = None if at_hand else probe(files.urls)
    if refusal is not None:
        raise DownloadError(name, data_dir, refusal)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (
            temporary_folder(data_dir, "nas-download") as temporary,
            _socket_timeout(STALL_SECONDS),
        ):
            if at_hand:
                (temporary / archive.name).symlink_to(archive.resolve())

            def fetch() -> None:
                for train in (True, False):
                    _dataset(name, temporary, train=train, download=True)

            signals.result(_in_thread(fetch))  # a server that stalls must not hold a signal up
            for path in files.needed:
                (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / path, data_dir / path)
    except (OSError, HTTPException, RuntimeError) as error:
        raise DownloadError(name, data_dir, str(error) or type(error).__name__) from error


def _class(name: str) -> Any:
    with importing():
        from torchvision import datasets

    return getattr(datasets, str(DATASETS[name].torchvision))


def _dataset(name: str, data_dir: Path, *, train: bool, download: bool) -> Any:
    cls = _class(name)
    if hasattr(cls, "split_list"):
        return cls(data_dir, split="train" if train else "test", download=download)
    return cls(data_dir, train=train, download=download)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of both parts of a dataset; paths are relative to the data folder."""

    needed: Sequence[str]  # paths of what is read
    md5: Mapping[str, str]  # of what is downloaded or unpacked, by path
    urls: Sequence[str]  # of which one must answer for a download
    archive: str = ""  # path of what all that is needed is unpacked from


def _files(name: str) -> _Files:
    """What torchvision's class says, in one of three ways."""
    cls = _class(name)
    if hasattr(cls, "split_list"):  # a file for each part: SVHN
        parts = [cls.split_list[part] for part in ("train", "test")]
        return _Files(
            needed=[file for _, file, _ in parts],
            md5={file: md5 for _, file, md5 in parts},
            urls=[parts[0][0]],
        )
    if hasattr(cls, "resources"):  # files that are unpacked one by one: MNIST and its kin
        packed = {f"{cls.__name__}/raw/{file}": md5 for file, md5 in cls.resources}
        return _Files(
            needed=[path.removesuffix(".gz") for path in packed],
            md5=packed,
            urls=[mirror + cls.resources[0][0] for mirror in cls.mirrors],
        )
    listed = (*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"]))  # CIFAR
    unpacked = {f"{cls.base_folder}/{file}": md5 for file, md5 in listed}
    return _Files(
        needed=list(unpacked),
        md5={**unpacked, cls.filename: cls.tgz_md5},
        urls=[cls.url],
        archive=cls.filename,
    )


def _flaws(name: str, data_dir: Path) -> list[str]:
    """What is wrong with the files of the dataset that lie there; nothing where none is there."""
    from torchvision.datasets.utils import check_integrity

    files = _files(name)
    there = [path for path in files.md5 if os.path.isfile(data_dir / path)]
    damaged = [path for path in there if not check_integrity(data_dir / path, files.md5[path])]
    missing = [path for path in files.needed if not os.path.isfile(data_dir / path)]
    if len(missing) == len(files.needed):
        missing = []
    return [f"{path} is damaged" for path in damaged] + [f"{path} is missing" for path in missing]


def _in_thread(work: Callable[[], Result]) -> "Future[Result]":
    """Work in a thread of its own, which does not keep the process from ending."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Sets the timeout of new connections; torchvision leaves it at the default, which is none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _refusal(url: str, seconds: float) -> str | None:
    host = urlsplit(url).hostname
    try:
        with urlopen(Request(url, headers={"User-Agent": "nas"}), timeout=seconds):
            return None
    except HTTPError as error:
        with error:
            return f"{host} answered {error.code} {error.reason}"
    except URLError as error:
        return f"{host}: {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        return f"{host}: {error or type(error).__name__}"
