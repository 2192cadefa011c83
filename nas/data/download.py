"""Datasets in torchvision's layout: found, downloaded or refused within seconds.

Importing this module imports neither torchvision nor SciPy.
"""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from nas.data.catalogue import DATASETS, DataError
from nas.files import remove_unfinished, temporary_folder
from nas.packages import PackageError, broken_package, importing
from nas.runtime import signals

PROBE_SECONDS = 6.0  # until a server that does not answer is given up, name look-up included
STALL_SECONDS = 30.0  # until a download that has stopped is given up


class DownloadError(DataError):
    """A dataset is not there, or damaged, and cannot be downloaded."""

    def __init__(self, name: str, data_dir: Path, reason: str) -> None:
        self.reason = " ".join(reason.split())
        got = "neither"
        if flaws := _flaws(name, data_dir):
            got = "a part of it"
            self.reason = f"{', '.join(flaws)}; {self.reason}"
        super().__init__(
            f"expected {DATASETS[name].title} in {data_dir} or on the network, got {got} "
            f"({self.reason}): put whole files into {data_dir}, or go online"
        )


def probe(urls: Sequence[str], *, seconds: float = PROBE_SECONDS) -> str | None:
    """None as soon as one of the addresses answers, else why none does.

    It returns in time even where a name look-up or a server hangs, whose thread is left behind.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask(url: str) -> None:
        answers.put(_refusal(url, seconds))

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + seconds
    reason: str | None = None
    left = len(urls)
    while left:
        signals.check()
        patience = deadline - time.monotonic()
        if patience <= 0:
            return f"no answer from {urlsplit(urls[0]).hostname} within {seconds:g} seconds"
        with suppress(queue.Empty):
            reason = answers.get(timeout=min(patience, signals.LOOK))
            if reason is None:
                return None
            left -= 1
    return reason


def download_refusal(name: str) -> str | None:
    """None if the dataset can be downloaded now, else why not; known within seconds."""
    return probe(_urls(name), seconds=PROBE_SECONDS)


def lies_in(name: str, data_dir: Path) -> bool:
    """Whether all files of the dataset are there, in torchvision's layout."""
    return all(os.path.isfile(data_dir / path) for path in _files(name))


def read(name: str, data_dir: Path, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels, as NCHW, and labels of the training or the test part; downloaded if not there.

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
    labels = np.asarray(dataset.labels if name == "svhn" else dataset.targets, dtype=np.int64)
    pixels = np.asarray(dataset.data)
    if name in ("cifar10", "cifar100"):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    return np.ascontiguousarray(pixels), labels


def _open(name: str, data_dir: Path, *, train: bool) -> Any:
    try:
        return _dataset(name, data_dir, train=train, download=False)
    except RuntimeError:
        raise
    except Exception as error:  # unpickling damaged files can raise anything
        if broken := broken_package(error):  # SciPy reads SVHN
            raise PackageError(broken) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"expected the files of {DATASETS[name].title} in {data_dir}, got damaged ones "
            f"({reason}): delete {' and '.join(_places(name, data_dir))} to download them again"
        ) from error


def _download(name: str, data_dir: Path) -> None:
    """Puts the files into place once all of them are there."""
    from torchvision.datasets.utils import check_integrity, download_url

    cls = _class(name)
    archive = data_dir / getattr(cls, "filename", "")
    at_hand = name.startswith("cifar") and check_integrity(archive, cls.tgz_md5)
    refusal = None if at_hand else download_refusal(name)
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
                if name == "svhn":  # its class would fetch one part only
                    for part in ("train", "test"):
                        url, file, md5 = cls.split_list[part]
                        download_url(url, temporary, file, md5)
                else:
                    _dataset(name, temporary, train=True, download=True)

            signals.result(_begun(fetch))  # a server that stalls must not hold a signal up
            for path in _files(name):
                (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / path, data_dir / path)
    except (OSError, HTTPException, RuntimeError) as error:
        raise DownloadError(name, data_dir, str(error) or type(error).__name__) from error


def _dataset(name: str, data_dir: Path, *, train: bool, download: bool) -> Any:
    if name == "svhn":
        return _class(name)(data_dir, split="train" if train else "test", download=download)
    return _class(name)(data_dir, train=train, download=download)


def _class(name: str) -> Any:
    with importing():
        from torchvision import datasets

    return {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "svhn": datasets.SVHN,
        "fashion-mnist": datasets.FashionMNIST,
        "mnist": datasets.MNIST,
    }[name]


def _urls(name: str) -> list[str]:
    """Addresses of which one must answer for a download."""
    cls = _class(name)
    if name == "svhn":
        return [cls.split_list["train"][0]]
    if name.endswith("mnist"):
        return [mirror + cls.resources[0][0] for mirror in cls.mirrors]
    return [cls.url]


def _files(name: str) -> list[str]:
    """The files of both parts, relative to the data folder."""
    cls = _class(name)
    if name == "svhn":
        return [cls.split_list[part][1] for part in ("train", "test")]
    if name.endswith("mnist"):
        names = [file.removesuffix(".gz") for file, _ in cls.resources]
        return [f"{cls.__name__}/raw/{file}" for file in names]
    names = [file for file, _ in (*cls.train_list, *cls.test_list)]
    return [f"{cls.base_folder}/{file}" for file in (*names, cls.meta["filename"])]


def _flaws(name: str, data_dir: Path) -> list[str]:
    """What is wrong with the files of the dataset that lie there; nothing where none lies there."""
    from torchvision.datasets.utils import check_integrity

    cls = _class(name)
    sums: dict[str, str] = {}
    if name == "svhn":
        sums = {file: md5 for _, file, md5 in cls.split_list.values()}
    elif name.endswith("mnist"):
        sums = {f"{cls.__name__}/raw/{file}": md5 for file, md5 in cls.resources}
    else:
        meta = (cls.meta["filename"], cls.meta["md5"])
        sums = {f"{cls.base_folder}/{f}": md5 for f, md5 in (*cls.train_list, *cls.test_list, meta)}
        sums[cls.filename] = cls.tgz_md5
    there = [file for file in sums if os.path.isfile(data_dir / file)]
    damaged = [file for file in there if not check_integrity(data_dir / file, sums[file])]
    missing = [file for file in _files(name) if not os.path.isfile(data_dir / file)]
    if len(missing) == len(_files(name)):
        missing = []
    return [f"{file} is damaged" for file in damaged] + [f"{file} is missing" for file in missing]


def _places(name: str, data_dir: Path) -> list[str]:
    return sorted({str(data_dir / Path(file).parts[0]) for file in _files(name)})


def _begun(work: Callable[[], None]) -> "Future[None]":
    """Work in a thread of its own, which does not keep the process from ending."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
            done.set_result(None)
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
