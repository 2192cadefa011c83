import json
import random
import re
from dataclasses import FrozenInstanceError, asdict, fields
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nas.architecture import Architecture, ImageInput
from nas.counting import COSTS, LIMITED, Count, count
from nas.model import ResNet, build
from nas.space import Limits, SearchSpace, default_space, load_space

CIFAR10 = ImageInput(channels=3, height=32, width=32, classes=10)
NO_LIMIT = Limits(max_parameters=10**12)
TINY = SearchSpace(
    input=ImageInput(channels=1, height=6, width=5, classes=3),
    stages=(1, 2),
    blocks=((1, 2), (1,)),
    channels=((2, 3), (2, 4)),
    kernels=((1, 3), (3,)),
    shortcut_kernels=((1,), (1, 3)),
    pool=(2, 3, 5),
)


def sized(parameters: int, mult_adds: int) -> Count:
    """Costs of which only these matter."""
    return Count(parameters, mult_adds, activations=1, peak_ram=1, arena=1, flash=1)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """A space of at most some hundred designs."""
    input = ImageInput(
        channels=draw(st.integers(1, 3)),
        height=draw(st.integers(4, 16)),
        width=draw(st.integers(4, 16)),
        classes=draw(st.integers(1, 5)),
    )
    stages = draw(st.sampled_from(((1,), (2,), (3,), (1, 2), (1, 3))))

    def choices(*values: int, most: int = 2) -> tuple[tuple[int, ...], ...]:
        lists = st.lists(st.sampled_from(values), min_size=1, max_size=most)
        return tuple(tuple(draw(lists)) for _ in range(stages[-1]))

    return SearchSpace(
        input=input,
        stages=stages,
        blocks=choices(1, 2, 4, most=1 if stages[-1] > 2 else 2),
        channels=choices(1, 2, 3, 8),
        kernels=choices(1, 3, 5),
        shortcut_kernels=choices(1, 3, 5, most=1 if stages[-1] > 2 else 2),
        pool=(1, *draw(st.lists(st.integers(1, 16), max_size=2))),
    )


def all_designs(space: SearchSpace) -> list[Architecture]:
    """Every design of a space, by going through all combinations."""
    found = []
    for stages in space.stages:
        kernels = [(1,), *space.shortcut_kernels[1:stages]]  # stage 1 has no projection
        for blocks, channels, fs, ks, pool in product(
            product(*space.blocks[:stages]),
            product(*space.channels[:stages]),
            product(*space.kernels[:stages]),
            product(*kernels),
            space.pool,
        ):
            design = Architecture(
                blocks=blocks, channels=channels, kernels=fs, shortcut_kernels=ks, pool=pool
            )
            try:
                count(design, space.input)
            except ValueError:  # the pool does not fit
                continue
            found.append(design)
    return found


@st.composite
def limited_spaces(draw: st.DrawFn) -> tuple[SearchSpace, Limits, list[Architecture]]:
    """A space, limits near the cost of some design, and the designs within them."""
    space = draw(spaces())
    designs = all_designs(space)
    near = st.integers(-1, 1)
    cost = count(draw(st.sampled_from(designs)), space.input)
    other = count(draw(st.sampled_from(designs)), space.input)
    limits = Limits(
        max_parameters=max(1, cost.parameters + draw(near)),
        max_mult_adds=draw(st.sampled_from((None, max(1, other.mult_adds + draw(near))))),
    )
    return space, limits, [a for a in designs if limits.allow(count(a, space.input))]


@given(spaces(), st.data())
def test_no_cost_falls_as_a_choice_grows(space: SearchSpace, data: st.DataObject) -> None:
    """What the smallest completion of a partial design relies on; P works the other way."""
    stages = data.draw(st.sampled_from(space.stages))
    variables = space.variables(stages)
    values = {v.name: data.draw(st.sampled_from(v.by_cost)) for v in variables}
    smaller = asdict(count(space.architecture(stages, values), space.input))
    for variable in variables:
        larger = variable.by_cost[-1]
        cost = asdict(
            count(space.architecture(stages, {**values, variable.name: larger}), space.input)
        )
        assert all(cost[name] >= smaller[name] for name in cost)


def space_file(directory: Path, text: str | bytes) -> Path:
    path = directory / "space.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Limits


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(-2, 2))
def test_limits_allow_what_is_not_above_them(parameters: int, mult_adds: int, off: int) -> None:
    cost = sized(parameters, mult_adds)
    assert Limits(max_parameters=parameters).allow(cost)
    limits = Limits(max_parameters=max(1, parameters + off))
    assert limits.allow(cost) == (parameters <= limits["parameters"])
    limits = Limits(max_parameters=parameters, max_mult_adds=max(1, mult_adds + off))
    assert limits.allow(cost) == (mult_adds <= limits["mult_adds"])


