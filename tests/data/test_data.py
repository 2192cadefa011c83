import http.server
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.io import savemat
from torchvision import datasets

import nas
from nas.architecture import ImageInput
from nas.data import download
from nas.data.catalogue import DATASET_NAMES, DATASETS, DataError
from nas.data.loading import load_dataset, load_test
from nas.data.split import Purpose, draw, validation_share
from nas.data.types import ImageDataset, Images
from nas.errors import RequestError
from nas.packages import PackageError
from tests.kits.training import channels_first
from tests.kits.waiting import PATIENCE

CIFAR10 = DATASETS["cifar10"].classes
DOWNLOADED = {name: info.torchvision for name, info in DATASETS.items() if info.torchvision}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{closed_port()}/"
    for cls in (getattr(datasets, name) for name in DOWNLOADED.values()):
        if hasattr(cls, "split_list"):
            parts = {part: [address, *rest] for part, (_, *rest) in cls.split_list.items()}
            monkeypatch.setattr(cls, "split_list", parts)
        elif hasattr(cls, "mirrors"):
            monkeypatch.setattr(cls, "mirrors", [address])
        else:
            monkeypatch.setattr(cls, "url", address)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_class(
    folder: Path, count: int, seed: int = 0, shape: tuple[int, ...] = (6, 5, 3)
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise(1000 * seed + i, *shape)).save(folder / f"{i:03}.png")


def write_parts(root: Path, classes: tuple[str, ...] = ("ant", "bee"), train: int = 10) -> Path:
    for i, name in enumerate(classes):
        write_class(root / "train" / name, train, seed=i)
        write_class(root / "test" / name, 3, seed=100 + i)
    return root


def rows(images: Images) -> set[bytes]:
    """The bytes of each image, channel after channel as in CIFAR's own files."""
    return {bytes(row.numpy().tobytes()) for row in channels_first(images.pixels_NHWC)}


def same(a: ImageDataset, b: ImageDataset) -> bool:
    return all(
        torch.equal(x.pixels_NHWC, y.pixels_NHWC) and torch.equal(x.labels_N, y.labels_N)
        for x, y in ((a.train, b.train), (a.validation, b.validation))
    )


