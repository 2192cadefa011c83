import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import PRESETS, Architecture, ImageInput, stage_sizes
from nas.counting import count
from nas.report.drawing import draw, parts

CIFAR = ImageInput(channels=3, height=32, width=32, classes=10)
EVIL = "<script>alert(1)</script>&\"'"


@st.composite
def designs(draw_: st.DrawFn) -> tuple[Architecture, ImageInput]:
    stages = draw_(st.integers(1, 6))
    side = st.integers(1, 64)
    image = ImageInput(
        channels=draw_(st.integers(1, 4)),
        height=draw_(side),
        width=draw_(side),
        classes=draw_(st.integers(1, 2_000)),
    )

    def each(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw_(st.lists(values, min_size=stages, max_size=stages)))

    odd = st.sampled_from([1, 3, 5, 7])
    design = Architecture(
        blocks=each(st.integers(1, 40)),
        channels=each(st.integers(1, 4_096)),
        kernels=each(odd),
        shortcut_kernels=each(odd),
        pool=1,
        strides=each(st.integers(1, 3)),
        stem_channels=draw_(st.integers(1, 256)),
    )
    return design, image


def drawn(
    architecture: Architecture, image: ImageInput, words: str = "words"
) -> ElementTree.Element:
    return ElementTree.fromstring(draw(architecture, image, words))


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


def points(picture: ElementTree.Element) -> list[tuple[float, float]]:
    """Every corner, end and control point."""
    found = []
    for rect in picture.iter("rect"):
        x, y, width, height = numbers(rect, "x", "y", "width", "height")
        assert width > 0 or height > 0
        found += [(x, y), (x + width, y + height)]
    for line in picture.iter("line"):
        x1, y1, x2, y2 = numbers(line, "x1", "y1", "x2", "y2")
        found += [(x1, y1), (x2, y2)]
    for path in picture.iter("path"):
        values = [float(n) for n in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
        found += list(zip(values[::2], values[1::2], strict=True))
    for text in picture.iter("text"):
        x, y = numbers(text, "x", "y")
        half = 3.5 * len(text.text or "") if text.get("text-anchor") == "middle" else 0
        found += [(x - half, y - 12), (x + half, y + 3)]
    return found


def check_inside(picture: ElementTree.Element) -> None:
    left, top, width, height = map(float, picture.attrib["viewBox"].split())
    room = 0.11  # numbers are rounded
    for x, y in points(picture):
        assert left - room <= x <= left + width + room
        assert top - room <= y <= top + height + room


@settings(max_examples=60)
@given(designs())
def test_all_is_inside_for_any_design(design: tuple[Architecture, ImageInput]) -> None:
    picture = drawn(*design)
    check_inside(picture)
    words = [text.text for text in picture.iter("text")]
    assert "nan" not in " ".join(w or "" for w in words)
    assert f"stage {design[0].stages}" in words


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    design = PRESETS[name]
    picture = drawn(design, CIFAR)
    check_inside(picture)
    arcs = list(picture.iter("path"))
    assert len(arcs) == sum(design.blocks)
    dashed = [arc for arc in arcs if "dasharray" in arc.attrib["style"]]
    assert len(dashed) == sum(design.projections)
    # image, stem, two convolutions a block, pool, head; and the bar
    assert len(list(picture.iter("rect"))) == 4 + 2 * sum(design.blocks) + design.stages + 2


def test_heights_and_widths_are_to_scale() -> None:
    design = PRESETS["resnet18"]
    boxes = [numbers(rect, "height", "width") for rect in drawn(design, CIFAR).iter("rect")]
    first = [boxes[2 + 4 * stage] for stage in range(4)]
    for stage, (height, width) in enumerate(first):
        assert height / first[0][0] == pytest.approx(
            stage_sizes(design, CIFAR)[stage][0] / 32, abs=0.01
        )
        assert width / first[3][1] == pytest.approx(design.channels[stage] / 512, abs=0.01)


def test_many_blocks_are_counted_not_drawn() -> None:
    deep = Architecture(blocks=(40,), channels=(8,), kernels=(3,), shortcut_kernels=(1,), pool=1)
    words = [text.text for text in drawn(deep, CIFAR).iter("text")]
    assert "+ 35 more" in words
    assert "40 blocks" in words


def test_is_said_to_those_who_hear_the_page() -> None:
    picture = drawn(PRESETS["resnet20"], CIFAR, EVIL)
    assert picture.attrib["role"] == "img"
    named = picture.attrib["aria-labelledby"].split()
    title, desc = picture[0], picture[1]
    assert (title.tag, desc.tag) == ("title", "desc")
    assert [title.attrib["id"], desc.attrib["id"]] == named
    assert desc.text == EVIL


@pytest.mark.parametrize("name", PRESETS)
def test_parts_add_up_to_the_design(name: str) -> None:
    design = PRESETS[name]
    costs = parts(design, CIFAR)
    assert list(costs) == ["stem", *(f"stage {i + 1}" for i in range(design.stages)), "head"]
    whole = count(design, CIFAR)
    assert sum(cost.parameters for cost in costs.values()) == whole.parameters
    assert sum(cost.mult_adds for cost in costs.values()) == whole.mult_adds


def test_a_design_that_cannot_read_the_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="pool"):
        draw(PRESETS["resnet18"], ImageInput(channels=1, height=8, width=8, classes=10), "")
