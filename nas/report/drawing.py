"""A design drawn to scale: an SVG picture, as a pure function of the design.

From left to right as an image goes through it. The height of a box is that of its maps, its width
the number of channels; a block is two boxes, its convolutions, and its shortcut an arc above them:
a plain line for an identity, a dashed one for a projection. Below is where the parameters sit.
Colours are the page's, by its CSS variables, so that the picture is right in light and dark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nas.architecture import Architecture, ImageInput, head_size, stage_sizes
from nas.counting import layer_table
from nas.report.html import html
from nas.text import plural

_HEIGHT = 170.0  # of a map as high as the image
_LEAST_HEIGHT = 5.0
_LEAST_WIDTH = 3.0
_WIDEST = 30.0  # a box, at most
_ROOM = 900.0  # for all boxes together, if no box must be thinner than the least
_SHOWN_BLOCKS = 6  # of a stage; of more, the last gives way to "+ 5 more"
_GAP = 6.0  # between blocks
_MORE = 84.0  # for the words about the blocks that are not drawn
_COLUMN = 104.0  # of a stage, at least: its words are as wide
_MARGIN = 16.0
_TOP = 64.0  # for arcs and what is above them
_LIFT = 20.0
_LINE = 17.0
_CHARACTER = 7.4  # width, of a text of 13 pixels; rather too much
_BAR = 22.0

_TEXT = "fill:var(--text,#1b2129)"
_SOFT = "fill:var(--soft,#59626e)"
_BOX = "fill:var(--accent,#0b64ad);fill-opacity:.22;stroke:var(--accent,#0b64ad);stroke-width:1"
_PLAIN_BOX = "fill:var(--soft,#59626e);fill-opacity:.16;stroke:var(--soft,#59626e);stroke-width:1"
_ARC = "fill:none;stroke:var(--text,#1b2129);stroke-width:1.4"
_DASHED_ARC = "fill:none;stroke:var(--warn-line,#d98a00);stroke-width:2;stroke-dasharray:5 3"
_AXIS = "stroke:var(--soft,#59626e);stroke-width:1;stroke-dasharray:2 4"
_FONT = "font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"

_Element = tuple[str, dict[str, Any], str]  # of SVG: its name, attributes and text


@dataclass(frozen=True, slots=True)
class _Column:
    """One part of the network, with its words below it."""

    words: Sequence[str]  # the first is its name
    share: float | None  # of the parameters; None: it has none
    boxes: Sequence[tuple[float, float]]  # width and height of each
    is_stage: bool = False
    hidden_blocks: int = 0
    projection: int = 0  # kernel of the first block's shortcut, 0 for an identity

    @property
    def content(self) -> float:
        """Width of the boxes."""
        gaps = _GAP * (len(self.boxes) // 2 - 1) if self.is_stage else 0.0
        more = _MORE if self.hidden_blocks else 0.0
        return sum(width for width, _ in self.boxes) + gaps + more

    @property
    def width(self) -> float:
        """Width of boxes or words, whichever is wider."""
        longest = max((len(line) for line in self.words), default=0) * _CHARACTER
        return max(self.content, longest, _COLUMN if self.is_stage else 0.0) + 14.0


def draw(architecture: Architecture, input: ImageInput, description: str) -> Markup:
    """The picture as an SVG element, to stand in a page.

    Args:
        architecture: the design.
        input: the images it reads.
        description: the design in words, for those who hear the page.

    Raises:
        ValueError: the design cannot read such images.
    """
    columns = list(_columns(architecture, input))
    width = sum(column.width for column in columns) + 2 * _MARGIN
    lines = max(len(column.words) for column in columns)
    words_y = _TOP + _HEIGHT + 26.0
    bar_y = words_y + lines * _LINE + 22.0
    height = bar_y + _BAR + 2 * _LINE
    middle = _TOP + _HEIGHT / 2
    axis = {"x1": _MARGIN, "y1": middle, "x2": _number(width - _MARGIN), "y2": middle}
    drawn: list[_Element] = [("line", {**axis, "style": _AXIS}, "")]
    x = _MARGIN
    for column in columns:
        drawn += _drawn(column, x, middle, words_y)
        x += column.width
    drawn += _bar(columns, width, bar_y)
    return html(
        "drawing.svg",
        width=_number(width),
        height=_number(height),
        style=_FONT,
        description=description,
        drawn=drawn,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What the layers of a part cost together."""

    parameters: int = 0
    mult_adds: int = 0


def parts(architecture: Architecture, input: ImageInput) -> dict[str, Part]:
    """What each part costs: `stem`, `stage 1`, ..., `head`.

    Raises:
        ValueError: the design cannot read such images.
    """
    found: dict[str, Part] = {}
    for layer in layer_table(architecture, input):
        place = layer.name.split(".")
        part = f"stage {int(place[1]) + 1}" if place[0] == "stages" else place[0]
        so_far = found.get(part, Part())
        found[part] = Part(so_far.parameters + layer.parameters, so_far.mult_adds + layer.mult_adds)
    del found["pool"]  # it costs nothing
    return found


