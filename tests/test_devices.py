import pytest

from nas.architecture import ImageInput
from nas.counting import count
from nas.devices import DEVICES
from nas.space import Limits, default_space


@pytest.mark.parametrize("name", DEVICES)
def test_some_design_of_the_default_space_fits_every_device(name: str) -> None:
    device = DEVICES[name]
    space = default_space(ImageInput(channels=3, height=32, width=32, classes=10))
    limits = Limits(max_arena=device.max_arena, max_flash=device.max_flash)
    assert limits.allow(count(space.smallest(), space.input))


@pytest.mark.parametrize("name", DEVICES)
def test_some_of_a_device_is_kept_back(name: str) -> None:
    device = DEVICES[name]
    assert device.name == name
    assert device.source
    assert device.max_arena == device.ram * 3 // 4
    assert device.max_flash == device.flash - 102_400
