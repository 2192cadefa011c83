"""Images whose pixels are equal: within the training part, and between it and the test part."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nas
from nas.commands import main
from nas.data.catalogue import DataError
from nas.data.duplicates import digests_of, first_of_each, of_two_classes
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits.images import noise, photo, write, write_parts
from tests.kits.studies import TINY_SPACE


def different(data: ImageDataset) -> tuple[int, int]:
    """How many images there are to train and validate on, and how many different ones."""
    pixels = torch.cat([data.train.pixels_NHWC, data.validation.pixels_NHWC])
    return len(pixels), len({bytes(image.numpy().tobytes()) for image in pixels})


def test_equal_pixels_are_found() -> None:
    pixels = noise(0, 6, 3, 4, 4)
    pixels[3] = pixels[5] = pixels[1]
    first = first_of_each(digests_of(pixels))
    assert first.tolist() == [0, 1, 2, 1, 4, 1]
    assert not of_two_classes(first, np.zeros(6, dtype=np.int64)).any()
    doubtful = of_two_classes(first, np.array([0, 1, 0, 1, 0, 2]))
    assert np.flatnonzero(doubtful).tolist() == [1, 3, 5]


def test_duplicates_in_the_training_part_are_said_and_dropped() -> None:
    root = write_parts()
    assert load_dataset("folder", root).notes == ()
    before = load_dataset("folder", root, drop_duplicates=True)
    assert before.digest == load_dataset("folder", root).digest
    for path in sorted(root.glob("train/cat/*.png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))  # another file of the same pixels
    data = load_dataset("folder", root)
    (note,) = data.notes
    assert note.startswith("10 of 30 training images duplicate another; ")
    validated = {bytes(image.numpy().tobytes()) for image in data.validation.pixels_NHWC}
    trained = {bytes(image.numpy().tobytes()) for image in data.train.pixels_NHWC}
    known = sum(bytes(image.numpy().tobytes()) in trained for image in data.validation.pixels_NHWC)
    assert known > 0
    assert f"; {known} of 6 validation images are also used for training" in note
    assert note.endswith("--drop-duplicates keeps one of each")
    assert len(validated) <= 6
    dropped = load_dataset("folder", root, drop_duplicates=True)
    assert different(data) == (30, 20)
    assert different(dropped) == (20, 20)
    assert dropped.notes == ("left out: 10 duplicate training images",)
    assert dropped.digest != data.digest


def test_images_of_two_classes_are_kept_in_neither() -> None:
    root = write_parts()
    shutil.copy(root / "train/cat/03.png", root / "train/dog/cat.png")
    assert "; 2 are in two classes at once: " in load_dataset("folder", root).notes[0]
    assert different(load_dataset("folder", root, drop_duplicates=True)) == (19, 19)


def test_a_class_of_one_image_over_and_over_is_refused() -> None:
    root = write("train", {"cat": 5, "dog": 5})
    for i in range(5):
        photo(0).save(root / f"train/cat/{i:02}.png")
    with pytest.raises(DataError, match="at least 2 different training images of cat, got 1"):
        load_dataset("folder", root, drop_duplicates=True)


SEARCH = ["search", "--dataset", "folder", "--budget", "1M", "--space", "tiny.toml"]
FINAL = ["final", "--study", "s", "--top", "1", "--seeds", "1", "--recipe", "fast", "--epochs", "1"]
OF = ["--data-dir", "photos"]


def search(*words: str) -> int:
    Path("tiny.toml").write_text(TINY_SPACE)
    return main([*SEARCH, *OF, "--study", "s", "--trials", "1", "--epochs", "1", *words])


def test_duplicates_of_test_images_are_said_wherever_the_accuracy_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_parts()
    for i in range(2):
        shutil.copy(root / f"train/cat/{i:02}.png", root / f"test/cat/twin-{i}.png")
    shutil.copy(root / "test/dog/00.png", root / "test/dog/again.png")
    assert search() == 0
    assert "duplicate" not in "".join(capsys.readouterr())  # it has not read a test image
    assert main([*FINAL, *OF]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    seen = "2 of 9 test images duplicate a training or validation image"
    assert seen in said[0]
    assert "1 of 9 test images duplicate another test image" in said[1]
    others = sorted(set(root.glob("test/*/*.png")) - set(root.glob("test/cat/twin-*.png")))
    predictions = nas.load("studies/s/final").predict(others, top=1)
    right = sum(Path(found.path).parent.name == found.classes[0] for found in predictions)
    assert f"on the other 7 the accuracy of the exported network is {right / 7:.2%}" in said[0]
    for page in (Path("studies/s/final/README.md"), Path("reports/s.html")):
        assert seen in page.read_text()
    assert main([*FINAL, *OF, "--drop-duplicates"]) == 2
    assert "--again" in capsys.readouterr().err
    assert main([*FINAL, *OF, "--drop-duplicates", "--again"]) == 0
    seen = "left out of 9 test images: 2 duplicates of a training or validation image"
    assert f"{seen} and 1 duplicate of another test image\n" in capsys.readouterr().out
    record = json.loads(Path("studies/s/final/metrics.json").read_text())
    assert (record["test_images"], record["readings"]) == (6, 2)
    (root / "test/dog/again.png").unlink()
    assert main([*FINAL, *OF, "--drop-duplicates", "--again"]) == 0
    assert f"{seen.replace('9', '8')}\n" in capsys.readouterr().out


def test_a_study_without_duplicates_is_gone_on_with_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_parts()
    shutil.copy(root / "train/cat/00.png", root / "train/cat/twin.png")
    assert search("--drop-duplicates") == 0
    out = capsys.readouterr().out
    assert "nas.final --study s\n" in out
    study = read_study(StudyLocation.at("s", studies_dir=Path("studies"), storage=None))
    assert study.notes == ("left out: 1 duplicate training image",)
    assert search() == 0  # without the option
    assert main(FINAL) == 0
    capsys.readouterr()
    assert main(["train", "--study", "s", "--epochs", "1"]) == 0
    assert "left out: 1 duplicate training image" in capsys.readouterr().err
