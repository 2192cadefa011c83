from pathlib import Path

import pytest

from nas.architecture import ImageInput
from nas.counting import LIMITED, Cost
from nas.devices import DEVICES
from nas.search.request import SearchRequest
from nas.space import Limits, default_space, load_space

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)


@pytest.mark.parametrize("side", [8, 28, 32, 64, 96])
@pytest.mark.parametrize("name", DEVICES)
def test_some_design_of_the_default_space_fits_every_device(name: str, side: int) -> None:
    input = ImageInput(channels=3, height=side, width=side, classes=10)
    space = SearchRequest(target=name).space_for(input)  # or it is refused
    assert space.channels[0][:4] == (4, 8, 16, 24)


@pytest.mark.parametrize("cost", [cost for cost in LIMITED.values() if cost.memory])
def test_any_limit_of_memory_lets_stages_be_narrow(cost: Cost, tmp_path: Path) -> None:
    limits = Limits(max_parameters=80_000).with_maximum(cost.name, 1_000_000)
    assert default_space(CIFAR10, limits=limits).channels[0][:2] == (4, 8)
    file = tmp_path / "space.toml"
    file.write_text("blocks = 1", encoding="utf-8")
    assert load_space(file, CIFAR10, limits).channels[0][:2] == (4, 8)


def test_without_a_limit_of_memory_the_default_space_is_as_before() -> None:
    limits = Limits(max_parameters=5_000_000, max_mult_adds=30_000_000)
    assert default_space(CIFAR10, limits=limits) == default_space(CIFAR10)
    assert default_space(CIFAR10).channels[0] == (16, 32, 48, 64, 80, 96, 112, 128)


@pytest.mark.parametrize("name", DEVICES)
def test_scratch_buffers_of_every_device_are_those_that_are_counted(name: str) -> None:
    assert "Cortex-M" in DEVICES[name].processor


@pytest.mark.parametrize("name", DEVICES)
def test_some_of_a_device_is_kept_back(name: str) -> None:
    device = DEVICES[name]
    assert device.name == name
    assert device.source
    assert device.max_arena == device.ram * 3 // 4
    assert device.max_flash == device.flash - 102_400
