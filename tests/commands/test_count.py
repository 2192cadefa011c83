import argparse
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import PRESETS, ImageInput
from nas.commands import main
from nas.commands.arguments import whole_number, whole_numbers
from nas.commands.words import COLUMNS
from nas.counting import COSTS, LIMITED, Cost, count, layer_table
from nas.devices import DEVICES
from nas.text import kibibytes
from tests.kits.commands import Capture, error_of
from tests.kits.waiting import PATIENCE

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
RESNET12 = ("--blocks", "2,1,1,1", "--channels", "64,128,256,512", "--pool", "4")


def counted(capsys: Capture, *words: str, status: int = 0) -> str:
    """What `nas count` prints."""
    assert main(["count", *words]) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def document(capsys: Capture, *words: str, status: int = 0) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(counted(capsys, *words, "--json", status=status))
    return read


def refused(capsys: Capture, *words: str) -> str:
    """The one line that says why `nas count` does nothing."""
    return error_of(capsys, main(["count", *words]))


# Results


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_counted(capsys: Capture, name: str) -> None:
    cost = count(PRESETS[name], CIFAR10)
    out = counted(capsys, "--preset", name)
    totals = dict(line.split("  ", 1) for line in out.splitlines()[-len(COSTS) :])
    assert {name: value.strip().split()[0] for name, value in totals.items()} == {
        c.title: f"{getattr(cost, c.name):,}" for c in COSTS.values()
    }
    assert f"({kibibytes(cost.arena)})" in totals["arena"]
    assert max(map(len, out.splitlines()[1:])) <= COLUMNS


def test_table_has_a_line_per_layer(capsys: Capture) -> None:
    lines = counted(capsys, "--preset", "resnet12").splitlines()
    assert lines[0] == f"{PRESETS['resnet12']}   for 3x32x32, 10 classes"
    for layer in layer_table(PRESETS["resnet12"], CIFAR10):
        (line,) = [line for line in lines if line.split(" ")[0] == layer.name]
        _, output, *cells = line.split()
        assert output == "x".join(map(str, layer.output))
        kernel = f"{layer.kernel}x{layer.kernel}" + f"/{layer.stride}" * (layer.stride > 1)
        costs = (layer.parameters, layer.mult_adds, layer.activations)
        assert cells == [kernel] * bool(layer.kernel) + [f"{n:,}" for n in costs if n]


def test_explicit_fields_are_the_same_design(capsys: Capture) -> None:
    preset = counted(capsys, "--preset", "resnet12")
    assert counted(capsys, *RESNET12) == preset
    assert counted(capsys, *RESNET12, "--kernels", "3", "--shortcut-kernels", "1") == preset
    assert counted(capsys, *RESNET12, "--kernels", "3,3,3,3", "--strides", "1,2,2,2") == preset


def test_one_value_serves_all_stages(capsys: Capture) -> None:
    one = counted(capsys, "--blocks", "2", "--channels", "8,16,32", "--kernels", "5", "--pool", "8")
    every = counted(
        capsys, "--blocks", "2,2,2", "--channels", "8,16,32", "--kernels", "5,5,5", "--pool", "8"
    )
    assert one == every
    alone = document(capsys, "--blocks", "2", "--channels", "8", "--pool", "32")
    assert alone["design"] == "B2 C8 F3 K1 P32"


def test_image_and_classes_are_counted(capsys: Capture) -> None:
    input = ImageInput(channels=1, height=28, width=30, classes=7)
    design = replace(PRESETS["resnet20"], pool=7)
    words = ("--blocks", "3", "--channels", "16,32,64", "--pool", "7")
    read = document(capsys, *words, "--image", "1x28x30", "--classes", "7")
    cost = count(design, input)
    assert (read["parameters"], read["mult_adds"]) == (cost.parameters, cost.mult_adds)
    assert read["layers"][0]["output"] == [16, 28, 30]
    assert read["layers"][-1]["output"] == [7]


