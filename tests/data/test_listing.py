"""What lies in folders of real images beside images: links, pipes, folders in folders, rubbish."""

import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from nas.commands import main, make_parser
from nas.data.catalogue import DataError
from nas.data.decode import Shape, decode
from nas.data.loading import load_dataset, load_test
from nas.data.opening import FORMATS
from tests.kits.commands import Capture, error_line
from tests.kits.exports import make_spec, write_network
from tests.kits.images import photo, write, write_parts

SEARCH = ["search", "--budget", "1M", "--dataset", "folder", "--data-dir", "photos"]


def write_model() -> None:
    spec = make_spec(classes=("cat", "dog", "emu"))
    write_network(Path("model"), spec)


def predicted(capsys: Capture, folder: Path, status: int = 0) -> tuple[set[str], list[str]]:
    """The files in a folder that `nas predict` names a class for, and its lines on stderr."""
    assert main(["predict", "model", str(folder)]) == status
    printed = capsys.readouterr()
    return {line.split()[0] for line in printed.out.splitlines()[1:]}, printed.err.splitlines()


# Links, pipes, sockets


def test_links_that_lead_nowhere_are_broken_files(capsys: Capture) -> None:
    root = write("train", {"cat": 20, "dog": 20})
    write("test", {"cat": 2, "dog": 2})
    for i in range(10):
        (root / f"train/cat/{i:02}.png").unlink()
        (root / f"train/cat/{i:02}.png").symlink_to("/nowhere/photo.png")
    (root / "train/dog/00.png").unlink()
    (root / "train/dog/00.png").symlink_to("00.png")  # to itself
    line = error_line(capsys, main(SEARCH))
    assert "11 of 40 training files in photos" in line
    assert "train/cat/00.png (a broken link)" in line
    data = load_dataset("folder", root, skip_broken=True)
    assert len(data.train) + len(data.validation) == 29
    assert any(note.startswith("left out: 11 of 40 training files") for note in data.notes)
    write_model()
    files, errors = predicted(capsys, root / "train", status=1)
    assert len(files) == 29
    assert len(errors) == 11
    (root / "train/dog/00.png").unlink()
    photo(7).save(root / "train/dog/00.png")
    again = load_dataset("folder", root, skip_broken=True)
    assert len(again.train) + len(again.validation) == 30


@pytest.mark.parametrize("name", ["train/emu", "test"])
def test_folders_that_are_links_to_nowhere_are_refused(capsys: Capture, name: str) -> None:
    root = write("train", {"cat": 5, "dog": 5})
    (root / name).symlink_to("/nowhere/at-all")
    assert f"photos/{name}: expected a folder" in error_line(capsys, main(SEARCH))


def test_links_in_a_class_that_lead_nowhere_are_named_whatever_they_are_called(
    capsys: Capture,
) -> None:
    root = write_parts()
    (root / "train/cat/more").symlink_to("/nowhere/more")
    line = error_line(capsys, main(SEARCH))
    assert "1 of 21 training files in photos" in line
    assert "train/cat/more (a broken link)" in line
    (note,) = load_dataset("folder", root, skip_broken=True).notes
    assert note.startswith("left out: 1 of 21 training files")
    write_model()
    files, (error,) = predicted(capsys, root / "train", status=1)
    assert len(files) == 20
    assert "train/cat/more" in error


@pytest.mark.parametrize("part", ["", "train"])
@pytest.mark.parametrize("target", ["..", "../../..", "../dog", "."])
def test_links_to_other_classes_and_to_folders_above_are_not_followed(
    part: str, target: str
) -> None:
    root = write(part, {"cat": 10, "dog": 5})
    Path("beside").mkdir()
    photo(9).save("beside/another.png")
    before = load_dataset("folder", root)
    (root / part / "cat/all").symlink_to(target)
    after = load_dataset("folder", root)
    assert (after.digest, after.notes) == (before.digest, before.notes)


@pytest.mark.parametrize("link", ["train/kitty", "test/cat"])
def test_two_classes_that_are_one_folder_are_refused(capsys: Capture, link: str) -> None:
    root = write_parts()
    (root / "test/cat").rename(root / "test/kitty")
    (root / link).symlink_to("../train/cat")
    line = error_line(capsys, main(SEARCH))
    assert f"named both photos/train/cat and photos/{link}: remove the link" in line


