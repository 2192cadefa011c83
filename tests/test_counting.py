import re
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import pytest
import torch
import torchinfo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.architecture import PRESETS, Architecture, ImageInput, stage_sizes
from nas.counting import Count, count, count_mult_adds, count_parameters, layer_table
from nas.model import ResNet, build
from tests.kits.places import ROOT

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)

PARAMETERS = {
    "resnet18": 11_173_962,
    "resnet10": 4_903_242,
    "resnet12": 4_977_226,
    "resnet12-1211": 5_198_666,
    "resnet14": 5_051_210,
    "resnet20": 272_474,
    "mlperf-tiny-resnet": 78_042,
    "flexres10": 4_903_242,
    "flexres18": 4_996_254,
    "flexres20": 4_998_382,
    "flexres22-1": 4_935_242,
    "flexres22-2": 4_922_826,
    "flexres32": 4_754_218,
    "resnet18-narrow-stem": 11_154_890,
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Architecture, ImageInput]:
    """A small design, its optional fields open, and images it fits."""
    stages = draw(st.integers(1, 4))

    def per_stage(choices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(draw(st.sampled_from(choices)) for _ in range(stages))

    input = ImageInput(
        channels=draw(st.integers(1, 4)),
        height=draw(st.integers(1, 24)),
        width=draw(st.integers(1, 24)),
        classes=draw(st.integers(1, 12)),
    )
    architecture = Architecture(
        blocks=per_stage((1, 2, 3)),
        channels=per_stage((1, 2, 3, 5, 8)),
        kernels=per_stage((1, 3, 5, 7)),
        shortcut_kernels=per_stage((1, 3, 5)),
        pool=1,
        strides=draw(st.sampled_from(((), per_stage((1, 2, 3))))),
        stem_channels=draw(st.sampled_from((0, 1, 3, 5))),
        stem_bias=draw(st.booleans()),
        shortcut_norm=draw(st.booleans()),
    )
    last = min(stage_sizes(architecture, input)[-1])
    return replace(architecture, pool=draw(st.integers(1, last))), input


def measured(model: ResNet) -> tuple[int, int]:
    """Parameters and mult-adds by torchinfo; norms in eval mode, so that a 1x1 map will do."""
    input = model.input
    statistics = torchinfo.summary(
        model,
        input_size=(1, input.channels, input.height, input.width),
        mode="eval",
        device="cpu",
        verbose=0,
    )
    return statistics.total_params, statistics.total_mult_adds


def size(cost: Count) -> tuple[int, int]:
    return cost.parameters, cost.mult_adds


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_known_numbers_of_parameters(name: str) -> None:
    assert count_parameters(PRESETS[name], CIFAR10) == PARAMETERS[name]


def test_every_known_number_has_its_preset() -> None:
    assert set(PARAMETERS) == set(PRESETS)


def test_narrow_stem_network_has_its_known_number_of_mult_adds() -> None:
    mult_adds = count_mult_adds(PRESETS["resnet18-narrow-stem"], CIFAR10)
    assert f"{mult_adds / 1e6:.2f} M" == "135.15 M"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_count_as_measured(name: str) -> None:
    assert size(count(PRESETS[name], CIFAR10)) == measured(build(PRESETS[name], CIFAR10))


@settings(max_examples=80)
@given(cases())
def test_random_designs_count_as_measured(case: tuple[Architecture, ImageInput]) -> None:
    architecture, input = case
    counted = count(architecture, input)
    model = build(architecture, input)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert size(counted) == measured(model)
    assert counted.parameters == count_parameters(architecture, input)
    assert counted.mult_adds == count_mult_adds(architecture, input)


@given(cases())
def test_layer_table_sums_to_the_count(case: tuple[Architecture, ImageInput]) -> None:
    layers = layer_table(*case)
    cost = count(*case)
    for name in ("parameters", "mult_adds", "activations"):
        assert sum(getattr(layer, name) for layer in layers) == getattr(cost, name)
    assert len({layer.name for layer in layers}) == len(layers)


@settings(max_examples=40)
@given(cases())
def test_layer_table_tells_the_built_network(case: tuple[Architecture, ImageInput]) -> None:
    architecture, input = case
    model = build(architecture, input).eval()
    modules = dict(model.named_modules())
    passed: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            passed.append(name)
            shapes[name] = tuple(output.shape[1:])
            if name == "head":
                shapes["pooled"] = tuple(inputs[0].shape[1:])

        modules[name].register_forward_hook(hook)

    for name, module in modules.items():
        if next(module.parameters(recurse=False), None) is not None:
            watch(name)
    with torch.no_grad():
        model(torch.zeros(2, input.channels, input.height, input.width))

    *body, pool, head = layer_table(architecture, input)
    kinds: dict[str, type[nn.Module]] = {
        "conv": nn.Conv2d,
        "norm": nn.BatchNorm2d,
        "linear": nn.Linear,
    }
    listed = [layer.name for layer in (*body, head)]
    assert sorted(listed) == sorted(passed)
    assert [name for name in listed if ".shortcut." not in name] == [
        name for name in passed if ".shortcut." not in name
    ]
    for first, second in pairwise(listed):  # the shortcut ends a block
        if ".shortcut." in first and ".shortcut." not in second:
            assert first.rpartition(".shortcut")[0] != second.rpartition(".")[0]
    for layer in (*body, head):
        module = modules[layer.name]
        assert isinstance(module, kinds[layer.kind])
        assert layer.output == shapes[layer.name]
        assert layer.parameters == sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.Conv2d):
            assert module.kernel_size == (layer.kernel, layer.kernel)
            assert module.stride == (layer.stride, layer.stride)
    assert (pool.name, pool.kind, pool.parameters, pool.mult_adds) == ("pool", "pool", 0, 0)
    assert pool.kernel == pool.stride == architecture.pool
    assert (prod(pool.output),) == shapes["pooled"]