@pytest.mark.parametrize("name", PRESETS)
def test_json_is_one_document_that_adds_up(capsys: Capture, name: str) -> None:
    read = document(capsys, "--preset", name)
    cost = count(PRESETS[name], CIFAR10)
    assert (read["parameters"], read["mult_adds"]) == (cost.parameters, cost.mult_adds)
    assert read["fits"] is None
    assert read["key"] == PRESETS[name].key
    for total in ("parameters", "mult_adds", "activations"):
        assert sum(layer[total] for layer in read["layers"]) == read[total]
    names = [layer.name for layer in layer_table(PRESETS[name], CIFAR10)]
    assert [layer["name"] for layer in read["layers"]] == names
    assert set(read["layers"][0]) >= {"name", "kind", "output", "parameters", "mult_adds"}


# Verdicts


@pytest.mark.parametrize(
    ("budget", "status", "verdict"),
    [
        ("5e6", 0, "fits: 4,977,226 of 5,000,000 parameters (99.5%)"),
        ("4977226", 0, "fits: 4,977,226 of 4,977,226 parameters (100.0%)"),
        ("4977225", 1, "over: 4,977,226 of 4,977,225 parameters (100.0%)"),
        ("1", 1, "over: 4,977,226 of 1 parameter "),
    ],
)
def test_budget_gives_a_verdict(capsys: Capture, budget: str, status: int, verdict: str) -> None:
    out = counted(capsys, "--preset", "resnet12", "--budget", budget, status=status)
    assert out.splitlines()[-1].startswith(verdict)
    read = document(capsys, "--preset", "resnet12", "--budget", budget, status=status)
    assert read["fits"] is (status == 0)


@pytest.mark.parametrize("cost", LIMITED.values(), ids=LIMITED)
def test_every_cost_has_a_verdict(capsys: Capture, cost: Cost) -> None:
    value = getattr(count(PRESETS["resnet12"], CIFAR10), cost.name)
    words = ("--preset", "resnet12", cost.option)
    assert document(capsys, *words, str(value))[cost.name] == value
    assert f"fits: {value:,} of {value:,} {cost.units}" in counted(capsys, *words, str(value))
    assert "over: " in counted(capsys, *words, str(value - 1), status=1)
    others = [word for c in LIMITED.values() if c != cost for word in (c.option, "1G")]
    out = counted(capsys, *words, str(value - 1), *others, status=1)
    verdicts = [line[:4] for line in out.splitlines()[-len(LIMITED) :]]
    assert verdicts == ["over" if c == cost else "fits" for c in LIMITED.values()]
    read = document(capsys, *words, str(value - 1), *others, status=1)
    assert read["fits"] is False


def test_a_device_sets_the_limits_that_are_not_given(capsys: Capture) -> None:
    words = ("--preset", "mlperf-tiny-resnet", "--for", "arduino-nano-33-ble")
    *_, arena, flash, kept = counted(capsys, *words).splitlines()
    cost = count(PRESETS["mlperf-tiny-resnet"], CIFAR10)
    assert arena.startswith(f"fits: {cost.arena:,} of 196,608 bytes of arena")
    assert flash.startswith(f"fits: {cost.flash:,} of 946,176 bytes of flash")
    assert kept.startswith("for arduino-nano-33-ble: a quarter of the RAM and 100 KiB of flash")
    out = counted(capsys, *words, "--max-ram", "50k", status=1)
    assert f"over: {cost.arena:,} of 51,200 bytes of arena (110.6%)" in out
    read = document(capsys, "--preset", "resnet18", "--for", "stm32f746", status=1)
    assert read["fits"] is False
    line = refused(capsys, "--preset", "resnet18", "--for", "stm32f764")
    assert line.startswith("error: --for: expected one of arduino-nano-33-ble, ")
    assert "did you mean stm32f746?" in line
    assert all(name in line for name in DEVICES)


