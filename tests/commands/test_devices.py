import json

from nas.commands import main
from nas.commands.words import COLUMNS
from nas.devices import DEVICES
from tests.kits.commands import Capture


def test_the_table_has_every_device_with_its_source(capsys: Capture) -> None:
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= COLUMNS
    assert "a quarter of the RAM and 100 KiB of flash are kept back" in " ".join(out.split())
    assert "with CMSIS-NN, on an Arm Cortex-M" in " ".join(out.split())
    for device in DEVICES.values():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{device.name} ")]
        sizes = (device.flash, device.max_flash, device.ram, device.max_arena)
        assert line.split()[-4:] == [f"{size // 1024:,}" for size in sizes]
        assert f"  {device.name}: {device.source}" in out.splitlines()


def test_json_says_what_is_left_for_a_network(capsys: Capture) -> None:
    assert main(["devices", "--json"]) == 0
    read = {device["name"]: device for device in json.loads(capsys.readouterr().out)}
    assert read.keys() == DEVICES.keys()
    nano = read["arduino-nano-33-ble"]
    assert (nano["max_flash"], nano["max_arena"]) == (946_176, 196_608)