@given(
    st.builds(Count, *[st.integers(1, 10**18)] * len(fields(Count))),
    st.fixed_dictionaries(
        {}, optional={cost.maximum: st.integers(1, 10**18) for cost in LIMITED.values()}
    ),
)
def test_limits_allow_what_exceeds_none_of_them(cost: Count, maxima: dict[str, int]) -> None:
    limits = Limits(**maxima)
    assert {COSTS[name].maximum: most for name, most in limits.items()} == maxima
    assert limits.allow(cost) == all(excess <= 0 for excess in limits.excess(cost).values())
    assert limits.allow(cost) == all(getattr(cost, name) <= most for name, most in limits.items())


def test_excess_is_a_share_of_the_limit() -> None:
    limits = Limits(max_parameters=100, max_mult_adds=1000)
    assert limits.excess(sized(150, 1000)) == pytest.approx({"parameters": 0.5, "mult_adds": 0})
    assert limits.excess(sized(100, 500)) == pytest.approx({"parameters": 0, "mult_adds": -0.5})
    assert not limits.allow(sized(150, 1000))
    assert not limits.allow(sized(100, 1001))
    assert limits.allow(sized(100, 1000))
    assert Limits(max_parameters=100).excess(sized(50, 10**9)) == {"parameters": -0.5}


@pytest.mark.parametrize("value", [0, -5])
def test_limit_below_1_is_refused(value: int) -> None:
    said = f"must be a whole number of at least 1, got {value}$"
    with pytest.raises(ValueError, match=rf"^max_parameters {said}"):
        Limits(max_parameters=value)
    with pytest.raises(ValueError, match=rf"^max_mult_adds {said}"):
        Limits(max_parameters=1, max_mult_adds=value)


def test_limits_are_equal_as_mappings_are() -> None:
    limits = Limits(max_parameters=5)
    assert limits == {"parameters": 5} == limits
    assert limits == Limits(max_parameters=5)
    assert hash(limits) == hash(Limits(max_parameters=5))
    assert limits != {"mult_adds": 5}
    assert limits != Limits(max_mult_adds=5)
    assert limits != Limits(max_parameters=5, max_mult_adds=5)


# Designs of a space, against all combinations


@given(spaces())
def test_smallest_has_the_fewest_parameters(space: SearchSpace) -> None:
    fewest = min(count(a, space.input).parameters for a in all_designs(space))
    assert count(space.smallest(), space.input).parameters == fewest


@given(limited_spaces())
def test_smallest_within_limits_has_the_fewest_parameters_there(
    case: tuple[SearchSpace, Limits, list[Architecture]],
) -> None:
    space, limits, expected = case
    smallest = count(space.smallest(limits), space.input)
    assert limits.allow(smallest) == bool(expected)
    fewest = min(count(a, space.input).parameters for a in expected or all_designs(space))
    assert smallest.parameters == fewest


@given(limited_spaces())
def test_designs_are_all_that_are_within_the_limits_each_once(
    case: tuple[SearchSpace, Limits, list[Architecture]],
) -> None:
    space, limits, expected = case
    keys = [space.architecture(*found).key for found in space.designs(limits)]
    assert len(keys) == len(set(keys))
    assert set(keys) == {a.key for a in expected}


