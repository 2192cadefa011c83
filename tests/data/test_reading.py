"""The files of class folders: which are opened when, and what becomes of broken ones."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.commands import main
from nas.data.loading import load_dataset, load_test
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits.commands import error_of
from tests.kits.datasets import data_error, same
from tests.kits.images import photo, write, write_parts
from tests.kits.studies import TINY_SPACE


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def test_broken_files_are_counted_and_the_first_ones_named() -> None:
    root = write_parts(".jpg")
    for i in range(5):
        cut(root / f"train/dog/{i:02}.jpg")
    message = data_error(load_dataset, "folder", root)
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
    assert "--skip-broken" in data_error(load_dataset, "folder", root)
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
    message = data_error(load_dataset, "folder", root, skip_broken=True)
    assert "photos/train/dog: expected at least 2 readable images, to train and validate" in message
    for path in root.glob("train/*/*"):
        path.write_bytes(b"")
    assert "got 0" in data_error(load_dataset, "folder", root, skip_broken=True)


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
    message = data_error(load_test, "folder", root)
    assert f"1 of {len(tested)} test files in photos" in message
    assert "--skip-broken" in message
    part = load_test("folder", root, skip_broken=True)
    assert len(part.images) == len(tested) - 1
    assert str(tested[0].relative_to(root)) in part.notes[0]
    for path in tested:
        path.write_bytes(b"no image")
    assert "expected at least 1 readable image, to test on" in data_error(
        load_test, "folder", root, skip_broken=True
    )


def test_search_and_train_say_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    root = write("", {"cat": 10, "<b>": 10})
    for i in range(3):  # of which at most two are in the test part
        (root / f"cat/0{i}.png").write_bytes(b"no image")
    Path("tiny.toml").write_text(TINY_SPACE)
    of = ["--dataset", "folder", "--data-dir", "photos", "--epochs", "1"]
    search = ["search", "--budget", "5M", "--trials", "1", "--space", "tiny.toml", *of]
    line = error_of(capsys, main(search))
    assert "training files in photos that are not readable images: cat/0" in line
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
