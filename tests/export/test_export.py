"""A trained network as files: what is written, what is read back, and by whom."""

import dataclasses
import hashlib
import json
import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

import nas
from nas.architecture import PRESETS, Architecture
from nas.data.decode import Shape, decode
from nas.data.loading import load_dataset, load_test
from nas.export.graph import onnx_model
from nas.export.int8_onnx import quantize_onnx
from nas.export.loading import Classifier
from nas.export.spec import ModelError, ModelSpec
from nas.training.evaluation import evaluate
from tests.kits.documents import blocks_of
from tests.kits.exports import (
    SMALL,
    make_network,
    make_spec,
    trained_on,
    write_network,
    write_photos,
)
from tests.kits.places import ROOT
from tests.kits.training import CPU, channels_first, normalized
from tests.kits.waiting import PATIENCE

DEPLOY = ROOT / "docs" / "deploy.md"
FILES = {"model.safetensors", "architecture.json", "model.onnx", "metrics.json", "README.md"}
NARROW_STEM = PRESETS["resnet18-narrow-stem"]
WIDE_KERNELS = Architecture(  # wider than the images
    blocks=(1, 2), channels=(4, 4), kernels=(5, 7), shortcut_kernels=(3, 5), pool=1
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits`: trained for an epoch, with its test images as files; `photos`: odd in every way."""
    root = tmp_path_factory.mktemp("exported")
    digits = load_dataset("digits", root)
    spec, network = trained_on(digits, epochs=1)
    accuracy = evaluate(network, digits.validation, digits).accuracy
    assert accuracy > 0.5
    nas.write_model(
        root / "digits", network, spec, metrics={"val_accuracy": accuracy}, card="# Digits\n"
    )
    (root / "test").mkdir()
    for i, pixels in enumerate(load_test("digits", root).images.pixels_NHWC):
        Image.fromarray(pixels[..., 0].numpy()).save(root / "test" / f"{i:03}.png")
    odd = make_spec(
        dataclasses.replace(NARROW_STEM, channels=(8, 8, 16, 24), stem_channels=6),
        shape=(3, 40, 53),
    )
    write_network(root / "photos", odd)
    write_photos(root / "images")
    return root


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of an exported model, to be damaged."""
    copy = tmp_path / "final"
    shutil.copytree(exported / "photos", copy)
    return copy


def write(folder: Path, seed: int, architecture: Architecture = SMALL, **changes: Any) -> ModelSpec:
    spec = make_spec(architecture)
    nas.write_model(
        folder, make_network(spec, seed), spec, **{"metrics": {"seed": seed}, "card": "", **changes}
    )
    return spec


# What is written


def test_the_folder_holds_the_five_files(exported: Path) -> None:
    assert {path.name for path in (exported / "digits").iterdir()} == FILES
    assert (exported / "digits/README.md").read_text() == "# Digits\n"


def test_safetensors_alone_reads_the_weights(exported: Path) -> None:
    state = nas.load(exported / "photos").network.state_dict()
    wanted = {name for name in state if not name.endswith("num_batches_tracked")}
    with safetensors.safe_open(exported / "photos/model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == wanted
        for name in wanted:
            tensor = file.get_tensor(name)
            assert tensor.dtype == np.float32
            assert np.array_equal(tensor, state[name].numpy())


def test_the_description_says_what_a_person_needs(exported: Path) -> None:
    document = json.loads((exported / "digits/architecture.json").read_text())
    assert document["design"] == "B2,1 C8,12 F3,3 K1,1 P4"
    assert document["classes"] == [str(digit) for digit in range(10)]
    assert document["input"] == {"channels": 1, "height": 8, "width": 8, "classes": 10}
    assert document["preparation"]["mode"] == "L"
    assert "8x8 pixels" in document["preparation"]["in_words"]
    spec = nas.load(exported / "digits").spec
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        (PRESETS["resnet20"], (1, 37, 33)),  # a pool that does not divide
        (NARROW_STEM, (3, 40, 53)),
        (WIDE_KERNELS, (1, 2, 3)),
    ],
)
def test_onnx_runtime_computes_the_same(
    architecture: Architecture, shape: tuple[int, int, int]
) -> None:
    spec = make_spec(architecture, shape=shape)
    network = make_network(spec)
    session = onnxruntime.InferenceSession(onnx_model(network, spec))
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    for count in (1, 3):
        pixels = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            ours = network((pixels / 255 - mean) / std).numpy()
        (logits,) = session.run(["logits"], {"images": pixels.numpy()})
        assert logits.shape == ours.shape
        assert np.abs(logits - ours).max() < 1e-4
        assert np.abs(ours).max() > 0.1


def test_onnx_runtime_quantizes_to_nearly_the_same_and_says_nothing(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, digits = nas.load(exported / "digits"), load_dataset("digits", exported)
    training, validation = (
        channels_first(part.pixels_NHWC) for part in (digits.train, digits.validation)
    )
    handlers = list(logging.root.handlers)
    int8 = quantize_onnx(model.network, model.spec, training[:100])
    assert (tuple(capfd.readouterr()), logging.root.handlers) == (("", ""), handlers)
    assert quantize_onnx(model.network, model.spec, training[:100]).content == int8.content
    same = int8.logits(validation).argmax(dim=1) == model.logits(validation).argmax(dim=1)
    assert same.float().mean() > 0.8  # after one epoch many images are close calls
    about = {p.key: p.value for p in onnx.load_from_string(int8.content).metadata_props}
    assert json.loads(about["classes"]) == list(digits.classes)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [(PRESETS["resnet20"], (1, 37, 33)), (NARROW_STEM, (3, 40, 53)), (WIDE_KERNELS, (1, 2, 3))],
)
def test_every_design_can_be_int8(architecture: Architecture, shape: tuple[int, int, int]) -> None:
    spec = make_spec(architecture, shape=shape)
    network = make_network(spec)
    images = torch.randint(256, (70, *shape), dtype=torch.uint8)
    int8 = quantize_onnx(network, spec, images)
    wanted = Classifier(spec, network, {}, CPU).logits(images)
    error = (int8.logits(images) - wanted).abs().mean()
    assert 0 < error < 0.3 * wanted.abs().mean()


def test_the_graph_explains_itself(exported: Path) -> None:
    model = onnx.load(exported / "photos/model.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == ["cat", "dog", "ship"]
    assert "Division by 255, mean and std are part of this graph" in model.doc_string
    assert "40x53 pixels" in about["preparation"]


def test_a_newer_model_replaces_the_older_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/last.pt").write_text("kept")
    write(tmp_path, 1)
    spec = write(tmp_path, 2, card="# New\n")
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"runs"}
    assert (tmp_path / "runs/last.pt").read_text() == "kept"
    assert (tmp_path / "README.md").read_text() == "# New\n"
    model = nas.load(tmp_path)
    assert model.metrics == {"seed": 2}
    wanted = make_network(spec, 2).state_dict()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, wanted[name])


def test_int8_files_go_with_the_model_that_they_were_made_of(tmp_path: Path) -> None:
    write(tmp_path, 1, files={"model.int8.onnx": b"int8"})
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"model.int8.onnx"}
    write(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == FILES


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within, files cannot grow beyond that many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 2000, 8000])  # from none to all but the card fit
def test_a_full_disk_leaves_the_older_model_whole(tmp_path: Path, size: int) -> None:
    tiny = dataclasses.replace(SMALL, channels=(2, 2))
    write(tmp_path, 1, tiny)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert max(map(len, before.values())) < 8000
    with pytest.raises(OSError, match="File too large"), largest_file(size):
        write(tmp_path, 2, tiny, card="x" * 8100)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_no_half_model(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large"), largest_file(2000):
        write(tmp_path / "new", 1)
    assert list((tmp_path / "new").iterdir()) == []


def test_an_int8_file_that_cannot_go_keeps_the_newer_model_away(tmp_path: Path) -> None:
    write_network(tmp_path, make_spec(), metrics={"of": "older"})
    (tmp_path / "model.tflite").mkdir()
    with pytest.raises(OSError, match=r"model\.tflite"):
        write_network(tmp_path, make_spec(), metrics={"of": "newer"})
    assert nas.load(tmp_path).metrics == {"of": "older"}


def test_what_does_not_belong_together_is_not_written(tmp_path: Path) -> None:
    spec = make_spec()
    other = make_network(make_spec(shape=(1, 8, 10)))
    with pytest.raises(ValueError, match=r"network must be .* for 3x8x10, 3 classes, got"):
        nas.write_model(tmp_path / "a", other, spec, metrics={}, card="")
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "b", 1, metrics={"val_accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("cat", "dog")},
        {"mean": (0.5,)},
        {"std": (0.2, 0.2, 0.0)},
        {"std": (0.2, 0.2, float("nan"))},
        {"architecture": dataclasses.replace(make_spec().architecture, pool=9)},
        {"input": dataclasses.replace(make_spec().input, channels=4)},
    ],
)
def test_a_description_must_fit_together(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(make_spec(), **changes)


# What is read back


def test_a_loaded_model_computes_what_was_trained(exported: Path) -> None:
    digits = load_dataset("digits", exported)
    model = nas.load(str(exported / "digits"))
    assert (model.input, model.classes) == (digits.input, digits.classes)
    assert not model.network.training
    measured = evaluate(model.network, digits.validation, digits)
    assert measured.accuracy == model.metrics["val_accuracy"]
    pixels = digits.validation.pixels_NHWC
    with torch.no_grad():
        wanted = model.network(normalized(pixels, digits))
    assert (model.logits(channels_first(pixels)) - wanted).abs().max() < 1e-4


def test_files_are_predicted_as_pixels_are(exported: Path) -> None:
    model = nas.load(exported / "digits")
    paths = sorted((exported / "test").iterdir())
    predictions = model.predict(paths, top=4)
    assert model.predict(paths[0], top=4)[0].classes == predictions[0].classes
    logits = model.logits(channels_first(load_test("digits", exported).images.pixels_NHWC))
    assert len(predictions) == len(logits) == 359
    for path, row, prediction in zip(paths, logits.softmax(dim=1), predictions, strict=True):
        assert prediction.path == str(path)
        order = row.argsort(descending=True)[:4].tolist()
        assert prediction.classes == tuple(model.classes[k] for k in order)
        assert prediction.probabilities == pytest.approx(row[order].tolist(), abs=1e-6)
    assert len(model.predict(paths[:1], top=99)[0].classes) == 10
    assert model.predict([]) == []


def test_other_pixels_are_refused(exported: Path) -> None:
    model = nas.load(exported / "photos")
    with pytest.raises(ValueError, match=r"uint8 images of 3x40x53, got torch.float32"):
        model.logits(torch.zeros(1, 3, 40, 53))
    with pytest.raises(ValueError, match=r"uint8 images of 3x40x53, got .* \(1, 3, 53, 40\)"):
        model.logits(torch.zeros(1, 3, 53, 40, dtype=torch.uint8))
    with pytest.raises(ValueError, match="top must be a whole number of at least 1, got 0"):
        model.predict([], top=0)


def describe(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "architecture.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def other_weights(folder: Path) -> None:
    """As if writing had been killed when only the weights had taken their place."""
    write(folder.with_name("other"), 1)
    shutil.copy(folder.with_name("other") / "model.safetensors", folder)


def named_weights(content: bytes) -> Callable[[Path], None]:
    """Weights that the description names, whatever they are."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(content)
        describe(weights_sha256=hashlib.sha256(content).hexdigest())(folder)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("architecture.json"), "architecture.json: expected a file .* got no such file"),
        (remove("model.safetensors"), "model.safetensors: expected a file .* got no such file"),
        (remove("metrics.json"), "metrics.json: expected a file .* got no such file"),
        (cut_weights, "model.safetensors: expected the weights that architecture.json names"),
        (flip_a_bit, "model.safetensors: expected the weights that architecture.json names"),
        (other_weights, "model.safetensors: expected the weights that architecture.json names"),
        (named_weights(b"\x08no"), "model.safetensors: expected the weights of B2,2,2,2"),
        (
            named_weights(safetensors.torch.save({"stem.conv.weight": torch.zeros(6, 3, 3, 3)})),
            "model.safetensors: expected the weights of B2,2,2,2 .* Missing key",
        ),
        (replace("metrics.json", b'{"a": '), "metrics.json: expected JSON, got a damaged file"),
        (replace("metrics.json", b"[]"), "metrics.json: expected a JSON object"),
        (replace("architecture.json", b"\xff"), "architecture.json: expected JSON"),
        (replace("architecture.json", b"{}"), "the description of a model exported by nas, got an"),
        (describe(version=2), "expected a model of version 1, got version 2"),
        (describe(architecture={"blocks": [1]}), "got a damaged one .*TypeError"),
        (describe(mean=[0.5, None, 0.5]), "got a damaged one .*mean must be a number, got None"),
        (describe(classes=["cat", "dog"]), "got a damaged one .*classes must be 3 names, got 2"),
        (describe(classes=["cat", "dog", 3]), "got a damaged one .*classes must be a text, got 3"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as refusal:
        nas.load(folder)
    assert "\n" not in str(refusal.value)
    assert "; export the model again" in str(refusal.value)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got no such folder; name one"):
        nas.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="got a file; name one"):
        nas.load(tmp_path / "file")


# What docs/deploy.md says


RUNNER = """
import json, runpy, sys
sys.modules["nas"] = None  # as where this package is not installed
program, *folders = json.loads(sys.stdin.read())
sys.path.insert(0, ".")
results = []
for folder, paths in folders:
    sys.argv = [program, folder, *paths]
    ran = runpy.run_path(program, run_name="__main__")
    results.append([ran["images"].tolist(), ran["logits"].tolist()])
print(json.dumps(results))
"""


@pytest.mark.parametrize("program", ["with_onnx.py", "with_torch.py"])
def test_the_documented_programs_need_no_nas_and_compute_the_same(
    exported: Path, tmp_path: Path, program: str
) -> None:
    for block in blocks_of("python", DEPLOY.read_text()):
        (tmp_path / block.split()[1]).write_text(block)
    folders = [
        (exported / name, sorted(map(str, (exported / images).iterdir())))
        for name, images in (("digits", "test"), ("photos", "images"))
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER],
        input=json.dumps([program, *((str(folder), paths) for folder, paths in folders)]),
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    *rows, results = done.stdout.splitlines()
    expected_rows = []
    for (folder, paths), (images, theirs) in zip(folders, json.loads(results), strict=True):
        model = nas.load(folder)
        shape = Shape(model.input.channels, model.input.height, model.input.width)
        pixels_NCHW = channels_first(torch.from_numpy(decode(paths, shape)))
        assert np.array_equal(np.array(images), pixels_NCHW)
        ours = model.logits(pixels_NCHW)
        assert len(ours) == len(paths) > 5
        assert (torch.tensor(theirs) - ours).abs().max() < 1e-4
        expected_rows += [f"{p.path} {p.classes[0]}" for p in model.predict(paths, top=1)]
    assert rows == expected_rows