@given(limited_spaces(), st.integers(0, 2**32))
def test_draw_is_within_the_limits(
    case: tuple[SearchSpace, Limits, list[Architecture]], seed: int
) -> None:
    space, limits, expected = case
    rng = random.Random(seed)
    if not expected:
        with pytest.raises(ValueError, match="no design of the space is within the limits"):
            space.draw(limits, rng)
        return
    for _ in range(5):
        stages, values = space.draw(limits, rng)
        design = space.architecture(stages, values)
        assert design in expected
        for variable in space.variables(stages):
            assert values[variable.name] in variable.choices
    same = [space.draw(limits, random.Random(seed)) for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_draw_reaches_every_design_within_the_limits(share: float) -> None:
    costs = sorted(count(a, TINY.input).parameters for a in all_designs(TINY))
    limits = Limits(max_parameters=costs[int(share * (len(costs) - 1))])
    expected = {a.key for a in all_designs(TINY) if limits.allow(count(a, TINY.input))}
    rng = random.Random(0)
    drawn = {TINY.architecture(*TINY.draw(limits, rng)).key for _ in range(2000)}
    assert drawn == expected
    assert len(expected) > 3


@given(spaces())
@example(TINY)  # other pools fit after one stage than after two
def test_a_variable_name_stands_for_one_list_of_choices(space: SearchSpace) -> None:
    choices: dict[str, tuple[int, ...]] = {}
    for stages in space.stages:
        variables = space.variables(stages)
        assert len({variable.name for variable in variables}) == len(variables)
        for variable in variables:
            assert choices.setdefault(variable.name, variable.choices) == variable.choices


# Validity


def test_choices_are_ascending_and_distinct() -> None:
    space = SearchSpace(
        input=CIFAR10,
        stages=(2, 1, 2),
        blocks=((3, 1, 3), (2,)),
        channels=((8,), (16, 8)),
        kernels=((5, 3), (3,)),
        shortcut_kernels=((1,), (1,)),
        pool=(8, 4),
    )
    assert space.stages == (1, 2)
    assert space.blocks == ((1, 3), (2,))
    assert space.channels == ((8,), (8, 16))
    assert space.kernels == ((3, 5), (3,))
    assert space.pool == (4, 8)
    with pytest.raises(FrozenInstanceError):
        space.pool = (1,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (1, 1),
        (2, 2),
        (3, 5),
        (8, 8),
        (13, 200),
        (15, 15),
        (16, 16),
        (28, 28),
        (32, 32),
        (47, 33),
        (64, 64),
        (96, 96),
        (224, 224),
        (500, 375),
    ],
)
def test_default_space_serves_every_image_size(height: int, width: int) -> None:
    input = ImageInput(channels=3, height=height, width=width, classes=10)
    space = default_space(input)
    side = min(height, width)
    least = 1 if side == 1 else 2 if side < 16 else 4
    for stages in space.stages:
        assert least <= -(-side // 2 ** (stages - 1)) <= 8
    rng = random.Random(height * width)
    for _ in range(20):
        stages, values = space.draw(NO_LIMIT, rng)
        design = space.architecture(stages, values)
        with torch.device("meta"):
            model = ResNet(design, input)
        assert sum(p.numel() for p in model.parameters()) == count(design, input).parameters

    smallest = space.smallest()
    few = Limits(max_parameters=2 * count(smallest, input).parameters)
    drawn = space.architecture(*space.draw(few, rng))
    for design in (smallest, drawn):
        logits = build(design, input).eval()(torch.zeros(1, 3, height, width))
        assert logits.shape == (1, 10)


def test_default_space_of_cifar10_holds_networks_of_the_budget() -> None:
    space = default_space(CIFAR10)
    assert space.stages == (3, 4)
    assert {4, 8} <= set(space.pool)
    budget = Limits(max_parameters=5_000_000)
    assert budget.allow(count(space.smallest(), CIFAR10))
    stages, values = space.draw(budget, random.Random(0))
    assert budget.allow(count(space.architecture(stages, values), CIFAR10))


@given(spaces())
def test_to_dict_survives_json(space: SearchSpace) -> None:
    values = space.to_dict()
    read = json.loads(json.dumps(values))
    assert read == values
    assert SearchSpace(input=space.input, **read) == space
    assert SearchSpace(input=space.input, **read).to_dict() == values


# TOML


def test_file_with_everything(tmp_path: Path) -> None:
    path = space_file(
        tmp_path,
        """
        stages = [2, 3]
        blocks = [1, 2]                                       # serves all stages
        channels = [{low = 16, high = 32, step = 8}, [64, 32], 128]
        kernels = 3
        shortcut_kernels = [[1], [1, 3], [3]]
        pool = [8, 4]
        """,
    )
    assert load_space(path, CIFAR10) == SearchSpace(
        input=CIFAR10,
        stages=(2, 3),
        blocks=((1, 2), (1, 2), (1, 2)),
        channels=((16, 24, 32), (32, 64), (128,)),
        kernels=((3,), (3,), (3,)),
        shortcut_kernels=((1,), (1, 3), (3,)),
        pool=(4, 8),
    )


def test_empty_file_is_the_default_space(tmp_path: Path) -> None:
    assert load_space(space_file(tmp_path, ""), CIFAR10) == default_space(CIFAR10)


def test_what_a_file_leaves_out_stays_as_it_was(tmp_path: Path) -> None:
    default = default_space(CIFAR10)
    space = load_space(space_file(tmp_path, "blocks = 2"), CIFAR10)
    assert space.blocks == ((2,),) * 4
    assert {**space.to_dict(), "blocks": None} == {**default.to_dict(), "blocks": None}


@pytest.mark.parametrize("stages", ["1", "5", "6", "[1, 6]", "{low = 1, high = 6}"])
def test_other_stages_are_a_space_too(tmp_path: Path, stages: str) -> None:
    space = load_space(space_file(tmp_path, f"stages = {stages}"), CIFAR10)
    for name in ("blocks", "channels", "kernels", "shortcut_kernels"):
        assert len(getattr(space, name)) >= space.stages[-1]
    for _ in range(5):
        design = space.architecture(*space.draw(NO_LIMIT, random.Random(0)))
        assert design.stages in space.stages


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("16", (16,)),
        ("[32, 16, 32]", (16, 32)),
        ("{low = 3, high = 6}", (3, 4, 5, 6)),
        ("{low = 16, high = 40, step = 16}", (16, 32)),
        ("{low = 7, high = 7, step = 16}", (7,)),
    ],
)
def test_one_value_serves_all_stages(tmp_path: Path, value: str, choices: tuple[int, ...]) -> None:
    for text in (f"channels = {value}", f"channels = [{', '.join([value] * 4)}]"):
        space = load_space(space_file(tmp_path, text), CIFAR10)
        assert space.channels == (choices,) * 4