def error_of(name: str, data_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(name, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


# The catalogue


def test_catalogue_needs_no_heavy_import() -> None:
    code = (
        "import sys; from nas.data.catalogue import DATASETS; "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_catalogue_matches_torchvision() -> None:
    assert DATASET_NAMES[0] == "auto"
    assert DATASET_NAMES[-1] == "folder"
    assert len(DATASETS["cifar100"].classes) == len(set(DATASETS["cifar100"].classes)) == 100
    assert sorted(DATASETS["cifar100"].classes) == list(DATASETS["cifar100"].classes)
    assert list(DATASETS["fashion-mnist"].classes) == datasets.FashionMNIST.classes
    assert DATASETS["digits"].input == ImageInput(channels=1, height=8, width=8, classes=10)
    assert {name for name, info in DATASETS.items() if info.horizontal_flip} == {
        "cifar10",
        "cifar100",
        "fashion-mnist",
    }


@pytest.mark.parametrize("file", ["README.md", "docs/own-data.md"])
def test_docs_name_every_dataset(file: str) -> None:
    text = (Path(nas.__file__).parent.parent / file).read_text(encoding="utf-8")
    assert {name for name in DATASETS if f"`{name}`" not in text} == set()


# Draws


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**40),
    purpose=st.sampled_from(Purpose),
)
def test_a_draw_takes_its_share_of_each_class(
    labels: list[int], share: float, seed: int, purpose: Purpose
) -> None:
    array = np.array(labels, dtype=np.int64)
    drawn = draw(array, share, seed=seed, purpose=purpose)
    assert np.array_equal(drawn, draw(array, share, seed=seed, purpose=purpose))
    for label in set(labels):
        count = int(np.sum(array == label))
        taken = int(np.sum(drawn & (array == label)))
        assert taken >= 1
        assert taken == 1 or abs(taken - share * count) <= 0.5 + 1e-9
        if count >= 2 and share <= 0.2:
            assert taken < count


def test_a_draw_is_the_same_for_ever() -> None:
    labels = np.arange(20) % 2
    drawn = draw(labels, 0.3, seed=7, purpose=Purpose.VALIDATION)
    assert np.flatnonzero(drawn).tolist() == [1, 2, 3, 10, 11, 18]
    assert len({draw(labels, 0.3, seed=7, purpose=p).tobytes() for p in Purpose}) == 3


def test_validation_is_a_tenth_of_many_and_a_fifth_of_few() -> None:
    assert validation_share(20_000) == 0.1
    assert validation_share(19_999) == 0.2
    labels = np.repeat(np.arange(10), 5000)
    drawn = draw(labels, validation_share(len(labels)), seed=0, purpose=Purpose.VALIDATION)
    assert np.bincount(labels[drawn]).tolist() == [500] * 10


# Digits


def test_digits_are_split_into_disjoint_parts_that_are_everything(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_dataset("digits", tmp_path / "missing", split_seed=3)
    test = load_test("digits", tmp_path / "missing", split_seed=3).images
    info = DATASETS["digits"]
    assert data.input == info.input
    assert len(data.train) + len(data.validation) == 1_438
    assert data.test_images == len(test) == info.test_images
    parts = [rows(data.train), rows(data.validation), rows(test)]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    every = {
        np.rint(image * (255 / 16)).astype(np.uint8).tobytes() for image in load_digits().images
    }
    assert set().union(*parts) == every
    per_class = torch.bincount(data.validation.labels_N)
    assert per_class.min() >= 27
    assert per_class.max() <= 30
    assert not (tmp_path / "missing").exists()


def test_a_split_follows_its_seed_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = load_dataset("digits", tmp_path)
    torch.manual_seed(2)
    np.random.seed(2)
    assert same(first, load_dataset("digits", tmp_path))
    assert not same(first, load_dataset("digits", tmp_path, split_seed=1))


def test_a_subset_thins_the_training_part_only(tmp_path: Path) -> None:
    whole = load_dataset("digits", tmp_path)
    part = load_dataset("digits", tmp_path, subset=0.1)
    assert rows(part.train) < rows(whole.train)
    assert torch.equal(part.validation.pixels_NHWC, whole.validation.pixels_NHWC)
    assert (part.mean, part.std, part.digest) == (whole.mean, whole.std, whole.digest)
    shares = torch.bincount(part.train.labels_N) / torch.bincount(whole.train.labels_N)
    assert bool(((shares > 0.09) & (shares < 0.11)).all())
    tiny = load_dataset("digits", tmp_path, subset=1e-9)
    assert torch.bincount(tiny.train.labels_N).tolist() == [1] * 10


def test_mean_and_std_are_those_of_the_training_part(tmp_path: Path) -> None:
    data = load_dataset("folder", write_parts(tmp_path))
    scaled = data.train.pixels_NHWC.double() / 255
    assert data.mean == pytest.approx(scaled.mean(dim=(0, 1, 2)).tolist())
    assert data.std == pytest.approx(scaled.std(dim=(0, 1, 2), correction=0).tolist())


def test_a_dataset_moves_to_a_device(tmp_path: Path) -> None:
    moved = load_dataset("digits", tmp_path).to("meta")
    assert moved.train.pixels_NHWC.device.type == moved.validation.labels_N.device.type == "meta"


# Class folders


def test_folders_with_a_test_part(tmp_path: Path) -> None:
    data = load_dataset("folder", write_parts(tmp_path))
    assert data.classes == ("ant", "bee")
    assert data.input == ImageInput(channels=3, height=6, width=5, classes=2)
    assert (len(data.train), len(data.validation), data.test_images) == (16, 4, 6)
    assert torch.bincount(data.validation.labels_N).tolist() == [2, 2]
    assert data.notes == ()
    assert data.horizontal_flip
    test = load_test("folder", tmp_path).images
    assert test.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(test.pixels_NHWC[3], torch.tensor(noise(101_000, 6, 5, 3)))


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
    for path in write_parts(tmp_path).glob("test/*/*.png"):
        path.write_bytes(b"no image")
    assert load_dataset("folder", tmp_path).test_images == 6
    with pytest.raises(DataError, match=r"test/ant/000\.png"):
        load_test("folder", tmp_path)


def test_digest_depends_on_the_images_alone(tmp_path: Path) -> None:
    first = load_dataset("folder", write_parts(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    copy = load_dataset("folder", tmp_path / "b", subset=0.5)
    assert len(first.digest) == 16
    assert copy.digest == first.digest
    Image.fromarray(noise(9, 6, 5, 3)).save(tmp_path / "b/train/ant/000.png")
    assert load_dataset("folder", tmp_path / "b").digest != first.digest


def test_cifar10_as_class_folders(tmp_path: Path) -> None:
    for i, name in enumerate(reversed(CIFAR10)):
        write_class(tmp_path / "train" / name, 5, seed=i, shape=(32, 32, 3))
        write_class(tmp_path / "test" / name, 1, seed=50 + i, shape=(32, 32, 3))
    data = load_dataset("auto", tmp_path)
    assert (data.name, data.classes) == ("cifar10", CIFAR10)
    assert data.input == DATASETS["cifar10"].input
    assert (len(data.train), len(data.validation), data.test_images) == (40, 10, 10)
    assert "50 training and 10 test images, not CIFAR-10's 50,000 and 10,000" in data.notes[0]
    trucks = load_test("cifar10", tmp_path).images.pixels_NHWC[9]
    assert torch.equal(trucks, torch.tensor(noise(50_000, 32, 32, 3)))
    Image.fromarray(noise(0, 31, 32, 3)).save(tmp_path / "train/cat/000.png")
    assert "expected an image of 32x32 pixels, got 31x32" in error_of("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "test")
    assert "test/ beside its train/" in error_of("auto", tmp_path)


# Decoding


def write_pairs(root: Path, images: list[Image.Image], suffix: str = ".png") -> Path:
    """The same images in two classes, three times each, so that every split has all of them."""
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True)
        (root / "test" / name).mkdir(parents=True)
        for i in range(3):
            for j, image in enumerate(images):
                image.save(root / "train" / name / f"{i}-{j}{suffix}")
        images[0].save(root / "test" / name / f"0{suffix}")
    return root


def test_orientation_is_applied(tmp_path: Path) -> None:
    upright = Image.fromarray(noise(0, 4, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    root = write_pairs(tmp_path, [upright.transpose(Image.Transpose.ROTATE_90)])
    for path in root.glob("*/*/*.png"):
        with Image.open(path) as image:
            image.load()
        image.save(path.with_suffix(".webp"), exif=exif, lossless=True)
        path.unlink()
    data = load_dataset("folder", root)
    assert (data.input.height, data.input.width) == (4, 7)
    assert not any("resized" in note for note in data.notes)
    assert torch.equal(data.train.pixels_NHWC[0], torch.tensor(noise(0, 4, 7, 3)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 3, 6))
    data = load_dataset("folder", write_pairs(tmp_path, [image.convert(mode)]))
    assert data.input.channels == (1 if mode == "LA" else 3)
    row = data.train.pixels_NHWC[0, 0, :, 0]
    assert row.tolist() == [0, 0, 0, 255, 255, 255]


def test_palettes_become_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (6, 6), (255, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE)
    data = load_dataset("folder", write_pairs(tmp_path, [red], ".gif"))
    assert data.train.pixels_NHWC[0, 0, 0].tolist() == [255, 0, 0]
    assert data.mean == pytest.approx((1.0, 0.0, 0.0))
    assert data.std == (1.0, 1.0, 1.0)


def test_gray_images_have_one_channel_unless_one_is_in_colour(tmp_path: Path) -> None:
    gray = Image.fromarray(noise(0, 6, 6))
    sixteen_bits = Image.fromarray(noise(0, 6, 6).astype(np.uint16) * 257)
    data = load_dataset("folder", write_pairs(tmp_path / "gray", [gray, sixteen_bits]))
    assert data.input.channels == 1
    assert rows(data.train) == {noise(0, 6, 6).tobytes()}
    colour = Image.fromarray(noise(0, 6, 6, 3))
    assert load_dataset("folder", write_pairs(tmp_path / "b", [gray, colour])).input.channels == 3


def test_images_of_many_sizes_become_squares(tmp_path: Path) -> None:
    wide, tall = Image.fromarray(noise(0, 20, 30, 3)), Image.fromarray(noise(1, 50, 40, 3))
    data = load_dataset("folder", write_pairs(tmp_path, [wide, wide, tall], ".bmp"))
    assert (data.input.height, data.input.width) == (20, 20)
    assert "of 2 sizes: resized and centre-cropped to 20x20" in data.notes[0]
    middle = noise(0, 20, 30, 3)[:, 5:25].transpose(2, 0, 1)
    assert middle.tobytes() in rows(data.train)
    assert load_test("folder", tmp_path).images.pixels_NHWC.shape == (2, 20, 20, 3)
    assert load_dataset("folder", tmp_path).notes == data.notes  # from the cache too


def test_large_photographs_are_made_smaller(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 900).astype(np.uint8)
    photo = Image.fromarray(np.broadcast_to(ramp[None, :, None], (600, 900, 3)).copy())
    data = load_dataset("folder", write_pairs(tmp_path, [photo], ".jpg"))
    assert (data.input.height, data.input.width) == (64, 64)
    expected = np.asarray(ImageOps.fit(photo, (64, 64)), dtype=np.int64)
    came = data.train.pixels_NHWC[0].numpy()
    assert np.abs(came - expected).max() <= 4


# The cache


def write_bitmaps(root: Path) -> Path:
    image = Image.fromarray(noise(0, 6, 6, 3))
    return write_pairs(root, [image], ".bmp")


def test_a_second_load_does_not_decode(tmp_path: Path) -> None:
    first = load_dataset("folder", write_bitmaps(tmp_path))
    paths = sorted(tmp_path.glob("train/*/*.bmp"))
    for path in paths:
        times = path.stat()
        Image.fromarray(noise(1, 6, 6, 3)).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert same(first, load_dataset("folder", tmp_path))
    os.utime(paths[0], ns=(0, 0))
    assert not same(first, load_dataset("folder", tmp_path))
    assert len(list(tmp_path.glob(".nas-cache/*"))) == 1  # the old one is gone


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    first = load_dataset("folder", write_bitmaps(tmp_path))
    (cache,) = tmp_path.glob(".nas-cache/*.npz")
    good = cache.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 3] ^= 255
    cache.write_bytes(
        {"flipped": bytes(bad), "cut": good[:500], "empty": b"", "other": b"{}"}[damage]
    )
    assert same(first, load_dataset("folder", tmp_path))
    assert cache.read_bytes() == good


def test_a_folder_that_cannot_be_written_is_cached_elsewhere(
    tmp_path: Path, own_cache: Path
) -> None:
    write_bitmaps(tmp_path)
    (tmp_path / ".nas-cache").write_text("in the way")
    first = load_dataset("folder", tmp_path)
    assert len(list(own_cache.glob("nas/*/*.npz"))) == 1
    assert same(first, load_dataset("folder", tmp_path))
    shutil.rmtree(own_cache)
    own_cache.write_text("in the way as well")
    anew = load_dataset("folder", tmp_path)
    assert same(first, anew)
    assert [note for note in anew.notes if note not in first.notes] == [
        f"neither {tmp_path}/.nas-cache nor a cache folder of the user can be written: the images "
        "are decoded anew at every start"
    ]


@pytest.mark.parametrize("given", [None, "", "relative"])
def test_without_a_home_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME")
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    write_bitmaps(tmp_path / "data")
    (tmp_path / "data/.nas-cache").write_text("in the way")
    notes = load_dataset("folder", tmp_path / "data").notes
    assert len([note for note in notes if "decoded anew" in note]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# What is refused


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in error_of("folder", tmp_path / "missing")
    assert "got none" in error_of("folder", tmp_path)
    write_class(tmp_path / "one", 9)
    assert "at least 2 class folders" in error_of("folder", tmp_path)
    (tmp_path / "two").mkdir()
    assert "two: expected images in this class folder" in error_of("folder", tmp_path)
    write_class(tmp_path / "two", 2)
    assert "two: expected at least 3 readable images" in error_of("folder", tmp_path)
    write_class(tmp_path / "two", 3)
    (tmp_path / "two/readme.txt").write_text("no image")
    (note,) = [n for n in load_dataset("folder", tmp_path).notes if "ignored" in n]
    assert "1 file in" in note
    assert ".txt" in note
    (tmp_path / "file").write_text("")
    assert "got the file" in error_of("folder", tmp_path / "file")
    assert "got the file" in error_of("mnist", tmp_path / "file")
    assert "got the file" in error_of("auto", tmp_path / "file")


def test_parts_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, train=1)
    assert "ant: expected at least 2 readable images" in error_of("folder", tmp_path)
    (tmp_path / "test/bee").rename(tmp_path / "test/wasp")
    assert "got no 'bee': put images of it there" in error_of("folder", tmp_path)
    (tmp_path / "train/wasp").mkdir()
    (tmp_path / "test/bee").mkdir()
    (tmp_path / "train/wasp").rmdir()
    assert "got 'wasp' too" in error_of("folder", tmp_path)
    shutil.rmtree(tmp_path / "test/bee")
    assert "use --dataset folder" in error_of("cifar10", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_broken_images_are_named(tmp_path: Path, content: bytes | str) -> None:
    broken = write_parts(tmp_path) / "train/bee/003.png"
    broken.write_bytes(broken.read_bytes()[:80] if isinstance(content, str) else content)
    error = error_of("folder", tmp_path)
    assert "1 of 20 training files" in error
    assert "train/bee/003.png (" in error
    assert "--skip-broken" in error


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    assert "got 'cifar'" in error_of("cifar", tmp_path)
    for subset in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(RequestError, match="subset must be above 0"):
            load_dataset("digits", tmp_path, subset=subset)
    with pytest.raises(RequestError, match="split_seed must be"):
        load_dataset("digits", tmp_path, split_seed=-1)
    with pytest.raises(DataError, match="'auto'"):
        load_test("auto", tmp_path)
    with pytest.raises(ValueError, match="uint8"):
        Images(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64))


# Downloads


@pytest.mark.usefixtures("offline")
def test_auto_falls_back_to_digits_and_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data = load_dataset("auto", data_dir, subset=0.5)
    assert (data.name, data.subset) == ("digits", 0.5)
    assert data.notes[0].startswith(f"CIFAR-10 is not in {data_dir} and could not be downloaded (")
    assert "handwritten digits instead" in data.notes[0]
    assert not data_dir.exists()
    write_parts(tmp_path / "own")
    assert "use --dataset folder" in error_of("auto", tmp_path / "own")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_dataset_asked_for_by_name_is_that_or_an_error(tmp_path: Path, name: str) -> None:
    assert f"expected {DATASETS[name].title} in {tmp_path}" in error_of(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reason = download.probe([f"http://127.0.0.1:{server.getsockname()[1]}/"], seconds=0.3)
    assert reason is not None
    assert "127.0.0.1" in reason
    assert download.PROBE_SECONDS < 8


def test_a_name_look_up_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait(PATIENCE)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    reason = download.probe(["http://nowhere.invalid/"], seconds=0.2)
    released.set()
    assert reason == "no answer from nowhere.invalid within 0.2 seconds"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder that it serves."""
    root = tmp_path / "served"
    root.mkdir()

    def handler(*args: object) -> QuietHandler:
        return QuietHandler(*args, directory=str(root))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", root
        server.shutdown()
        thread.join()


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small CIFAR-10 in its own format: 100 training and 20 test images."""
    folder.mkdir(parents=True)
    files: dict[str, dict[str, object]] = {"batches.meta": {"label_names": list(CIFAR10)}}
    for i in range(6):
        batch = {"data": noise(i, 20, 3072), "labels": [j % 10 for j in range(20)]}
        files[f"data_batch_{i + 1}" if i < 5 else "test_batch"] = batch
    sums = {}
    for name, content in files.items():
        encoded = pickle.dumps(content)
        (folder / name).write_bytes(encoded)
        sums[name] = md5(encoded).hexdigest()
    train = [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def write_cifar10_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cifar10(root / "made/cifar-10-batches-py", monkeypatch)
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "made/cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive.read_bytes()).hexdigest())
    return archive


def check_cifar10(data_dir: Path) -> None:
    data = load_dataset("auto", data_dir)
    assert (data.name, data.notes, data.test_images) == ("cifar10", (), 10_000)
    assert (len(data.train), len(data.validation)) == (80, 20)
    test = load_test("cifar10", data_dir).images
    assert rows(test) == {row.tobytes() for row in noise(5, 20, 3072)}
    assert rows(test).isdisjoint(rows(data.train) | rows(data.validation))


def test_cifar10_is_downloaded_once(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    archive = write_cifar10_archive(root, monkeypatch)
    monkeypatch.setattr(datasets.CIFAR10, "url", url + archive.name)
    data_dir = tmp_path / "data"
    check_cifar10(data_dir)
    archive.unlink()
    check_cifar10(data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["cifar-10-batches-py"]


@pytest.mark.usefixtures("offline")
def test_an_archive_at_hand_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_cifar10_archive(tmp_path, monkeypatch)
    before = archive.read_bytes()
    check_cifar10(tmp_path)
    assert archive.read_bytes() == before
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(b"damaged")
    check_cifar10(tmp_path)


@pytest.mark.usefixtures("offline")
def test_damaged_and_missing_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10_archive(tmp_path, monkeypatch).write_bytes(b"damaged")
    error = error_of("cifar10", tmp_path)
    assert "got a part of it (cifar-10-python.tar.gz is damaged; 127.0.0.1" in error
    assert "cifar-10-python.tar.gz is damaged" in load_dataset("auto", tmp_path).notes[0]
    folder = tmp_path / "cifar-10-batches-py"
    (tmp_path / "made/cifar-10-batches-py").rename(folder)
    (folder / "data_batch_2").write_bytes(b"damaged")
    (folder / "test_batch").unlink()
    error = error_of("cifar10", tmp_path)
    assert "cifar-10-batches-py/data_batch_2 is damaged" in error
    assert "cifar-10-batches-py/test_batch is missing" in error
    (tmp_path / "train_32x32.mat").write_bytes(b"damaged")
    error = error_of("svhn", tmp_path)
    assert "train_32x32.mat is damaged, test_32x32.mat is missing" in error


def test_a_download_of_something_else_falls_back(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    (root / "page").write_text("please log in")
    monkeypatch.setattr(datasets.CIFAR10, "url", url + "page")
    assert load_dataset("auto", tmp_path / "data").name == "digits"
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.setattr(datasets.CIFAR10, "url", url + "missing")
    assert "answered 404" in error_of("cifar10", tmp_path / "data")


def test_a_download_that_stalls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(download, "probe", lambda urls: None)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        monkeypatch.setattr(
            datasets.CIFAR10, "url", f"http://127.0.0.1:{hanging.getsockname()[1]}/a.tar.gz"
        )
        assert "timed out" in error_of("cifar10", tmp_path)
    assert socket.getdefaulttimeout() is None
    assert list(tmp_path.iterdir()) == []


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
    assert "delete" in error_of(name, tmp_path)


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