@given(cases())
def test_pool_larger_than_the_last_map_is_refused(case: tuple[Architecture, ImageInput]) -> None:
    architecture, input = case
    height, width = stage_sizes(architecture, input)[-1]
    side = min(height, width)
    assert count(replace(architecture, pool=side), input)  # fits exactly
    too_large = replace(architecture, pool=side + 1)
    message = rf"^pool must be in 1\.\.{side}, .*{height}x{width}.*, got {side + 1}$"
    for refuse in (count, count_parameters, count_mult_adds, layer_table, build):
        with pytest.raises(ValueError, match=message):
            refuse(too_large, input)


def test_huge_designs_count_exactly() -> None:
    wide = 10**9
    architecture = Architecture(
        blocks=(1,), channels=(wide,), kernels=(3,), shortcut_kernels=(1,), pool=32
    )
    assert count_parameters(architecture, CIFAR10) == (
        27 * wide + 2 * wide + 2 * 9 * wide**2 + 4 * wide + 10 * (wide + 1)
    )


@dataclass(frozen=True)
class Operator:
    """One step of the int8 network; tensors are names."""

    inputs: tuple[str, ...]
    output: str
    scratch: int = 0  # bytes


def on_a_device(
    architecture: Architecture, input: ImageInput
) -> tuple[list[Operator], dict[str, int]]:
    """The operators in their order, and the bytes of every tensor, from the network as built.

    What torch's hooks see, with an operator for padding where TensorFlow's own starts elsewhere.
    """
    model = build(architecture, input).eval()
    maps = {"image": (input.channels, input.height, input.width)}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: maps.__setitem__(name, output.shape[1:])
        )
    model.head.register_forward_pre_hook(
        lambda _module, inputs: maps.__setitem__("pooled", inputs[0].shape[1:])
    )
    with torch.no_grad():
        model(torch.zeros(1, *maps["image"]))
    operators: list[Operator] = []

    def add_conv(before: str, name: str) -> None:
        module = model.get_submodule(name)
        assert isinstance(module, nn.Conv2d)
        kernel, stride, inputs = module.kernel_size[0], module.stride[0], module.in_channels
        scratch = 4 * (-(-kernel * kernel * inputs // 4) * 4) if kernel > 1 else 0
        margins = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0) // 2
            for side in maps[before][1:]
        ]
        if set(margins) != {kernel // 2}:
            channels, height, width = maps[before]
            maps[f"{name}.padded"] = (channels, height + kernel - 1, width + kernel - 1)
            operators.append(Operator((before,), f"{name}.padded"))
            before = f"{name}.padded"
        operators.append(Operator((before,), name, scratch))

    add_conv("image", "stem.conv")
    last = "stem.conv"
    for i, blocks in enumerate(architecture.blocks):
        for block in range(blocks):
            name, shortcut = f"stages.{i}.{block}", last
            if block == 0 and architecture.projections[i]:
                shortcut = f"{name}.shortcut.conv"
                add_conv(last, shortcut)
            add_conv(last, f"{name}.conv1")
            add_conv(f"{name}.conv1", f"{name}.conv2")
            operators.append(Operator((f"{name}.conv2", shortcut), name))
            last = name
    operators += [Operator((last,), "pooled"), Operator(("pooled",), "head")]
    return operators, {name: -(-prod(shape) // 16) * 16 for name, shape in maps.items()}


@settings(max_examples=60)
@given(cases())
@example((PRESETS["resnet20"], CIFAR10))
def test_memory_is_that_of_the_worst_operator(case: tuple[Architecture, ImageInput]) -> None:
    operators, sizes = on_a_device(*case)
    made = {"image": 0, **{op.output: i for i, op in enumerate(operators)}}
    used = {name: i for i, op in enumerate(operators) for name in (op.output, *op.inputs)}
    live = [
        sum(sizes[name] for name in used if made[name] <= i <= used[name])
        for i in range(len(operators))
    ]
    cost = count(*case)
    assert cost.peak_ram == max(live)
    working = max(tensors + op.scratch for tensors, op in zip(live, operators, strict=True))
    here = count(*case, scratch=False)
    assert here.peak_ram == cost.peak_ram
    assert here.flash == cost.flash
    assert cost.arena - here.arena <= working - max(live)
    assert cost.arena > working
    weights = sum(p.numel() for p in build(*case).parameters() if p.dim() > 1)
    assert weights < cost.flash < 1.001 * weights + 8_000 * len(operators)


MEMORY = {  # peak of live tensors of 32x32 images, in three maps of the first stage
    "resnet20": 3 * 16 * 32 * 32,
    "resnet10": 3 * 64 * 32 * 32,
}


@pytest.mark.parametrize(("name", "peak"), MEMORY.items())
def test_presets_have_their_known_memory(name: str, peak: int) -> None:
    assert count(PRESETS[name], CIFAR10).peak_ram == peak


def test_the_worked_example_adds_up() -> None:
    page = (ROOT / "docs/counting.md").read_text(encoding="utf-8")
    example = page.partition("## Worked example")[2]
    design = PRESETS["flexres22-2"]
    assert str(design) in example
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in example.splitlines()]
    parts = {
        row[0]: row[1:] for row in cells if len(row) == 6 and row[5].replace(",", "").isdigit()
    }
    total = count(design, CIFAR10)
    said = parts.pop("sum")
    assert said[-2:] == [f"{total.parameters:,}", f"{total.mult_adds:,}"]
    layers = [layer for layer in layer_table(design, CIFAR10) if layer.parameters]
    names = {
        "stem": "stem.",
        **{f"stage {i + 1}": f"stages.{i}." for i in range(4)},
        "head": "head",
    }
    assert parts.keys() == names.keys()
    for part, (size, convolutions, others, parameters, mult_adds) in parts.items():
        own = [layer for layer in layers if layer.name.startswith(names[part])]
        weights, rest = calculated(convolutions), calculated(others)
        assert weights == sum(layer.parameters for layer in own if layer.kind == "conv")
        assert rest == sum(layer.parameters for layer in own if layer.kind != "conv")
        height, width = map(int, size.split("x"))
        assert f"{weights + rest:,}" == parameters
        assert f"{weights * height * width + rest:,}" == mult_adds
        assert sum(layer.mult_adds for layer in own) == weights * height * width + rest


def calculated(cell: str) -> int:
    """The value of arithmetic such as `9*(3 + 1)`, in back-ticks."""
    assert re.fullmatch(r"`[\d+*() ]+`", cell)
    value: int = eval(cell.strip("`"))
    return value
