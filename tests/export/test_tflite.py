"""An int8 network as a `.tflite` file: what it says, and what runtimes that know no nas compute."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas import packages
from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import count, count_parameters
from nas.export import memory
from nas.export.int8 import Int8Network
from nas.export.tflite import tflite
from tests.kits.exports import (
    as_read,
    int8_logits,
    make_images,
    make_int8,
    make_spec,
)
from tests.kits.tflite import read_tflite
from tests.kits.tflm import needs_tflm, run_tflm
from tests.kits.waiting import PATIENCE


def design(
    blocks: tuple[int, ...],
    channels: tuple[int, ...],
    kernels: tuple[int, ...],
    shortcut_kernels: tuple[int, ...],
    strides: tuple[int, ...] = (),
) -> Architecture:
    return Architecture(
        blocks=blocks,
        channels=channels,
        kernels=kernels,
        shortcut_kernels=shortcut_kernels,
        strides=strides,
        pool=2,
    )


NARROW_STEM = Architecture(
    blocks=(1, 1),
    channels=(8, 6),
    kernels=(3, 5),
    shortcut_kernels=(3, 1),
    pool=3,
    strides=(3, 2),
    stem_channels=5,
    stem_bias=True,
    shortcut_norm=False,
)
DESIGNS = {
    "without projections": (design((2,), (8,), (3,), (1,)), (1, 7, 9)),
    "a stem with bias, shortcuts without norm": (NARROW_STEM, (3, 30, 31)),
    "large kernels": (design((1, 1, 2), (8, 12, 4), (7, 5, 3), (1, 7, 5), (1, 3, 2)), (1, 19, 16)),
    "kernels of a pixel": (design((1, 1), (4, 8), (1, 1), (1, 1), (2, 2)), (3, 13, 8)),
    "more than 0.3 MB": (design((1, 1, 1), (24, 64, 128), (3, 3, 3), (3, 3, 3)), (3, 16, 16)),
    "resnet20": (PRESETS["resnet20"], (3, 32, 32)),
}


@pytest.fixture(params=DESIGNS)
def network(request: pytest.FixtureRequest) -> Int8Network:
    architecture, shape = DESIGNS[request.param]
    return make_int8(make_spec(architecture, shape=shape))


@needs_tflm
def test_tensorflow_lite_micro_computes_our_logits(network: Int8Network) -> None:
    images = make_images(network.spec, 12, seed=1)
    content = tflite(network)
    ran = run_tflm(content, as_read(network, images))
    assert np.array_equal(ran.logits_NK, int8_logits(network, images))
    assert len(np.unique(ran.logits_NK)) > 12  # so that they tell something
    assert ran.tensors == memory.bound(memory.lifetimes(network.operators))


@needs_tflm
def test_the_plan_in_the_file_changes_no_logit_and_saves_memory() -> None:
    network = make_int8(make_spec(design((1, 1), (8, 16), (3, 3), (1, 1)), shape=(3, 16, 16)))
    pixels = as_read(network, make_images(network.spec, 12))
    content = tflite(network)
    planned = run_tflm(content, pixels)
    unplanned = run_tflm(content.replace(b"OfflineMemory", b"ForgottenPlan"), pixels)
    assert np.array_equal(planned.logits_NK, unplanned.logits_NK)
    assert planned.tensors < unplanned.tensors
    assert planned.arena < unplanned.arena


def test_one_of_them_has_more_weights_than_converters_keep_inside() -> None:
    spec = make_spec(DESIGNS["more than 0.3 MB"][0], shape=(3, 16, 16))
    parameters = count_parameters(spec.architecture, spec.input)
    assert 300_000 < parameters < len(tflite(make_int8(spec)))


LITERT = """
import sys
from collections.abc import Callable
sys.modules["nas"] = None
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runs = Interpreter("model.tflite")
runs.allocate_tensors()
input, output = runs.get_input_details()[0], runs.get_output_details()[0]
logits = []
for image in np.load("images.npy"):
    runs.set_tensor(input["index"], image[None])
    runs.invoke()
    logits.append(runs.get_tensor(output["index"])[0])
np.save("logits.npy", np.array(logits))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed"
)
def test_litert_gives_our_labels(network: Int8Network, tmp_path: Path) -> None:
    images = make_images(network.spec, 200, seed=1)
    (tmp_path / "model.tflite").write_bytes(tflite(network))
    np.save(tmp_path / "images.npy", as_read(network, images))
    subprocess.run([sys.executable, "-c", LITERT], cwd=tmp_path, check=True, timeout=PATIENCE)
    logits = np.load(tmp_path / "logits.npy").astype(int)
    ours = int8_logits(network, images).astype(int)
    assert abs(logits - ours).mean() < 3  # of 256: its kernels round otherwise
    assert (logits.argmax(1) == ours.argmax(1)).mean() >= 0.98


def test_a_file_says_what_a_program_needs() -> None:
    classes = ("cat", 'a "dog"', "Schiff ⛵", "caf\udce9")  # the last: a folder that is no UTF-8
    network = make_int8(make_spec(classes=classes))
    content = tflite(network)
    assert content == tflite(network)
    file = read_tflite(content)
    assert file.classes == classes
    assert file.version == packages.version()
    assert np.array_equal(file.table_CV, network.table_CV)
    assert b"min_runtime_version" in content
    assert "Schiff ⛵".encode() in content  # as few bytes as there can be
    assert content[4:8] == b"TFL3"


@pytest.mark.parametrize("letter", ["x", "ü"])
@pytest.mark.parametrize(("classes", "letters"), [(2, 1), (10, 8), (37, 25), (200, 40)])
def test_flash_has_the_names_of_the_classes(classes: int, letters: int, letter: str) -> None:
    names = tuple(str(i).ljust(letters, letter) for i in range(classes))
    spec = make_spec(shape=(3, 8, 8), classes=names)
    size = len(tflite(make_int8(spec)))
    flash = count(spec.architecture, ImageInput.named((3, 8, 8), names)).flash
    assert 0.99 * size <= flash <= 1.03 * size
