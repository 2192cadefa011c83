"""Int8 files of the exported network: what they lose, and when they are not written."""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from nas.commands import main
from nas.data.loading import load_dataset, load_test
from nas.data.types import ImageDataset, Images
from nas.errors import RequestError
from nas.final.events import ReadingTestImages
from nas.final.final import run_final
from nas.final.int8 import make_int8
from nas.final.records import FinalRecord
from nas.final.request import FinalRequest
from nas.report.page import render
from nas.space import Limits
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits.commands import Capture, error_line, error_of
from tests.kits.events import on
from tests.kits.exports import make_network, make_spec
from tests.kits.tflite import read_tflite
from tests.kits.training import channels_first

STUDY = "digits-5M"
ONNX = "model.int8.onnx"
SHORT = ["final", "--study", STUDY, "--recipe", "fast", "--epochs", "4", "--subset", "0.2"]
SHORT += ["--top", "1", "--seeds", "1"]
EXPORT = ["--export", "int8.onnx"]

pytestmark = pytest.mark.usefixtures("own_directory", "one_trial")


def request_of(**changes: object) -> FinalRequest:
    plain = {"study": STUDY, "recipe": "fast", "epochs": 4, "top": 1, "seeds": 1, "subset": 0.2}
    return FinalRequest(**{**plain, "max_int8_loss": 100.0, **changes})  # type: ignore[arg-type]


def in_onnx_runtime(file: Path, images: Images) -> NDArray[np.bool_]:
    """Which images ONNX Runtime classifies rightly."""
    pixels = channels_first(images.pixels_NHWC).numpy()
    (logits,) = onnxruntime.InferenceSession(file).run(["logits"], {"images": pixels})
    return np.asarray(logits.argmax(axis=1) == images.labels_N.numpy())


def in_tensorflow_lite_micro(file: Path, images: Images) -> NDArray[np.bool_]:
    """Which images TensorFlow Lite Micro classifies rightly."""
    runtime = pytest.importorskip(
        "tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro, of Linux on x86-64"
    )
    (table,) = read_tflite(file.read_bytes()).table_CV  # of gray
    interpreter = runtime.Interpreter.from_file(str(file), arena_size=1 << 20)
    answers = []
    for pixels in table[images.pixels_NHWC.numpy()]:
        interpreter.set_input(pixels[None], 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0).argmax())
    return np.asarray(answers == images.labels_N.numpy())


def black(dataset: ImageDataset) -> torch.Tensor:
    """Calibration images that show nothing."""
    return torch.zeros_like(channels_first(dataset.train.pixels_NHWC[:64]).contiguous())


def page() -> str:
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    return re.sub(r"<[^>]*>", " ", render(study))


@pytest.mark.parametrize(
    ("formats", "runs"),
    [(("int8.onnx",), in_onnx_runtime), (("tflite", "header"), in_tensorflow_lite_micro)],
)
def test_one_reading_measures_float_and_int8(
    readings: list[str], formats: tuple[str, ...], runs: Callable[[Path, Images], NDArray[np.bool_]]
) -> None:
    result = run_final(request_of(export=formats))
    assert readings == ["digits"]
    file = result.record.int8[0]
    content = (result.folder / file.file).read_bytes()
    assert (file.bytes, file.sha256) == (len(content), sha256(content).hexdigest())
    validation = load_dataset("digits", Path("data")).validation
    test = load_test("digits", Path("data")).images
    for measured, images in ((file.validation, validation), (file.test, test)):
        assert measured is not None
        in_int8 = runs(result.folder / file.file, images).mean()
        in_float = in_onnx_runtime(result.folder / "model.onnx", images).mean()
        assert measured.accuracy.value == pytest.approx(in_int8)
        assert measured.lost.value == pytest.approx(in_float - in_int8)
        assert measured.lost.low <= measured.lost.value <= measured.lost.high
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert FinalRecord.from_dict(metrics) == result.record
    for held in result.record.int8:
        assert (held.validation, held.test) == (file.validation, file.test)
        assert held.test is not None
        for text in (page(), (result.folder / "README.md").read_text()):
            assert held.file in text
            assert f"{held.test.accuracy.value:.2%}" in text
    assert len(result.record.int8) == len(formats)


def test_the_arena_of_a_header_is_what_the_search_has_limited() -> None:
    result = run_final(request_of(export=("header",)))
    text = (result.folder / "model.h").read_text()
    assert f"#define MODEL_ARENA_SIZE {result.record.chosen.arena} " in text


