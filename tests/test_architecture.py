import re
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import PRESETS, Architecture, ImageInput, head_size, stage_sizes
from nas.counting import Layer, count, layer_table
from nas.model import build

PER_STAGE = ("blocks", "channels", "kernels", "shortcut_kernels", "strides")
IMAGES = ImageInput(channels=3, height=17, width=16, classes=5)  # last map >= 2 after 3 strides


def design(**changes: Any) -> Architecture:
    values: dict[str, Any] = {
        "blocks": (2, 1),
        "channels": (4, 6),
        "kernels": (3, 5),
        "shortcut_kernels": (1, 3),
        "pool": 2,
    }
    return Architecture(**{**values, **changes})


@st.composite
def designs(draw: st.DrawFn) -> Architecture:
    stages = draw(st.integers(1, 3))

    def per_stage(*choices: int) -> tuple[int, ...]:
        return tuple(draw(st.sampled_from(choices)) for _ in range(stages))

    return Architecture(
        blocks=per_stage(1, 2, 3),
        channels=per_stage(2, 3),
        kernels=per_stage(3, 5),
        shortcut_kernels=per_stage(1, 3),
        pool=draw(st.integers(1, 2)),
        strides=per_stage(1, 1, 2),
        stem_channels=draw(st.sampled_from((0, 2, 3))),
        stem_bias=draw(st.booleans()),
        shortcut_norm=draw(st.booleans()),
    )


def split(architecture: Architecture, stage: int, blocks: int, k: int) -> Architecture:
    """The same network, with a stage written as two; the second has this many blocks."""

    def doubled(name: str, value: int) -> tuple[int, ...]:
        values = getattr(architecture, name)
        return (*values[: stage + 1], value, *values[stage + 1 :])

    first = list(architecture.blocks)
    first[stage] -= blocks
    return replace(
        architecture,
        blocks=(*first[: stage + 1], blocks, *first[stage + 1 :]),
        channels=doubled("channels", architecture.channels[stage]),
        kernels=doubled("kernels", architecture.kernels[stage]),
        shortcut_kernels=doubled("shortcut_kernels", k),
        strides=doubled("strides", 1),
    )


@st.composite
def rewritten(draw: st.DrawFn, architecture: Architecture) -> Architecture:
    """Another description of the same network."""
    splittable = [i for i, b in enumerate(architecture.blocks) if b > 1]
    as_two = draw(st.booleans())
    if splittable and as_two:
        stage = draw(st.sampled_from(splittable))
        blocks = draw(st.integers(1, architecture.blocks[stage] - 1))
        architecture = split(architecture, stage, blocks, draw(st.sampled_from((1, 3))))
    return replace(
        architecture,
        shortcut_kernels=tuple(
            k if projection else draw(st.sampled_from((1, 3, 5)))
            for k, projection in zip(
                architecture.shortcut_kernels, architecture.projections, strict=True
            )
        ),
        shortcut_norm=architecture.shortcut_norm
        if any(architecture.projections)
        else draw(st.booleans()),
    )


@st.composite
def neighbours(draw: st.DrawFn, architecture: Architecture) -> Architecture:
    """A description that differs in at most one value, which may be inert."""
    name = draw(st.sampled_from([f.name for f in fields(Architecture)]))
    value = getattr(architecture, name)
    if name in PER_STAGE:
        stage = draw(st.integers(0, architecture.stages - 1))
        choices = (1, 3) if name.endswith("kernels") else (1, 2)
        changed = draw(st.sampled_from(choices))
        value = (*value[:stage], changed, *value[stage + 1 :])
    else:
        value = not value if isinstance(value, bool) else draw(st.integers(1, 2))
    return replace(architecture, **{name: value})


pairs = designs().flatmap(
    lambda a: st.tuples(st.just(a), st.one_of(rewritten(a), neighbours(a), designs()))
)


def network(architecture: Architecture) -> list[tuple[str, Layer]]:
    """Every layer in order: its part in a block, and all of the table but the stage's number."""
    return [
        (re.sub(r"^stages\.\d+\.\d+\.", "", layer.name), replace(layer, name=""))
        for layer in layer_table(architecture, IMAGES)
    ]


# Bad values


