"""A network in int8: that it answers as the float network does, and what cannot be one."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.architecture import Architecture
from nas.data.loading import load_dataset
from nas.export.int8 import Int8Network, quantize
from nas.export.spec import ModelError, ModelSpec
from nas.export.tflite import tflite
from nas.model import ResNet
from nas.runtime import signals
from nas.training.batches import Normalize
from tests.kits.exports import (
    SMALL,
    as_read,
    int8_logits,
    make_images,
    make_int8,
    make_network,
    make_spec,
    trained_on,
)
from tests.kits.tflm import needs_tflm, run_tflm
from tests.kits.training import CPU, channels_first


def float_logits(network: ResNet, spec: ModelSpec, images_NCHW: Tensor) -> Tensor:
    with torch.no_grad():
        normalize = Normalize(spec.mean, spec.std, CPU)
        return network(normalize(images_NCHW.permute(0, 2, 3, 1)))  # type: ignore[no-any-return]


def same_as_tflm(network: Int8Network, images_NCHW: Tensor) -> bool:
    ran = run_tflm(tflite(network), as_read(network, images_NCHW))
    return np.array_equal(ran.logits_NK, int8_logits(network, images_NCHW))


@needs_tflm
def test_a_trained_network_stays_as_good(tmp_path_factory: pytest.TempPathFactory) -> None:
    digits = load_dataset("digits", tmp_path_factory.mktemp("data"))
    spec, network = trained_on(digits, epochs=2)
    training = channels_first(digits.train.pixels_NHWC)
    validation = channels_first(digits.validation.pixels_NHWC)
    in_float = float_logits(network.eval(), spec, validation).argmax(1)
    in_int8 = quantize(network, spec, training[:256])
    labels = in_int8.logits(validation).argmax(1)
    correct = digits.validation.labels_N
    assert (in_float == correct).float().mean() > 0.6
    assert (labels == in_float).float().mean() > 0.97
    assert same_as_tflm(in_int8, validation)


def test_logits_are_those_of_the_float_network_but_for_rounding() -> None:
    spec = make_spec()
    network, images = make_network(spec), make_images(spec, 64)
    state = copy.deepcopy(network.state_dict())
    in_int8 = quantize(network, spec, images)
    ours, floats = in_int8.logits(images), float_logits(network, spec, images)
    assert ours.dtype == torch.float32
    assert (ours - floats).square().mean().sqrt() < 0.06 * floats.std()
    assert torch.equal(in_int8.logits(images[5:7]), ours[5:7])
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_a_signal_ends_the_arithmetic_before_the_next_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv2d, convolutions = F.conv2d, 0

    def interrupted(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal convolutions
        convolutions += 1
        signals.stop()
        return conv2d(*args, **kwargs)

    spec = make_spec()
    network, images = make_int8(spec), make_images(spec, 2)
    for computing in (
        lambda: network.logits(images),
        lambda: quantize(make_network(spec), spec, images),
    ):
        convolutions = 0
        with monkeypatch.context() as patch, signals.listening():
            patch.setattr(F, "conv2d", interrupted)
            with pytest.raises(KeyboardInterrupt):
                computing()
        assert convolutions == 1


def test_threads_share_the_batches_and_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    conv2d, of_operators = F.conv2d, set()

    def noted(*args: Any, **kwargs: Any) -> torch.Tensor:
        of_operators.add(torch.get_num_threads())
        return conv2d(*args, **kwargs)

    monkeypatch.setattr(F, "conv2d", noted)
    network = make_int8(make_spec())
    images, before = make_images(network.spec, 8_000, seed=1), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = network.logits(images)
        torch.set_num_threads(3)
        assert torch.equal(network.logits(images), alone)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert of_operators == {1}


def test_pixels_are_read_as_they_are_normalized() -> None:
    spec = make_spec()
    network = make_int8(spec)
    image = network.image
    for values, mean, std in zip(network.table_CV, spec.mean, spec.std, strict=True):
        read = (values.astype(float) - image.zero_point) * image.scale
        normalized = (np.arange(256) / 255 - mean) / std
        assert abs(read - normalized).max() <= image.scale
    gray = make_int8(make_spec(shape=(1, 8, 10))).table_CV
    assert len(np.unique(gray)) >= 255  # no level is lost


@needs_tflm
def test_sums_beyond_float32_are_exact() -> None:
    wide = Architecture(blocks=(1,), channels=(40,), kernels=(7,), shortcut_kernels=(1,), pool=2)
    spec = make_spec(wide, shape=(1, 8, 8))
    network = make_network(spec)
    for block in network.residual_blocks():
        block.conv2.weight.data.abs_().add_(block.conv2.weight.data.max())
    in_int8 = quantize(network, spec, make_images(spec, 16))
    assert max(o.weights.largest_sum for o in in_int8.operators if hasattr(o, "weights")) > 1 << 24
    assert same_as_tflm(in_int8, make_images(spec, 8, seed=1))


@needs_tflm
def test_channels_without_weights_keep_their_bias() -> None:
    spec = make_spec()
    network = make_network(spec)
    for norm in network.norms():
        norm.weight.data[::2] = 0
        norm.bias.data[0] = 3
    images = make_images(spec, 32)
    in_int8 = quantize(network, spec, images)
    floats = float_logits(network, spec, images)
    assert (in_int8.logits(images) - floats).square().mean().sqrt() < 0.1 * floats.std()
    assert same_as_tflm(in_int8, images)


@needs_tflm
def test_a_calibration_that_says_nothing_gives_a_file_that_runs() -> None:
    spec = make_spec()
    black = torch.zeros(4, 3, 8, 10, dtype=torch.uint8)
    in_int8 = quantize(make_network(spec), spec, black)
    assert same_as_tflm(in_int8, make_images(spec, 8))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(0, 3, 8, 10, dtype=torch.uint8),
        torch.zeros(2, 4, 8, 10, dtype=torch.uint8),
        torch.zeros(2, 3, 10, 8, dtype=torch.uint8),
        torch.zeros(2, 3, 8, 10, dtype=torch.int32),
        torch.zeros(2, 3, 8, 10),
    ],
    ids=["none", "four channels", "turned", "more than 8 bits", "normalized"],
)
def test_other_images_are_refused_in_one_line(images: Tensor) -> None:
    spec = make_spec()
    expected = r"^expected one or more uint8 images of 3x8x10 \(.*\), got \w+ of [0-9x]+; [^\n]*$"
    with pytest.raises(ModelError, match=expected):
        quantize(make_network(spec), spec, images)
    with pytest.raises(ModelError, match=expected):
        make_int8(spec).logits(images)


def test_a_network_that_int8_cannot_hold_is_refused() -> None:
    broken = make_network(make_spec())
    broken.head.bias.data[0] = torch.nan
    with pytest.raises(ModelError, match=r"^expected a network whose values are finite, got .* in"):
        quantize(broken, make_spec(), make_images(make_spec(), 2))
    every_pixel = Architecture(
        blocks=(1,), channels=(64,), kernels=(1,), shortcut_kernels=(1,), pool=1
    )
    spec = make_spec(every_pixel, shape=(1, 40, 40))
    large = make_network(spec)
    large.head.weight.data.fill_(1)
    with pytest.raises(ModelError, match=r"^expected sums .* that fit into 32 bits, got up to \d+"):
        quantize(large, spec, make_images(spec, 2))
    with pytest.raises(ValueError, match="network must be"):
        quantize(large, make_spec(SMALL), make_images(spec, 2))