def test_range_may_be_a_toml_table(tmp_path: Path) -> None:
    text = "stages = 2\n[channels]\nlow = 8\nhigh = 16\nstep = 8\n"
    assert load_space(space_file(tmp_path, text), CIFAR10).channels == ((8, 16), (8, 16))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernels = 2", "kernels must be odd, .*got 2"),
        ("kernels = [[3], [3], [3], [3, 4]]", "kernels must be odd, .*got 4"),
        ("kernels = {low = 3, high = 5}", "kernels must be odd, .*got 4"),
        ("shortcut_kernels = [1, 2]", "shortcut_kernels must be odd, .*got 2"),
        ("stem_channels = 16", "expected the keys .*channels.*, got 'stem_channels'"),
        ("Blocks = 1", "expected the keys .*blocks.*, got 'Blocks'"),
        ("channels = {low = 32, high = 16}", "channels must .*empty range low = 32, high = 16"),
        ("channels = {low = 16, high = 32, step = 0}", "channels must .*step = 0"),
        ("channels = {low = 16, high = 32, step = -8}", "channels must .*step = -8"),
        ("channels = {low = 16}", r"channels must be a range like .*got the keys \['low'\]"),
        ("channels = {low = 1, high = 2, by = 1}", "channels must be a range like .*'by'"),
        ("channels = {low = 1.0, high = 2}", r"channels must be a range of whole .*1\.0"),
        ("channels = {low = true, high = 2}", "channels must be a range of whole .*True"),
        ("channels = {low = 0, high = 2}", "channels must be a whole .*got 0"),
        ("blocks = []", "blocks must have at least one choice, got an empty list"),
        ("blocks = [[1], [1], [1], []]", "blocks must have at least one choice"),
        ("stages = []", "stages must have at least one choice"),
        ("pool = []", "pool must have at least one choice"),
        ("pool = 9", r"pool must have a choice in 1\.\.8, .*3 stages.*got \[9\]"),
        ("pool = [5, 8]", r"pool must have a choice in 1\.\.4, .*4 stages.*got \[5, 8\]"),
        ("stages = 3\nblocks = [[1], [2]]", "blocks must have one list per stage.* 3, got 2"),
        ("channels = [[8], [8], [8]]", "channels must have one list per stage.* 4, got 3"),
        ("stages = 0", "stages must be a whole number of at least 1, got 0"),
        ("stages = [[2, 3]]", "stages must be a whole number"),
        ("blocks = -1", "blocks must be a whole number of at least 1, got -1"),
        ("blocks = 1.0", r"blocks must be a whole number of at least 1, got 1\.0"),
        ("blocks = [1, true]", "blocks must be a whole number of at least 1, got True"),
        ("blocks = '2'", "blocks must be a whole number of at least 1, got '2'"),
        ("blocks = nan", "blocks must be a whole number of at least 1, got nan"),
        ("blocks = 2026-01-01", "blocks must be a whole number of at least 1, got "),
        ("blocks = [[1], [1], [1], [[1]]]", "blocks must be a whole number"),
        ("blocks = 1\nblocks = 2", "expected a TOML file, got: "),
        ("just words", "expected a TOML file, got: "),
        ('{"blocks": 1}', "expected a TOML file, got: "),
        (b"blocks = 1 # \xff", "expected a TOML file, got: .*utf-8"),
        (b"\x00\x01\x02", "expected a TOML file, got: "),
    ],
)
def test_file_that_is_no_space_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = space_file(tmp_path, text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {words}"):
        load_space(path, CIFAR10)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_space(tmp_path / "nowhere.toml", CIFAR10)
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on the system
        load_space(tmp_path, CIFAR10)
