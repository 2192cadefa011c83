"""A person's own photos: files of every kind, broken ones, unbalanced classes, and what is said."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.commands import main
from nas.data.catalogue import DataError
from nas.data.decode import Shape, decode
from nas.data.loading import load_dataset, load_test
from nas.data.types import ImageDataset
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits.images import photo, write, write_parts
from tests.kits.studies import TINY_SPACE


@pytest.fixture(autouse=True)
def in_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def error_of(function: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(a: ImageDataset, b: ImageDataset) -> bool:
    return a.digest == b.digest and torch.equal(a.train.pixels_NHWC, b.train.pixels_NHWC)


# Broken files


def test_broken_files_are_counted_and_the_first_ones_named() -> None:
    root = write_parts(".jpg")
    for i in range(5):
        cut(root / f"train/dog/{i:02}.jpg")
    message = error_of(load_dataset, "folder", root)
    assert "5 of 20 training files in photos" in message
    assert "train/dog/00.jpg (truncated), train/dog/01.jpg (truncated)" in message
    assert "train/dog/03.jpg" not in message
    assert "and 2 more" in message
    assert message.endswith("--skip-broken")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_left_out_files_might_as_well_not_be_there(ending: str, content: bytes | None) -> None:
    root = write_parts(ending)
    broken = root / f"train/cat/04{ending}"
    photo(1, 50, 40).save(broken)  # its header must have no say in the shape
    broken.write_bytes(
        broken.read_bytes()[: broken.stat().st_size // 2] if content is None else content
    )
    data = load_dataset("folder", root, skip_broken=True)
    (note,) = data.notes
    assert note.startswith("left out: 1 of 20 training files in photos")
    assert f": {broken.relative_to(root)} (" in note
    assert data.input.height == 12
    again = load_dataset("folder", root, skip_broken=True)  # from the cache
    assert same(data, again)
    assert again.notes == data.notes
    assert "--skip-broken" in error_of(load_dataset, "folder", root)
    broken.unlink()
    without = load_dataset("folder", root)
    assert same(data, without)
    assert without.notes == ()


def test_a_repaired_file_is_read_again() -> None:
    root = write_parts()
    path = root / "train/cat/04.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    broken = load_dataset("folder", root, skip_broken=True)
    path.write_bytes(whole)
    repaired = load_dataset("folder", root)
    assert repaired.notes == ()
    assert repaired.digest != broken.digest
    assert len(repaired.train) + len(repaired.validation) == 20


def test_a_class_must_keep_enough_images() -> None:
    root = write("train", {"cat": 4, "dog": 3})
    for name in ("00.png", "01.png"):
        (root / "train/dog" / name).write_bytes(b"")
    message = error_of(load_dataset, "folder", root, skip_broken=True)
    assert "photos/train/dog: expected at least 2 readable images, to train and validate" in message
    for path in root.glob("train/*/*"):
        path.write_bytes(b"")
    assert "got 0" in error_of(load_dataset, "folder", root, skip_broken=True)


def test_a_file_that_cannot_be_opened_is_not_called_broken() -> None:
    photo(0).save("whole.png")
    assert "No such file" in error_of(decode, ["whole.png", "missing.png"], Shape(3, 8, 8))


# The test part


OPENED: set[str] = set()  # paths, by anything in this process


@pytest.fixture(scope="module", autouse=True)
def watch() -> None:
    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            OPENED.add(arguments[0])

    sys.addaudithook(hear)


def photos_opened_by(read: Callable[[str, Path], object], root: Path) -> set[Path]:
    OPENED.clear()
    read("folder", root)
    return {Path(path) for path in OPENED if path.endswith(".png")}


@pytest.mark.parametrize("has_test", [True, False])
def test_a_search_opens_no_test_file(has_test: bool) -> None:
    root = write_parts() if has_test else write("", {"cat": 10, "dog": 10})
    trained = photos_opened_by(load_dataset, root)
    tested = photos_opened_by(load_test, root)
    assert (len(trained), len(tested)) == ((20, 6) if has_test else (16, 4))
    assert trained | tested == set(root.rglob("*.png"))


@pytest.mark.parametrize("has_test", [True, False])
def test_broken_test_files_are_dealt_with_when_they_are_read(has_test: bool) -> None:
    root = write_parts() if has_test else write("", {"cat": 10, "dog": 10})
    tested = sorted(set(root.rglob("*.png")) - photos_opened_by(load_dataset, root))
    before = load_dataset("folder", root)
    tested[0].write_bytes(b"no image")
    assert same(before, load_dataset("folder", root))
    message = error_of(load_test, "folder", root)
    assert f"1 of {len(tested)} test files in photos" in message
    assert "--skip-broken" in message
    part = load_test("folder", root, skip_broken=True)
    assert len(part.images) == len(tested) - 1
    assert str(tested[0].relative_to(root)) in part.notes[0]
    for path in tested:
        path.write_bytes(b"no image")
    assert "expected at least 1 readable image, to test on" in error_of(
        load_test, "folder", root, skip_broken=True
    )


# Files of every kind


def first_row(image: Image.Image, name: str, **options: Any) -> list[list[int]]:
    """What the first row's pixels become, each red, green and blue."""
    image.save(name, **options)
    (height, width) = image.size[::-1]
    pixels: list[list[int]] = decode([name], Shape(3, height, width))[0, 0].tolist()
    return pixels