def test_far_over_a_limit_is_said_in_times(capsys: Capture) -> None:
    words = ("--preset", "resnet18", "--budget")
    parameters = count(PRESETS["resnet18"], CIFAR10).parameters
    for most, part in ((parameters // 10 + 1, "%)"), (parameters // 20, "(20 times)")):
        assert counted(capsys, *words, str(most), status=1).rstrip().endswith(part)


@pytest.mark.parametrize(
    "limit", [("--for", "stm32f746"), ("--max-ram", "1M"), ("--max-flash", "1M")]
)
def test_a_network_in_int8_takes_gray_or_rgb(capsys: Capture, limit: tuple[str, str]) -> None:
    words = ("--preset", "resnet20", "--image", "4x32x32")
    line = refused(capsys, *words, *limit)
    assert line.startswith("error: --image: expected 1 channel (gray) or 3 (RGB), which")
    assert "for 4x32x32, 10 classes" in counted(capsys, *words)


@pytest.mark.parametrize(
    ("written", "value"),
    [("256k", 262_144), ("1M", 1_048_576), ("1.5m", 1_572_864), ("65536", 65_536), ("10", 10)],
)
def test_bytes_are_counted_in_units_of_1024(capsys: Capture, written: str, value: int) -> None:
    status = 0 if value >= count(PRESETS["resnet20"], CIFAR10).arena else 1
    out = counted(capsys, "--preset", "resnet20", "--max-ram", written, status=status)
    assert f" of {value:,} bytes of arena" in out.splitlines()[-1]


@pytest.mark.parametrize("written", ["3x", "-1", "0", "1.5", "1kB", "", "256 k"])
def test_bad_bytes_are_refused(capsys: Capture, written: str) -> None:
    line = refused(capsys, "--preset", "resnet20", f"--max-ram={written}")
    assert f"--max-ram: expected bytes such as 262144, 256k or 1M, got {written!r}" in line


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e6", 5_000_000),
        ("5E6", 5_000_000),
        ("5e+6", 5_000_000),
        ("5_000_000", 5_000_000),
        ("5000000", 5_000_000),
        ("5M", 5_000_000),
        ("5m", 5_000_000),
        ("5.0M", 5_000_000),
        ("4.9M", 4_900_000),
        ("4.977226M", 4_977_226),
        ("5000k", 5_000_000),
        ("0.005G", 5_000_000),
        (" 5e6 ", 5_000_000),
    ],
)
def test_budget_may_be_written_in_many_ways(capsys: Capture, written: str, value: int) -> None:
    fits = value >= 4_977_226
    out = counted(capsys, "--preset", "resnet12", "--budget", written, status=0 if fits else 1)
    assert f" of {value:,} parameters" in out.splitlines()[-1]


# Bad input


@pytest.mark.parametrize(
    "budget",
    [
        "-1",
        "0",
        "0.0",
        "nan",
        "inf",
        "abc",
        "5.5",
        "4.9k5",
        "1e99",
        "1e-3",
        "M",
        "5e",
        "_5",
        "0x10",
        "5,000",
        "",
        " ",
        "5 M",
        "5\n6",
        "9" * 5000,
        "5." + "0" * 40 + "1",
    ],
)
def test_bad_budget_is_refused(capsys: Capture, budget: str) -> None:
    line = refused(capsys, "--preset", "resnet20", "--budget", budget)
    assert "--budget: expected a positive whole number" in line
    assert repr(budget)[1:40] in line


@pytest.mark.parametrize("image", ["3x32", "0x32x32", "3x0x32", "3x32x32x3", "3,32,32", "a", ""])
def test_bad_image_is_refused(capsys: Capture, image: str) -> None:
    line = refused(capsys, "--preset", "resnet20", "--image", image)
    assert "--image: expected channels x height x width" in line
    assert f"got {image!r}" in line


