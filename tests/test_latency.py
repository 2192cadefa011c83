from dataclasses import replace

import pytest

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import layer_table
from nas.errors import RequestError
from nas.latency import LatencyLimit, TimedLayer, layers_of
from nas.values import latency

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
ODD = ImageInput(channels=1, height=37, width=29, classes=7)
STRIDED = Architecture(
    blocks=(2, 1), channels=(8, 12), kernels=(5, 3), shortcut_kernels=(3, 1), pool=2, strides=(3, 2)
)


@pytest.mark.parametrize("input", [CIFAR10, ODD], ids=str)
@pytest.mark.parametrize("design", [*PRESETS.values(), STRIDED], ids=str)
def test_the_layers_of_a_design_are_its_convolutions_and_its_classifier(
    design: Architecture, input: ImageInput
) -> None:
    design = replace(design, pool=2)
    counted = [row for row in layer_table(design, input) if row.kind in ("conv", "linear")]
    layers = layers_of(design, input)
    biases = input.classes + design.stem_bias * design.stem_channels * input.height * input.width
    assert len(layers) == len(counted)
    assert sum(x.mult_adds for x in layers) == sum(row.mult_adds for row in counted) - biases
    assert sum(x.activations for x in layers) == sum(row.activations for row in counted)
    assert sum(x.kind == "sum" for x in layers) == sum(design.blocks)


def test_a_layer_is_the_same_after_it_was_written() -> None:
    layers = layers_of(PRESETS["resnet20"], CIFAR10)
    assert tuple(TimedLayer.read(str(layer)) for layer in layers) == layers


@pytest.mark.parametrize(
    ("typed", "milliseconds"), [("5ms", 5), ("800us", 0.8), ("0.02s", 20), (2.5, 2.5), (3, 3)]
)
def test_a_latency_is_typed_with_its_unit_and_a_number_is_milliseconds(
    typed: object, milliseconds: float
) -> None:
    assert latency("max_latency", typed) == pytest.approx(milliseconds)


@pytest.mark.parametrize("typed", ["5", "0ms", "-1ms", "5 min", "ms", "infms", 0, True, None])
def test_what_is_no_latency_is_refused(typed: object) -> None:
    with pytest.raises(RequestError, match="max_latency must be"):
        latency("max_latency", typed)


def test_a_limit_says_what_is_timed_and_how() -> None:
    assert str(LatencyLimit(max_ms=5)) == "5 ms (float, 1 thread)"
    limit = LatencyLimit(max_ms=0.25, of="int8", threads=2)
    assert str(limit) == "0.25 ms (int8, 2 threads)"
    for wrong in ({"max_ms": 0}, {"max_ms": 1, "of": "int4"}, {"max_ms": 1, "threads": 0}):
        with pytest.raises(ValueError, match="must be"):
            LatencyLimit(**wrong)