def test_what_is_no_file_is_not_waited_for() -> None:
    root = write_parts()
    os.mkfifo(root / "train/cat/pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "train/dog/socket.jpg"))
    (root / "train/dog/null.bmp").symlink_to(os.devnull)
    write_model()
    for words in (SEARCH, ["predict", "model", "photos/train"]):
        done = subprocess.run(
            [sys.executable, "-m", "nas", *words], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == (2 if words == SEARCH else 1)
        for said in ("(a pipe, not a file)", "(a socket, not a file)", "(a device, not a file)"):
            assert said.strip("()") in done.stderr
    data = load_dataset("folder", root, skip_broken=True)
    assert any("left out: 3 of 23" in note for note in data.notes)


# Folders in folders


def test_training_and_prediction_find_the_same_images(capsys: Capture) -> None:
    root = write("", {"cat": 3, "dog": 3})
    found = {str(path) for path in root.rglob("*.png")}
    for i, name in enumerate(
        ("cat/2024/a.JPG", "cat/2024/deep/b.Png", "dog/x.png/c.tiff", "dog/photos/d.webp")
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(50 + i).save(root / name)
        found.add(str(root / name))
    (root / "dog/2024").mkdir()
    (root / "dog/2024/up").symlink_to("..")  # a loop
    (root / "dog/linked").symlink_to("../../elsewhere")
    Path("elsewhere").mkdir()
    photo(60).save("elsewhere/e.png")
    found.add("photos/dog/linked/e.png")
    for name in (".hidden/a.png", "@eaDir/b.png", "__MACOSX/c.png", ".d.png"):
        (root / "cat" / name).parent.mkdir(exist_ok=True)
        photo(70).save(root / "cat" / name)
    data = load_dataset("folder", root)
    assert len(data.train) + len(data.validation) + data.test_images == len(found) == 11
    (note,) = [note for note in data.notes if "of a class folder" in note]
    assert note.startswith("5 of 11 images in photos are in subfolders of a class folder, such as")
    write_model()
    files, errors = predicted(capsys, root)
    assert errors == []
    assert files == found


def test_nested_images_belong_to_their_class() -> None:
    root = write("train", {"cat": 4, "dog": 4})
    for i in range(4):
        (root / f"train/dog/{i}").mkdir()
        photo(80 + i).save(root / f"train/dog/{i}/a.png")
    (root / "test/cat/inside").mkdir(parents=True)
    (root / "test/dog").mkdir()
    photo(90).save(root / "test/cat/inside/a.png")
    photo(91).save(root / "test/dog/b.png")
    data = load_dataset("folder", root)
    labels = [*data.train.labels_N.tolist(), *data.validation.labels_N.tolist()]
    assert (labels.count(0), labels.count(1)) == (4, 8)
    assert load_test("folder", root).images.labels_N.tolist() == [0, 1]


def test_parts_of_other_names_are_not_taken_for_classes(capsys: Capture) -> None:
    write("seg_train", {"cat": 5, "dog": 5})
    write("seg_test", {"cat": 2, "dog": 2})
    assert "named like parts of a dataset (seg_test, seg_train)" in error_line(capsys, main(SEARCH))


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "validation", "TEST")])
def test_parts_without_class_folders_are_not_taken_for_classes(
    capsys: Capture, names: tuple[str, ...]
) -> None:
    write("", dict.fromkeys(names, 5))
    line = error_line(capsys, main(SEARCH))
    assert (
        f"named like parts of a dataset ({', '.join(sorted(names))}) with images in no class folder"
        in line
    )
    assert "photos/train/cat" in line


def test_classes_may_be_called_a_little_like_parts() -> None:
    root = write("", {"train-station": 5, "test tube": 5})
    assert load_dataset("folder", root).classes == ("test tube", "train-station")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["train/cat/closed", "train/cat/00.png"])
def test_what_may_not_be_read_stops_a_search(capsys: Capture, name: str) -> None:
    root = write_parts()
    (root / "train/cat/closed").mkdir()
    (root / name).chmod(0)
    try:
        assert "Permission denied" in error_line(capsys, main([*SEARCH, "--skip-broken"]))
        write_model()
        files, errors = predicted(capsys, root, status=1)
    finally:
        (root / name).chmod(0o700)
    assert len(files) == (26 if name.endswith("closed") else 25)
    assert name in errors[0]


# Beside the classes


OF_SYSTEMS = (
    "__MACOSX @eaDir @tmp @Recycle @Recently-Snapshot #recycle #snapshot lost+found RECYCLER "
    "$RECYCLE.BIN FOUND.000 __pycache__ .ipynb_checkpoints"
)