@pytest.mark.parametrize("numbers", ["", ",", "2,", "2;1", "2.0", "-2", "two", "2,,1"])
def test_bad_list_is_refused(capsys: Capture, numbers: str) -> None:
    words = ("--blocks", numbers) if numbers != "-2" else ("--blocks=-2",)
    line = refused(capsys, *words, "--channels", "8,8", "--pool", "4")
    assert "--blocks: expected comma-separated whole numbers" in line
    assert f"got {numbers!r}" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--blocks", "2,1", "--channels", "8,8,8", "--pool", "4"), "one value per stage"),
        ((*RESNET12, "--kernels", "3,3"), "kernels must have one value per stage: 4"),
        ((*RESNET12, "--kernels", "2"), "kernels must be odd, such as 1, 3 or 5, got 2"),
        ((*RESNET12, "--shortcut-kernels", "1,1,1,4"), "shortcut_kernels must be odd"),
        ((*RESNET12, "--strides", "0,1,1,1"), "strides must be a whole number of at least 1"),
        ((*RESNET12[:-1], "5"), "pool must be in 1..4"),
        ((*RESNET12[:-1], "0"), "--pool: expected a positive whole number"),
        ((*RESNET12, "--image", "3x8x8"), "pool must be in 1..1"),
        ((*RESNET12, "--classes", "0"), "--classes: expected a positive whole number"),
        (("--blocks", "0", "--channels", "8", "--pool", "4"), "blocks must be a whole number"),
        (("--blocks", "1", "--channels", "0", "--pool", "4"), "channels must be a whole number"),
        (("--preset", "resnet11"), "--preset: expected one of resnet18, "),
        (("--preset", ""), "--preset: expected one of resnet18, "),
        (("--preset", "resnet12", "--blocks", "1"), "got --preset and --blocks"),
        (("--preset", "resnet12", "--pool", "4"), "got --preset and --pool"),
        (("--preset", "resnet12", "--shortcut-kernels", "1"), "--preset and --shortcut-kernels"),
        ((), "got no --blocks and no --channels and no --pool"),
        (RESNET12[:4], "got no --pool"),
        (RESNET12[2:], "got no --blocks"),
        ((*RESNET12, "--depth", "3"), "--depth"),
        ((*RESNET12, "two\nlines"), "two lines"),
        ((*RESNET12, "--kernels"), "--kernels: expected a value, got none"),
    ],
)
def test_bad_design_is_refused(capsys: Capture, words: tuple[str, ...], message: str) -> None:
    assert message in refused(capsys, *words)


# Numbers


def read_or_none(text: str) -> int | None:
    try:
        return whole_number(text)
    except argparse.ArgumentTypeError:
        return None


@given(st.integers(1, 10**15))
def test_whole_number_reads_back_what_python_writes(value: int) -> None:
    assert whole_number(str(value)) == value
    assert whole_number(f"{value:_}") == value


@given(st.integers(1, 10**6), st.integers(0, 9), st.sampled_from(("", "k", "K", "M", "G")))
def test_exponents_and_units_multiply(value: int, exponent: int, unit: str) -> None:
    times = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[unit.lower()]
    assert read_or_none(f"{value}{unit}") == value * times
    if value * 10**exponent <= 10**9:
        assert read_or_none(f"{value}e{exponent}{unit}") == value * 10**exponent * times


@given(
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,40})?(e[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(("", "k", "M", "G")),
)
def test_a_number_is_read_exactly_or_refused(number: str, unit: str) -> None:
    value = Fraction(number) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[unit]
    read = read_or_none(number + unit)
    assert read is None or read == value
    if value.denominator == 1 and 1 <= value <= 10**15 and len(number) < 15:
        assert read == value


@given(st.text() | st.text("0123456789._-+ekmgMG ", max_size=12))
def test_any_text_is_a_positive_number_or_refused(text: str) -> None:
    read = read_or_none(text)
    assert read is None or read >= 1


@given(st.lists(st.integers(0, 10**8), min_size=1))
def test_whole_numbers_reads_back_what_python_writes(values: list[int]) -> None:
    assert whole_numbers(",".join(map(str, values))) == tuple(values)
    assert whole_numbers(str(values)[1:-1]) == tuple(values)  # with a space after each comma


# Ways to call it


def test_module_and_command_are_the_same(capsys: Capture, tmp_path: Path) -> None:
    words = ("--preset", "resnet20", "--budget", "1e5")
    expected = counted(capsys, *words, status=1)
    for module in (("nas.count",), ("nas", "count")):
        done = subprocess.run(
            [sys.executable, "-m", *module, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, expected, "")


def test_help_names_every_option(capsys: Capture) -> None:
    out = counted(capsys, "--help")
    for option in ("preset", "blocks", "channels", "kernels", "shortcut-kernels", "pool"):
        assert f"--{option} " in out
    for option in ("image", "classes", "budget", "json"):
        assert f"--{option}" in out