def _columns(a: Architecture, input: ImageInput) -> Iterator[_Column]:
    costs = parts(a, input)
    total = sum(cost.parameters for cost in costs.values())
    shares = {part: cost.parameters / total for part, cost in costs.items()}
    scale = _HEIGHT / input.height
    shown = [min(b, _SHOWN_BLOCKS) - (b > _SHOWN_BLOCKS) for b in a.blocks]
    channels = a.stem_channels + sum(2 * b * c for b, c in zip(shown, a.channels, strict=True))
    per_channel = min(_WIDEST / max(*a.channels, a.stem_channels), _ROOM / channels)

    def box(channels: int, height: int) -> tuple[float, float]:
        return max(_LEAST_WIDTH, channels * per_channel), max(_LEAST_HEIGHT, height * scale)

    image = [(max(_LEAST_WIDTH, input.channels * per_channel), _HEIGHT)]
    size = f"{input.height}x{input.width}"
    yield _Column(("image", size, plural(input.channels, "channel")), None, image)
    yield _Column(
        ("stem", size, plural(a.stem_channels, "channel"), "conv 3x3"),
        shares["stem"],
        [box(a.stem_channels, input.height)],
    )
    for i, (height, width) in enumerate(stage_sizes(a, input)):
        kernel, shortcut = a.kernels[i], a.shortcut_kernels[i]
        yield _Column(
            (
                f"stage {i + 1}",
                f"{height}x{width}",
                plural(a.channels[i], "channel"),
                plural(a.blocks[i], "block"),
                f"convs {kernel}x{kernel}",
            ),
            shares[f"stage {i + 1}"],
            [box(a.channels[i], height)] * (2 * shown[i]),
            is_stage=True,
            hidden_blocks=a.blocks[i] - shown[i],
            projection=shortcut if a.projections[i] else 0,
        )
    height, width = head_size(a, input)
    pooled = (f"pool {a.pool}x{a.pool}", f"{height}x{width}", plural(a.channels[-1], "channel"))
    yield _Column(pooled, None, [box(a.channels[-1], height)])
    features = a.channels[-1] * height * width
    yield _Column(
        ("head", plural(features, "input"), plural(input.classes, "class", "classes")),
        shares["head"],
        [(10.0, 60.0)],
    )


def _drawn(column: _Column, left: float, middle: float, words_y: float) -> Iterator[_Element]:
    centre = left + column.width / 2
    x = centre - column.content / 2
    starts = []
    style = _BOX if column.is_stage else _PLAIN_BOX
    for i, (width, height) in enumerate(column.boxes):
        starts.append((x, width, height))
        yield _rect(x, middle - height / 2, width, height, style)
        # The two convolutions of a block touch.
        x += width + (_GAP if i % 2 else 0.0)
    if column.is_stage:
        for block, ((start, _, height), (second, width, _)) in enumerate(
            zip(starts[::2], starts[1::2], strict=True)
        ):
            yield from _arc(
                start, second + width, middle - height / 2, column.projection if block == 0 else 0
            )
    if column.hidden_blocks:
        yield _text(x + (_MORE - _GAP) / 2, middle - 8.0, f"+ {column.hidden_blocks} more")
    for i, line in enumerate(column.words):
        yield _text(centre, words_y + i * _LINE, line, bold=i == 0, soft=i > 0)


def _arc(start: float, end: float, top: float, projection: int) -> Iterator[_Element]:
    """A shortcut from the left edge of a block to its right edge, above it."""
    points = f"M{_number(start)} {_number(top)} C{_number(start)} {_number(top - _LIFT)} "
    points += f"{_number(end)} {_number(top - _LIFT)} {_number(end)} {_number(top)}"
    yield "path", {"d": points, "style": _DASHED_ARC if projection else _ARC}, ""
    if projection:
        yield _text((start + end) / 2, top - _LIFT, f"{projection}x{projection}")


def _bar(columns: Sequence[_Column], width: float, y: float) -> Iterator[_Element]:
    place = {"x": _MARGIN, "y": _number(y - 7), "style": _SOFT}
    yield "text", place, "Where the parameters sit"
    x, room = _MARGIN, width - 2 * _MARGIN
    for column in (c for c in columns if c.share is not None):
        length = room * (column.share or 0.0)
        yield _rect(x, y, length, _BAR, _BOX if column.is_stage else _PLAIN_BOX)
        label = f"{column.words[0]} {column.share:.0%}"
        for text in (label, f"{column.share:.0%}"):
            if len(text) * _CHARACTER < length - 6:
                yield _text(x + length / 2, y + 15.5, text)
                break
        x += length


def _rect(x: float, y: float, width: float, height: float, style: str) -> _Element:
    box = {"x": x, "y": y, "width": width, "height": height}
    return "rect", {**{name: _number(value) for name, value in box.items()}, "style": style}, ""


def _text(x: float, y: float, text: str, *, bold: bool = False, soft: bool = False) -> _Element:
    style = (_SOFT if soft else _TEXT) + (";font-weight:650" if bold else "")
    place = {"x": _number(x), "y": _number(y), "text-anchor": "middle", "style": style}
    return "text", place, text


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