def test_kinds_of_photos() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    near = np.array([255, 0, 0])
    cmyk = first_row(red.convert("CMYK"), "cmyk.JPG", quality=100)
    assert np.abs(np.array(cmyk) - near).max() <= 3
    green = Image.new("RGB", red.size, (0, 255, 0))
    for name in ("frames.gif", "frames.webp", "pages.tiff"):
        options = {"lossless": True} if name.endswith("webp") else {}
        row = first_row(red, name, save_all=True, append_images=[green], **options)
        assert row == [[255, 0, 0]] * 4
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    row = first_row(palette, "palette.png", transparency=bytes([255, 255, 0]))
    assert row == [[255, 0, 0], [0, 0, 255], [255, 255, 255]]
    sixteen_bits = Image.fromarray(np.array([[0, 128 * 257, 65535]], dtype=np.uint16))
    assert first_row(sixteen_bits, "deep.png") == [[0] * 3, [128] * 3, [255] * 3]
    assert first_row(red, "exif.png", exif=b"Exif\0\0damaged") == [[255, 0, 0]] * 4
    assert first_row(Image.new("1", (1, 1), 1), "Möwe ☃.png") == [[255] * 3]


def test_huge_and_thin_images() -> None:
    huge = Image.new("1", (9500, 9500), 1)  # from 90 million pixels on Pillow warns
    huge.save("huge.png")
    Image.new("RGB", (1, 300), "white").save("thin.png")
    assert decode(["huge.png", "thin.png"], Shape(1, 8, 5)).tolist() == [[[[255]] * 5] * 8] * 2


@pytest.mark.parametrize(("height", "width"), [(12, 10), (70, 90)])
def test_decode_makes_the_pixels_that_were_trained_on(height: int, width: int) -> None:
    root = write_parts()
    exif = Image.Exif()
    exif[0x0112] = 8
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        photo(i, width, height).save(path, exif=exif)
    data = load_dataset("folder", root)
    assert (data.input.height, data.input.width) == ((12, 10) if height == 12 else (64, 64))
    shape = Shape(data.input.channels, data.input.height, data.input.width)
    known = {
        row.numpy().tobytes() for part in (data.train, data.validation) for row in part.pixels_NHWC
    }
    assert known == {row.tobytes() for row in decode(sorted(root.glob("train/*/*")), shape)}
    assert np.array_equal(
        load_test("folder", root).images.pixels_NHWC, decode(sorted(root.glob("test/*/*")), shape)
    )


def test_digits_saved_as_images_decode_to_themselves() -> None:
    images = load_test("digits", Path("nowhere")).images.pixels_NHWC[:5].numpy()
    for i, pixels in enumerate(images):
        Image.fromarray(pixels[..., 0]).save(f"{i}.png")
    assert np.array_equal(decode([f"{i}.png" for i in range(5)], Shape(1, 8, 8)), images)


def test_class_names_are_kept_or_refused() -> None:
    names = ("<script>", "Möwe ☃", "two  words", "a|b")
    root = write("train", dict.fromkeys(names, 3))
    assert load_dataset("folder", root).classes == tuple(sorted(names))
    (root / "train/a|b").rename(root / "train/a\nb")
    assert r"a\nb" in error_of(load_dataset, "folder", root)


# What is said


def test_unbalanced_classes_are_said() -> None:
    write("test", {"cat": 1, "dog": 1, "emu": 1})
    root = write("train", {"cat": 45, "dog": 15, "emu": 20})
    (note,) = [n for n in load_dataset("folder", root).notes if "unbalanced" in n]
    assert "36 training images of cat, 12 of dog" in note
    assert "cat would reach 56.25% validation accuracy" in note  # 9 of 16
    photo(1).save(root / "train/dog/more.png")
    photo(2).save(root / "train/dog/most.png")
    assert not any("unbalanced" in n for n in load_dataset("folder", root).notes)


def test_a_subset_that_leaves_almost_nothing_is_said() -> None:
    tiny = load_dataset("digits", Path("nowhere"), subset=0.01)
    assert "leaves 10 training images for 10 classes" in tiny.notes[-1]
    assert load_dataset("digits", Path("nowhere"), subset=0.1).notes == ()


def test_search_and_train_say_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    root = write("", {"cat": 10, "<b>": 10})
    for i in range(3):  # of which at most two are in the test part
        (root / f"cat/0{i}.png").write_bytes(b"no image")
    Path("tiny.toml").write_text(TINY_SPACE)
    of = ["--dataset", "folder", "--data-dir", "photos", "--epochs", "1"]
    search = ["search", "--budget", "5M", "--trials", "1", "--space", "tiny.toml", *of]
    assert main(search) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "training files in photos that are no readable images: cat/0" in line
    assert not Path("studies").exists()
    assert main([*search, "--skip-broken", "--json"]) == 0
    captured = capsys.readouterr()
    study = read_study(StudyLocation.at("photos-5M", studies_dir=Path("studies"), storage=None))
    (note,) = [n for n in study.notes if n.startswith("left out: ")]
    assert note in " ".join(captured.err.split())
    assert note in json.loads(captured.out)["notes"]
    assert note in Path("reports/photos-5M.html").read_text()
    assert "--skip-broken" in str(study.searches[0]["command"]).split()
    assert main([*search, "--skip-broken"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:3] == ["python", "-m", "nas.final"]
    short = ["--top", "1", "--seeds", "1", "--epochs", "1"]
    assert main(["final", *command[3:], *short]) == 0  # with the options that the study needs
    capsys.readouterr()
    assert main(["train", "--study", "photos-5M", "--epochs", "1"]) == 0  # as the search did
    found = note.replace(" photos ", f" {root.absolute()} ")  # wherever the command is given
    assert f"NOTE: {found}\n" in capsys.readouterr().err