def test_a_cut_off_reading_is_gone_on_with_and_a_lost_file_made_again(readings: list[str]) -> None:
    def interrupt(event: ReadingTestImages) -> None:
        raise KeyboardInterrupt

    request = request_of(export=("int8.onnx",))
    with pytest.raises(KeyboardInterrupt):
        run_final(request, on(ReadingTestImages, interrupt))
    first = run_final(request)
    assert (first.record.readings, readings) == (1, ["digits"])
    before = {path: path.read_bytes() for path in first.folder.glob("*.*")}
    (first.folder / ONNX).unlink()
    for asked in (request, request_of()):  # it belongs to what was tested, asked for or not
        again = run_final(asked)
        assert (again.record, again.tested_now) == (first.record, False)
        assert {path: path.read_bytes() for path in first.folder.glob("*.*")} == before
        (first.folder / "model.onnx").unlink()  # the second time that is gone, too
    assert readings == ["digits"]


def test_what_is_made_later_is_not_tested(readings: list[str], capsys: Capture) -> None:
    first = run_final(request_of())
    assert main(["export", str(first.folder.parent), *EXPORT, "--max-int8-loss", "100"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{ONNX} (")
    assert "not measured on test images\n" in said
    assert "not measured on test images" in (first.folder / "README.md").read_text()
    made = (first.folder / ONNX).read_bytes()
    kept = run_final(request_of())
    assert [file.test for file in kept.record.int8] == [None]
    assert (kept.folder / ONNX).read_bytes() == made
    (kept.folder / ONNX).unlink()
    capsys.readouterr()
    assert main([*SHORT, *EXPORT, "--max-int8-loss", "100"]) == 0
    printed = capsys.readouterr().out
    assert f"int8    {ONNX} (" in printed
    assert f"model.onnx, {ONNX}, architecture.json" in printed
    assert run_final(request_of()).record == kept.record
    assert (kept.folder / ONNX).read_bytes() == made
    assert readings == ["digits"]


def test_garbage_calibration_is_caught_and_all_else_is_written(
    readings: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.final.int8.calibration_images", black)
    for _ in range(2):  # the second time nothing is trained or tested
        assert main([*SHORT, *EXPORT]) == 1
        captured = capsys.readouterr()
        assert "images read once in this study" in captured.out
        line = captured.err.splitlines()[-1]
        assert re.match(
            rf"error: {ONNX}: expected int8 to lose at most 1\.00 points \(--max-int8-loss\) on "
            r"287 validation images, got [\d.]+% instead of [\d.]+% in float32, [\d.]+ points lost "
            r"\(95% interval [\d.]+ to [\d.]+\)",
            line,
        )
    folder = Path("studies", STUDY, "final")
    assert {path.name for path in folder.glob("[!.]*.*")} == {
        *("model.safetensors", "model.onnx", "architecture.json", "metrics.json", "README.md")
    }
    assert Path("reports", f"{STUDY}.html").is_file()
    assert ONNX not in (folder / "README.md").read_text()
    assert main(["export", str(folder), *EXPORT]) == 1
    assert "points lost" in capsys.readouterr().err
    assert not (folder / ONNX).exists()
    assert readings == ["digits"]


def test_a_lost_file_that_is_refused_is_no_longer_listed(capsys: Capture) -> None:
    folder = run_final(request_of()).folder
    assert main(["export", str(folder), *EXPORT, "--max-int8-loss", "100"]) == 0
    (folder / ONNX).unlink()
    listed = run_final(request_of()).record
    assert listed.int8 == ()
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.final.int8.calibration_images", black)
        assert main(["export", str(folder), *EXPORT]) == 1
    captured = capsys.readouterr()
    assert ONNX not in captured.out
    assert captured.err.splitlines()[-1].startswith(f"error: {ONNX}: expected int8 to lose")
    assert ONNX not in (folder / "README.md").read_text()
    assert json.loads((folder / "metrics.json").read_text())["int8"] == []


def test_a_refused_file_that_is_there_stays(capsys: Capture) -> None:
    folder = run_final(request_of()).folder
    assert main(["export", str(folder), *EXPORT, "--max-int8-loss", "100"]) == 0
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.final.int8.calibration_images", black)
        assert main(["export", str(folder), *EXPORT]) == 1
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


def test_files_are_made_while_no_other_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_final(request_of()).folder.absolute()

    def only_locked(dataset: ImageDataset) -> torch.Tensor:
        with pytest.raises(Timeout):
            FileLock(folder / ".lock").acquire(timeout=0)
        return black(dataset)

    monkeypatch.setattr("nas.final.int8.calibration_images", only_locked)
    monkeypatch.chdir(folder)
    assert main(["export", ".", *EXPORT, "--max-int8-loss", "100"]) == 0
    assert Path(ONNX).is_file()


def test_threads_are_set_before_int8_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, seen = torch.get_num_threads(), []

    def noted(dataset: ImageDataset) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        torch.set_num_threads(threads)
        return black(dataset)

    monkeypatch.setattr("nas.final.int8.calibration_images", noted)
    asked = request_of(export=("int8.onnx",), threads=threads + 1)
    try:
        first = run_final(asked)
        torch.set_num_threads(threads)
        (first.folder / ONNX).unlink()
        run_final(asked)
    finally:
        torch.set_num_threads(threads)
    assert seen == [threads + 1] * 2


def test_none_needs_no_package_for_lost_files(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_final(request_of(export=("int8.onnx",)))
    (first.folder / ONNX).unlink()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run_final(request_of(export=("none",))).record.int8 == ()
    with pytest.raises(RequestError, match="expected the package onnxruntime, got none"):
        run_final(request_of())


def test_a_file_above_the_flash_limit_is_refused() -> None:
    dataset = load_dataset("digits", Path("data"))
    plain = make_spec(shape=(1, 8, 8), classes=dataset.classes)
    spec = dataclasses.replace(plain, input=dataset.input)
    formats = ["tflite", "header", "int8.onnx"]
    made = partial(make_int8, formats, make_network(spec), spec, dataset, on="train", most=100.0)
    fits = len(made(limits=Limits(max_parameters=10**6)).contents["model.tflite"])
    assert set(made(limits=Limits(max_flash=fits)).contents) == {"model.tflite", "model.h", ONNX}
    refused = made(limits=Limits(max_flash=fits - 1))
    assert set(refused.contents) == {ONNX}
    (line,) = refused.refused
    assert line.startswith(
        f"model.tflite and model.h: expected at most {fits - 1:,} bytes of flash, the limit of "
        f"the study, got {fits:,}; "
    )


def test_that_validation_images_were_trained_on_is_said(capsys: Capture) -> None:
    folder = run_final(request_of(on="train+validation")).folder
    assert main(["export", str(folder), *EXPORT, "--max-int8-loss", "100"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert re.match(
        rf"{ONNX} \([\d,]+ bytes\): [\d.]+% of 287 validation images, which it was trained on, "
        r"-?[\d.]+ points lost",
        said,
    )
    (row,) = [x for x in (folder / "README.md").read_text().splitlines() if f"`{ONNX}`" in x]
    assert re.search(r"\| [\d.]+%, -?[\d.]+ points lost", row)
    assert "on validation images, which it was trained on |" in (folder / "README.md").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.final.int8.calibration_images", black)
        assert main(["export", str(folder), *EXPORT]) == 1
    assert "on 287 validation images, which it was trained on, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("int8.onnx", "onnxruntime", "int8"), ("tflite", "flatbuffers", "mcu")],
)
def test_a_missing_package_is_known_before_anything_is_trained(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert error_of(capsys, main([*SHORT, "--export", name])) == (
        f"error: --export {name}: expected the package {package}, got none; "
        f"pip install 'nas[{extra}]', or name others with --export"
    )
    assert not Path("studies", STUDY, "final").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--export", "tflight"], "--export: expected one of tflite, header, int8.onnx, "),
        (["--export", "tflite,"], "--export: expected comma-separated names"),
        (["--max-int8-loss", "-1"], "--max-int8-loss: expected percentage points from 0 to 100"),
    ],
)
def test_bad_options_are_one_line(capsys: Capture, arguments: list[str], said: str) -> None:
    assert said in error_of(capsys, main([*SHORT, *arguments]))
    assert said in error_of(capsys, main(["export", "studies", *arguments]))


def test_none_stands_alone_and_only_where_there_is_something_else_to_do(capsys: Capture) -> None:
    said = error_of(capsys, main([*SHORT, "--export", "none,tflite"]))
    assert "--export: expected none alone, got none,tflite" in said
    said = error_of(capsys, main(["export", "studies", "--export", "none"]))
    assert "--export: expected one of tflite, header, int8.onnx, got 'none'" in said


def test_export_needs_the_study_and_its_images(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_final(request_of()).folder
    shutil.copytree(folder, "elsewhere/of/final")
    said = error_line(capsys, main(["export", "elsewhere/of/final", *EXPORT]))
    assert "expected the model of a study that is still there" in said
    said = error_line(capsys, main(["export", f"studies/{STUDY}-other", *EXPORT]))
    assert "expected the folder of an exported model, got no such folder" in said
    with monkeypatch.context() as patch:
        other = dataclasses.replace(load_dataset("digits", Path("data")), digest="0" * 16)
        patch.setattr("nas.data.loading.load_dataset", lambda *_, **__: other)
        said = error_line(capsys, main(["export", str(folder), *EXPORT]))
    assert "expected the images of the study (digits, digest" in said
    (folder / "metrics.json").write_text("{}")
    said = error_line(capsys, main(["export", str(folder), *EXPORT]))
    assert "expected a model that nas final exported" in said


def test_tflite_is_made_for_devices_and_where_it_is_asked_for() -> None:
    plain = Limits(max_parameters=1000, max_mult_adds=1000)
    assert request_of().formats(plain) == ()
    for limit in ("max_arena", "max_peak_ram", "max_flash"):
        device = Limits(**{limit: 262_144})
        assert request_of().formats(device) == ("tflite",)
    assert request_of(export=("none",)).formats(device) == ()
    assert request_of(export=("header", "int8.onnx")).formats(plain) == ("header", "int8.onnx")
