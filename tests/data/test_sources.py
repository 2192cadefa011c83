"""Datasets in their own formats."""

import pickle
import struct
import sys
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat
from torchvision import datasets

from nas.data.catalogue import DATASETS
from nas.data.loading import load_dataset, load_test
from nas.packages import PackageError
from tests.kits.datasets import data_error, rows
from tests.kits.images import noise


@pytest.mark.usefixtures("offline")
def test_cifar100_in_its_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    cls, names = datasets.CIFAR100, list(DATASETS["cifar100"].classes)
    sums = {}
    for name, count in (("train", 500), ("test", 100)):
        labels = [i % 100 for i in range(count)]
        content = {"data": noise(count, count, 3072), "fine_labels": labels, "coarse_labels": []}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = md5((folder / name).read_bytes()).hexdigest()
    (folder / "meta").write_bytes(
        pickle.dumps({"fine_label_names": [n.replace(" ", "_") for n in names]})
    )
    monkeypatch.setattr(cls, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(cls, "test_list", [["test", sums["test"]]])
    meta = {**cls.meta, "md5": md5((folder / "meta").read_bytes()).hexdigest()}
    monkeypatch.setattr(cls, "meta", meta)
    data = load_dataset("cifar100", tmp_path)
    assert (data.input, len(data.train), len(data.validation)) == (
        DATASETS["cifar100"].input,
        400,
        100,
    )
    test = load_test("cifar100", tmp_path).images
    assert rows(test) == {row.tobytes() for row in noise(100, 100, 3072)}
    assert test.labels_N.tolist() == list(range(100))


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
@pytest.mark.usefixtures("offline")
def test_mnist_in_its_own_format(tmp_path: Path, name: str, folder: str) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 50), ("t10k", 20)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(noise(count, count, 28, 28)))
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    data = load_dataset(name, tmp_path)
    assert (data.input, len(data.train), len(data.validation)) == (DATASETS[name].input, 40, 10)
    assert rows(load_test(name, tmp_path).images) == {
        row.tobytes() for row in noise(20, 20, 28, 28)
    }
    (raw / "train-images-idx3-ubyte").write_bytes(b"damaged")
    assert "delete" in data_error(load_dataset, name, tmp_path)


def write_svhn(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str = "") -> None:
    """A small SVHN in its own format, at this address: 50 training and 20 test images."""
    parts = dict(datasets.SVHN.split_list)
    for part, count in (("train", 50), ("test", 20)):
        path = folder / f"{part}_32x32.mat"
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        savemat(path, {"X": noise(count, 32, 32, 3, count), "y": labels})
        parts[part] = [url + path.name, path.name, md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", parts)


def test_both_files_of_svhn_are_downloaded(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    write_svhn(root, monkeypatch, url)
    data_dir = tmp_path / "data"
    assert len(load_dataset("svhn", data_dir).train) == 40
    assert len(load_test("svhn", data_dir).images) == 20
    assert {path.name for path in data_dir.iterdir()} == {"train_32x32.mat", "test_32x32.mat"}


@pytest.mark.usefixtures("offline")
def test_svhn_in_its_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch)
    data = load_dataset("svhn", tmp_path)
    assert (data.input, len(data.train), data.test_images) == (
        DATASETS["svhn"].input,
        40,
        26_032,
    )
    test = load_test("svhn", tmp_path).images
    assert torch.equal(test.pixels_NHWC, torch.tensor(noise(20, 32, 32, 3, 20)).permute(3, 0, 1, 2))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(PackageError, match="scipy: expected a package that can be imported"):
        load_dataset("svhn", tmp_path)