def test_folders_and_files_of_systems_are_no_classes() -> None:
    root = write_parts()
    for part in ("train", "test"):
        for name in OF_SYSTEMS.split():
            (root / part / name).mkdir()
            photo(1).save(root / part / name / "thrown-away.png")
        for name in ("Thumbs.db", ".DS_Store"):
            (root / part / name).write_bytes(b"")
    data = load_dataset("folder", root)
    assert data.classes == ("cat", "dog")
    assert data.notes == ()


def test_images_in_no_class_folder_are_counted() -> None:
    root = write_parts()
    photo(1).save(root / "train/lonely.png")
    (note,) = load_dataset("folder", root).notes
    assert "1 image in photos is ignored: not in a class folder, such as" in note
    assert "train/lonely.png" in note


def test_a_test_part_without_classes_is_no_reason_to_remove_one(capsys: Capture) -> None:
    root = write("train", {"cat": 5, "dog": 5})
    (root / "test").mkdir()
    for i in range(4):
        photo(i).save(root / f"test/{i}.jpg")
    line = error_line(capsys, main(SEARCH))
    assert "got 4 images in no class folder: images without a class cannot be tested on" in line
    assert "move photos/test out of photos" in line
    assert "remove" not in line
    (root / "test").rename("unlabelled")
    assert load_dataset("folder", root).test_images == 2


@pytest.mark.parametrize("name", [".hidden", "@eaDir", None])
def test_an_empty_test_part_is_called_empty(capsys: Capture, name: str | None) -> None:
    root = write("train", {"cat": 5, "dog": 5})
    (root / "test" / (name or "")).mkdir(parents=True)
    line = error_line(capsys, main(SEARCH))
    assert "in photos/test, got an empty folder: remove it, and part of train/ is held" in line


def test_a_test_part_of_other_files_is_not_to_be_removed(capsys: Capture) -> None:
    root = write("train", {"cat": 5, "dog": 5})
    (root / "test").mkdir()
    (root / "test/labels.csv").write_text("0,cat")
    assert "got no images: move photos/test out of photos" in error_line(capsys, main(SEARCH))


def test_both_forms_of_an_accent_are_one_class() -> None:
    write("train", {unicodedata.normalize("NFC", "café"): 5, "tea": 5})
    write("test", {unicodedata.normalize("NFD", "café"): 5, "tea": 5})
    data = load_dataset("folder", Path("photos"))
    assert data.classes == ("café", "tea")
    assert load_test("folder", Path("photos")).images.labels_N.tolist() == [0] * 5 + [1] * 5
    other = Path("photos/train", unicodedata.normalize("NFD", "café"))
    other.mkdir()
    photo(5).save(other / "more.png")
    more = load_dataset("folder", Path("photos"))
    assert more.classes == data.classes
    assert len(more.train) + len(more.validation) == 11


# Formats


@pytest.mark.parametrize("form", ["EPS", "PCX", "TGA", "ICO", "SGI", "JPEG2000", "DDS"])
def test_other_formats_are_not_decoded_whatever_a_file_is_called(form: str) -> None:
    Image.new("RGB", (16, 16), "red").save("photo.jpg", form)
    with pytest.raises(DataError, match="unknown image format"):
        decode(["photo.jpg"], Shape(3, 16, 16))


@pytest.mark.parametrize("form", [*FORMATS, "MPO"])
def test_the_documented_formats_are_read_whatever_a_file_is_called(form: str) -> None:
    Image.new("RGB", (16, 16), "white").save("photo.png", form)
    assert decode(["photo.png"], Shape(3, 16, 16)).min() > 250


# Paths


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    home = Path.cwd() / "home"
    monkeypatch.setenv("HOME", str(home))
    _, commands = make_parser()
    paths = {
        (command, action.dest): action.type("~/place")
        for command, parser in commands.items()
        for action in parser._actions
        if action.metavar in ("DIR", "FILE", "MODEL_DIR", "IMAGE") and callable(action.type)
    }
    assert {("search", "data_dir"), ("search", "space"), ("train", "out")} <= set(paths)
    assert {str(path) for path in paths.values()} == {str(home / "place")}
    write_parts().rename("home")
    options = [word for word in SEARCH if word not in ("--data-dir", "photos")]
    line = error_line(capsys, main([*options, "--data-dir=~/nowhere"]))
    assert f"got {home}/nowhere, which does not exist" in line


def test_a_tilde_without_a_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert main(["search", "--budget", "1M", "--data-dir=~/photos"]) == 2
    assert not Path("~").exists()
