"""`nas predict`: rows, one JSON document, and files that are no images."""

import json
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.commands import main
from tests.kits.commands import Capture, error_of
from tests.kits.exports import make_spec, write_network, write_photos
from tests.kits.records import final_record


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nas.Classifier:
    """An exported model in `model`, photos in `photos` and a file that is no image."""
    monkeypatch.chdir(tmp_path)
    spec = make_spec(classes=("cat", "dog \x1b[31m", "ship"))
    write_network(Path("model"), spec)
    write_photos(Path("photos"))
    Path("text.png").write_text("no image")
    return nas.load("model")


def predict(capsys: Capture, *words: str, status: int = 0) -> tuple[list[str], list[str]]:
    """The lines on stdout and on stderr."""
    assert main(["predict", "model", *words, "--device", "cpu"]) == status
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err.splitlines()


def document(capsys: Capture, *words: str, status: int = 0) -> dict[str, Any]:
    assert main(["predict", "model", *words, "--json"]) == status
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return read


def test_a_row_per_image(capsys: Capture, model: nas.Classifier) -> None:
    out, err = predict(capsys, "photos/plain.png", "photos/alpha.png")
    assert err == []
    assert out[0].split() == ["file", *["class", "probability"] * 3]
    for row, prediction in zip(
        out[1:], model.predict(["photos/plain.png", "photos/alpha.png"]), strict=True
    ):
        words = [prediction.path]
        for name, share in zip(prediction.classes, prediction.probabilities, strict=True):
            words += [*name.replace("\x1b", "\\x1b").split(), f"{share:.2%}"]
        assert row.split() == words
    assert len({len(row) for row in out}) == 1


def test_top_says_how_many_classes(capsys: Capture) -> None:
    out, _ = predict(capsys, "photos/plain.png", "--top", "1")
    assert len(out[1].split()) in (3, 4)  # one class has a blank in its name
    assert len(document(capsys, "photos/plain.png", "--top", "2")["images"][0]["top"]) == 2
    assert len(document(capsys, "photos/plain.png", "--top", "9")["images"][0]["top"]) == 3


def test_json_is_one_document(capsys: Capture, model: nas.Classifier) -> None:
    read = document(capsys, "photos/plain.png", "text.png", "photos/tiny.png", status=1)
    assert read["design"] == str(model.architecture)
    assert [image["file"] for image in read["images"]] == ["photos/plain.png", "photos/tiny.png"]
    (first, _) = model.predict(["photos/plain.png", "photos/tiny.png"])
    assert [entry["class"] for entry in read["images"][0]["top"]] == list(first.classes)
    assert [entry["probability"] for entry in read["images"][0]["top"]] == pytest.approx(
        first.probabilities, abs=1e-6
    )
    assert [failure["file"] for failure in read["failures"]] == ["text.png"]


def test_a_folder_is_searched_to_the_bottom(capsys: Capture) -> None:
    for name in ("a.png", "below/deep/b.PNG", ".cache/c.png", ".hidden.png", "notes.txt"):
        path = Path("folder", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path("photos/tiny.png").read_bytes())
    read = document(capsys, "photos/gray.png", "folder", "photos/tiny.png")
    assert [image["file"] for image in read["images"]] == [
        *("photos/gray.png", "folder/a.png", "folder/below/deep/b.PNG", "photos/tiny.png")
    ]
    assert read["failures"] == []


def test_every_kind_of_photo_is_predicted(capsys: Capture) -> None:
    out, err = predict(capsys, "photos")
    assert err == []
    assert [row.split()[0] for row in out[1:]] == sorted(map(str, Path("photos").iterdir()))


def test_what_is_no_image_is_named_and_the_others_are_predicted(capsys: Capture) -> None:
    Path("empty").mkdir()
    Path("cut.jpg").write_bytes(Path("photos/large.jpg").read_bytes()[:900])
    words = ("text.png", "empty", "photos/plain.png", "nowhere.png", "cut.jpg")
    out, err = predict(capsys, *words, status=1)
    assert [row.split()[0] for row in out] == ["file", "photos/plain.png"]
    assert [line.split(":")[:2] for line in err] == [
        *(["error", " empty"], ["error", " text.png"], ["error", " nowhere.png"]),
        ["error", " cut.jpg"],
    ]


@pytest.mark.parametrize("bad", ["text.png", "nowhere.png", "empty"])
def test_a_single_bad_input_is_one_line(capsys: Capture, bad: str) -> None:
    Path("empty").mkdir()
    for words in ((bad,), (bad, "--json")):
        out, err = predict(capsys, *words, status=2)
        assert out == []
        (line,) = err
        assert line.startswith(f"error: {bad}: expected ")


def test_a_terminal_sees_no_control_characters(capsys: Capture) -> None:
    odd = "pho\x1b[2Jto\n\u202e.png"
    Path(odd).write_bytes(Path("photos/tiny.png").read_bytes())
    out, err = predict(capsys, odd, "bad\x1b[2J.png", status=1)
    assert out[1].startswith("pho\\x1b[2Jto\\n\\u202e.png  ")
    assert "dog \\x1b[31m" in out[1]
    assert "bad\\x1b[2J.png: expected a file or folder that can be read" in err[0]
    assert all(line.isprintable() for line in out + err)
    read = document(capsys, odd)
    assert read["images"][0]["file"] == odd
    assert {entry["class"] for entry in read["images"][0]["top"]} >= {"dog \x1b[31m"}


def test_a_bad_name_of_bytes_is_shown(capsys: Capture) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    Path(name).write_bytes(Path("photos/tiny.png").read_bytes())
    out, err = predict(capsys, name)
    assert err == []
    assert out[1].startswith("caf\\udce9.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model"], "error: expected IMAGE, got none; see nas predict --help"),
        (["model", "photos", "--top", "0"], "--top: expected a positive whole number"),
        (["model", "photos", "--device", "tpu"], "--device: expected auto, cpu or"),
        (["photos", "photos"], "photos/architecture.json: expected a file of an exported model"),
        (["nowhere", "photos"], "nowhere: expected the folder of an exported model"),
        (["text.png", "photos"], "text.png: expected the folder of an exported model, got a file"),
        (["no\x1b[2J", "photos"], "no\\x1b[2J: expected the folder of an exported model"),
    ],
)
def test_bad_usage_is_one_line(capsys: Capture, words: list[str], message: str) -> None:
    assert message in error_of(capsys, main(["predict", *words]))


def test_the_test_accuracy_of_the_model_comes_first(capsys: Capture) -> None:
    record = final_record()
    write_network(Path("model"), make_spec(), record.to_dict())
    out, err = predict(capsys, "photos/plain.png")
    assert err == ["test accuracy of this model 80.00% (95% interval 70.00% to 90.00%)"]
    assert len(out) == 2
    read = document(capsys, "photos/plain.png")
    assert read["test_accuracy"] == {"value": 0.8, "low": 0.7, "high": 0.9}
