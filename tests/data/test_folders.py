"""Class folders: their parts and names, and what is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from nas.architecture import ImageInput
from nas.data.catalogue import DATASETS, DataError
from nas.data.loading import load_dataset, load_test
from tests.kits.datasets import data_error, rows
from tests.kits.images import noise, write, write_ants_and_bees, write_class

CIFAR10 = DATASETS["cifar10"]


def test_folders_with_a_test_part(tmp_path: Path) -> None:
    data = load_dataset("folder", write_ants_and_bees(tmp_path))
    assert data.classes == ("ant", "bee")
    assert data.input == ImageInput(channels=3, height=6, width=5, classes=2)
    assert (len(data.train), len(data.validation), data.test_images) == (16, 4, 6)
    assert torch.bincount(data.validation.labels_N).tolist() == [2, 2]
    assert data.notes == ()
    assert data.horizontal_flip
    test = load_test("folder", tmp_path).images
    assert test.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(test.pixels_NHWC[3], torch.tensor(noise(101_000, 6, 5, 3)))


def test_long_names_of_classes_are_counted(tmp_path: Path) -> None:
    for i, name in enumerate(("Haarmützenmoos", "ant")):  # 15 and 3 bytes of UTF-8
        write_class(tmp_path / name, 10, seed=i)
    assert load_dataset("folder", tmp_path).input.name_bytes == 15 + 3 - 2 * 8


def test_folders_without_a_test_part_hold_one_back(tmp_path: Path) -> None:
    for i, name in enumerate(("train", "car")):  # a class may be called train
        write_class(tmp_path / name, 10, seed=i)
    data = load_dataset("folder", tmp_path, split_seed=5)
    test = load_test("folder", tmp_path, split_seed=5).images
    assert data.classes == ("car", "train")
    assert (len(data.train), len(data.validation), data.test_images) == (12, 4, 4)
    parts = [rows(data.train), rows(data.validation), rows(test)]
    assert len(set().union(*parts)) == 20
    assert "no test part" in data.notes[0]


def test_search_never_decodes_a_test_image(tmp_path: Path) -> None:
    for path in write_ants_and_bees(tmp_path).glob("test/*/*.png"):
        path.write_bytes(b"no image")
    assert load_dataset("folder", tmp_path).test_images == 6
    with pytest.raises(DataError, match=r"test/ant/000\.png"):
        load_test("folder", tmp_path)


def test_digest_depends_on_the_images_alone(tmp_path: Path) -> None:
    first = load_dataset("folder", write_ants_and_bees(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    copy = load_dataset("folder", tmp_path / "b", subset=0.5)
    assert len(first.digest) == 16
    assert copy.digest == first.digest
    Image.fromarray(noise(9, 6, 5, 3)).save(tmp_path / "b/train/ant/000.png")
    assert load_dataset("folder", tmp_path / "b").digest != first.digest


def test_cifar10_as_class_folders(tmp_path: Path) -> None:
    for i, name in enumerate(reversed(CIFAR10.classes)):
        write_class(tmp_path / "train" / name, 5, seed=i, shape=(32, 32, 3))
        write_class(tmp_path / "test" / name, 1, seed=50 + i, shape=(32, 32, 3))
    data = load_dataset("auto", tmp_path)
    assert (data.name, data.classes) == ("cifar10", CIFAR10.classes)
    assert data.input == CIFAR10.input
    assert (len(data.train), len(data.validation), data.test_images) == (40, 10, 10)
    assert "50 training and 10 test images, not CIFAR-10's 50,000 and 10,000" in data.notes[0]
    trucks = load_test("cifar10", tmp_path).images.pixels_NHWC[9]
    assert torch.equal(trucks, torch.tensor(noise(50_000, 32, 32, 3)))
    Image.fromarray(noise(0, 31, 32, 3)).save(tmp_path / "train/cat/000.png")
    assert "expected an image of 32x32 pixels, got 31x32" in data_error(
        load_dataset, "cifar10", tmp_path
    )
    shutil.rmtree(tmp_path / "test")
    assert "test/ beside its train/" in data_error(load_dataset, "auto", tmp_path)


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in data_error(load_dataset, "folder", tmp_path / "missing")
    assert "got none" in data_error(load_dataset, "folder", tmp_path)
    write_class(tmp_path / "one", 9)
    assert "at least 2 class folders" in data_error(load_dataset, "folder", tmp_path)
    (tmp_path / "two").mkdir()
    assert "two: expected images in this class folder" in data_error(
        load_dataset, "folder", tmp_path
    )
    write_class(tmp_path / "two", 2)
    assert "two: expected at least 3 readable images" in data_error(
        load_dataset, "folder", tmp_path
    )
    write_class(tmp_path / "two", 3)
    (tmp_path / "two/readme.txt").write_text("no image")
    (note,) = [n for n in load_dataset("folder", tmp_path).notes if "ignored" in n]
    assert "1 file in" in note
    assert ".txt" in note
    (tmp_path / "file").write_text("")
    assert "got the file" in data_error(load_dataset, "folder", tmp_path / "file")
    assert "got the file" in data_error(load_dataset, "mnist", tmp_path / "file")
    assert "got the file" in data_error(load_dataset, "auto", tmp_path / "file")


def test_parts_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write_ants_and_bees(tmp_path, train=1)
    assert "ant: expected at least 2 readable images" in data_error(
        load_dataset, "folder", tmp_path
    )
    (tmp_path / "test/bee").rename(tmp_path / "test/wasp")
    assert "got no 'bee': put images of it there" in data_error(load_dataset, "folder", tmp_path)
    (tmp_path / "train/wasp").mkdir()
    (tmp_path / "test/bee").mkdir()
    (tmp_path / "train/wasp").rmdir()
    assert "got 'wasp' too" in data_error(load_dataset, "folder", tmp_path)
    shutil.rmtree(tmp_path / "test/bee")
    assert "use --dataset folder" in data_error(load_dataset, "cifar10", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_broken_images_are_named(tmp_path: Path, content: bytes | str) -> None:
    broken = write_ants_and_bees(tmp_path) / "train/bee/003.png"
    broken.write_bytes(broken.read_bytes()[:80] if isinstance(content, str) else content)
    error = data_error(load_dataset, "folder", tmp_path)
    assert "1 of 20 training files" in error
    assert "train/bee/003.png (" in error
    assert "--skip-broken" in error


def test_class_names_are_kept_or_refused() -> None:
    names = ("<script>", "Möwe ☃", "two  words", "a|b")
    root = write("train", dict.fromkeys(names, 3))
    assert load_dataset("folder", root).classes == tuple(sorted(names))
    (root / "train/a|b").rename(root / "train/a\nb")
    assert r"a\nb" in data_error(load_dataset, "folder", root)