@pytest.mark.parametrize("value", [0, -1, True, False, 3.0, 2.5, float("nan"), "3", None])
@pytest.mark.parametrize("field", PER_STAGE)
def test_stage_value_must_be_a_whole_number_of_at_least_1(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got {re.escape(repr(value))}$"):
        design(**{field: (1, value)})


@pytest.mark.parametrize("value", [3, 2.5, True, None, "3,3", "", {3: 3}])
@pytest.mark.parametrize("field", PER_STAGE)
def test_stage_values_must_be_a_list(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got {re.escape(repr(value))}$"):
        design(**{field: value})


@pytest.mark.parametrize("values", [(1,), (1, 1, 1)])
@pytest.mark.parametrize("field", PER_STAGE[1:])
def test_lists_of_different_lengths_are_refused(field: str, values: tuple[int, ...]) -> None:
    listed = ",".join(map(str, values))
    message = rf"^{field} must .*blocks=2,1, got {len(values)} \({listed}\)$"
    with pytest.raises(ValueError, match=message):
        design(**{field: values})


def test_blocks_of_another_length_than_the_rest_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^channels must .*blocks=1,1,1, got 2 \(4,6\)$"):
        design(blocks=(1, 1, 1))


@pytest.mark.parametrize("field", PER_STAGE[:-1])
def test_empty_lists_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got (an empty list|0 )"):
        design(**{field: ()})


def test_no_stage_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one stage"):
        Architecture(blocks=(), channels=(), kernels=(), shortcut_kernels=(), pool=1)


@pytest.mark.parametrize("value", [2, 4, 100])
@pytest.mark.parametrize("field", ["kernels", "shortcut_kernels"])
def test_even_kernels_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be odd, .*got {value}$"):
        design(**{field: (3, value)})


@pytest.mark.parametrize("value", [-1, True, False, 0.0, 2.0, "2", None, (2,)])
@pytest.mark.parametrize("field", ["pool", "stem_channels"])
def test_single_value_must_be_a_whole_number_of_at_least_1(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got {re.escape(repr(value))}$"):
        design(**{field: value})


def test_pool_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pool must .*got 0$"):
        design(pool=0)


@pytest.mark.parametrize("value", [0, 1, "yes", None])
@pytest.mark.parametrize("field", ["stem_bias", "shortcut_norm"])
def test_switch_must_be_true_or_false(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got {re.escape(repr(value))}$"):
        design(**{field: value})


@pytest.mark.parametrize("value", [0, -3, True, 3.0, "3", None])
@pytest.mark.parametrize("field", ["channels", "height", "width", "classes"])
def test_image_input_must_be_whole_numbers_of_at_least_1(field: str, value: object) -> None:
    values: dict[str, Any] = {"channels": 3, "height": 8, "width": 8, "classes": 10}
    with pytest.raises(ValueError, match=rf"^{field} must .*got {re.escape(repr(value))}$"):
        ImageInput(**{**values, field: value})


# Values


def test_defaults_give_the_plain_network() -> None:
    for blocks, strides in (((1,), (1,)), ((1, 1), (1, 2)), ((1,) * 4, (1, 2, 2, 2))):
        stages = len(blocks)
        plain = Architecture(
            blocks=blocks,
            channels=(7,) * stages,
            kernels=(3,) * stages,
            shortcut_kernels=(1,) * stages,
            pool=1,
        )
        assert plain.strides == strides
        assert plain.stem_channels == 7
        assert plain.stem_bias is False
        assert plain.shortcut_norm is True
        assert plain == replace(plain, strides=strides, stem_channels=7)


@pytest.mark.parametrize("value", [design(), IMAGES], ids=["architecture", "image input"])
def test_values_cannot_change(value: Architecture | ImageInput) -> None:
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))
        with pytest.raises(FrozenInstanceError):
            delattr(value, field.name)


def test_lists_are_taken_as_values() -> None:
    blocks = [2, 1]
    from_lists = design(blocks=blocks, channels=[4, 6], strides=[1, 2])
    blocks[0] = 9
    assert from_lists == design()
    assert hash(from_lists) == hash(design())
    assert {from_lists, design(), design(pool=1)} == {design(), design(pool=1)}


def test_projections_are_where_the_shape_changes() -> None:
    assert design(strides=(1, 1)).projections == (False, True)  # channels 4 -> 6
    assert design(channels=(4, 4)).projections == (False, True)  # stride 2
    assert design(channels=(4, 4), strides=(1, 1)).projections == (False, False)
    assert design(strides=(2, 2)).projections == (True, True)
    assert design(stem_channels=3).projections == (True, True)


def test_sizes_round_up_at_strides_and_down_at_the_pool() -> None:
    architecture = design(strides=(1, 3), pool=2)
    assert stage_sizes(architecture, IMAGES) == [(17, 16), (6, 6)]
    assert head_size(architecture, IMAGES) == (3, 3)
    assert head_size(replace(architecture, pool=4), IMAGES) == (1, 1)


def test_design_in_one_line() -> None:
    assert str(PRESETS["resnet12"]) == "B2,1,1,1 C64,128,256,512 F3,3,3,3 K1,1,1,1 P4"
    assert str(PRESETS["resnet18-narrow-stem"]) == (
        "B2,2,2,2 C64,128,256,512 F3,3,3,3 K1,1,1,1 P2 strides2,2,2,2 stem32+bias "
        "shortcuts-without-BN"
    )
    assert str(IMAGES) == "3x17x16, 5 classes"


@given(designs(), designs())
def test_different_designs_are_written_differently(a: Architecture, b: Architecture) -> None:
    assert (str(a) == str(b)) == (a == b)


def test_presets_cannot_change() -> None:
    with pytest.raises(TypeError):
        PRESETS["mine"] = design()  # type: ignore[index]


# The canonical key


def test_shortcut_kernel_of_a_stage_without_projection_is_inert() -> None:
    assert design(shortcut_kernels=(5, 3)).key == design(shortcut_kernels=(1, 3)).key
    assert design(shortcut_kernels=(1, 5)).key != design(shortcut_kernels=(1, 3)).key


def test_stage_that_continues_the_one_before_is_part_of_it() -> None:
    two = design(channels=(4, 4), kernels=(3, 3), strides=(1, 1))
    one = design(
        blocks=(3,), channels=(4,), kernels=(3,), shortcut_kernels=(5,), strides=(1,), pool=2
    )
    assert two.key == one.key
    for changes in ({"kernels": (3, 5)}, {"strides": (1, 2)}, {"channels": (4, 5)}):
        assert replace(two, **changes).key != one.key  # type: ignore[arg-type]


def test_shortcut_norm_without_projections_is_inert() -> None:
    still = design(channels=(4, 4), strides=(1, 1))
    assert still.key == replace(still, shortcut_norm=False).key
    assert design().key != design(shortcut_norm=False).key


@given(designs())
def test_canonical_is_a_fixed_point_with_the_same_key(architecture: Architecture) -> None:
    canonical = architecture.canonical()
    assert canonical.canonical() == canonical
    assert canonical.key == architecture.key == str(canonical)


@given(designs().flatmap(lambda a: st.tuples(st.just(a), rewritten(a))))
def test_descriptions_of_one_network_have_one_key(
    pair: tuple[Architecture, Architecture],
) -> None:
    architecture, other = pair
    assert architecture.key == other.key
    assert architecture.canonical() == other.canonical()
    assert count(architecture, IMAGES) == count(other, IMAGES)


@settings(max_examples=300)
@given(pairs)
def test_keys_are_equal_exactly_when_the_networks_are(
    pair: tuple[Architecture, Architecture],
) -> None:
    a, b = pair
    assert (a.key == b.key) == (network(a) == network(b))


@settings(max_examples=30)
@given(designs().flatmap(lambda a: st.tuples(st.just(a), rewritten(a))), st.integers(0, 2**32))
def test_descriptions_of_one_network_compute_one_function(
    pair: tuple[Architecture, Architecture], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 17, 16, generator=generator)
    models = [build(a, IMAGES) for a in (pair[0], pair[1], pair[0].canonical())]
    states = [list(model.state_dict().values()) for model in models]
    for values in zip(*states, strict=True):
        if values[0].is_floating_point():
            values[0].uniform_(0.5, 1.5, generator=generator)
        for value in values[1:]:
            assert value.shape == values[0].shape
            value.copy_(values[0])
    with torch.no_grad():
        expected, *others = [model(images) for model in models]  # norms centre: ReLU has work
    for logits in others:
        torch.testing.assert_close(logits, expected)
