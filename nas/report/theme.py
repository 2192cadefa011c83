"""How figures look: the plotly template of all of them, their axes and the marks of trials.

Plotly has no types. Figures carry no background, and the page restyles text and grid for light and
dark, so the colours of marks must read on both. They are told apart by shape and line too, not by
hue alone.
"""

import base64
import functools
import gzip
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from nas.report.words import TRAINED
from nas.runtime import signals

_COLOURS = {  # light, dark
    "page": ("#f6f7f9", "#12161b"),
    "card": ("#ffffff", "#1a2027"),
    "text": ("#1b2129", "#e8ebef"),
    "soft": ("#59626e", "#a3acb8"),
    "line": ("#dfe3e8", "#2e3742"),
    "grid": ("#e4e7ec", "#303944"),
    "accent": ("#0b64ad", "#79b8f2"),
    "warn": ("#fff4dc", "#35290f"),
    "warn-line": ("#d98a00", "#e0a030"),
    "warn-text": ("#573a00", "#ffe2a8"),
}
PALETTES = {
    theme: {part: pair[i] for part, pair in _COLOURS.items()}
    for i, theme in enumerate(("light", "dark"))
}
"""The page's colours by theme: its CSS variables, and what its script gives to the figures."""

BLUE = "#3d8fd1"
ORANGE = "#dd6b10"
GREEN = "#2f9e62"
VIOLET = "#a259d9"
GREY = "#868e99"
PALE = "rgba(134,142,153,.4)"
PALER = "rgba(134,142,153,.15)"
TEXT = "#767c86"

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_AXIS = {
    "gridcolor": "rgba(128,128,128,.25)",
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 12},
}
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 13, "color": TEXT},
        "margin": {"l": 12, "r": 16, "t": 12, "b": 12},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "tracegroupgap": 0},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "#20262e",
            "bordercolor": "#20262e",
            "font": {"color": "#ffffff", "family": _FONT, "size": 13},
            "align": "left",
        },
        "dragmode": False,  # a finger on a figure scrolls the page
    }
)


@functools.cache
def plotly_js() -> Markup:
    """The drawing library, 4.8 MB, as gzip in base64, 2.0 MB: the page's script unpacks it."""
    packed = gzip.compress(get_plotlyjs().encode(), mtime=0)  # the same bytes at any time
    return Markup(base64.b64encode(packed).decode())


def figure_json(figure: go.Figure) -> Markup:
    """The figure as JSON that is safe inside a script element.

    No `<`, `>` or `/` is left, and no character that ends a line for a script alone.

    Raises:
        KeyboardInterrupt: a signal came before.
    """
    signals.check()
    text: str = figure.to_json()
    for character in "<>/\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def empty_figure(x: str, y: str, **layout: Any) -> go.Figure:
    """A figure without marks, with the titles of its axes."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return go.Figure(layout={"template": TEMPLATE, **axes, **layout})


def empty_panels(rows: int, columns: int, **places: Any) -> go.Figure:
    """A figure of several panels without marks."""
    figure = make_subplots(rows=rows, cols=columns, **places)
    return figure.update_layout(template=TEMPLATE, showlegend=False, font={"size": 12})


def accuracy_axis(values: Sequence[float]) -> dict[str, Any]:
    """An axis of accuracies: these with some room around, none of it outside 0..1 but for marks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.02, 0.06 * (high - low))
    return {"range": [max(-0.02, low - room), min(1.02, high + room)], "tickformat": ".2~%"}


def whole_axis(values: Sequence[int]) -> dict[str, Any]:
    """An axis of whole numbers: no tick between two of them."""
    low, high = min(values, default=0), max(values, default=0)
    room = max(0.5, 0.03 * (high - low))
    axis: dict[str, Any] = {"range": [low - room, high + room], "nticks": 10}
    if high - low < 10:
        axis |= {"dtick": 1, "tick0": 0}
    return axis


def add_dots(figure: go.Figure, trials: pd.DataFrame, x: str, outcome: str) -> None:
    """Adds a dot for each of the trials with this outcome: accuracy against a column."""
    shown = trials[trials["outcome"] == outcome]
    faded = outcome != TRAINED
    figure.add_scatter(
        x=shown[x].tolist(),
        y=rounded(shown["val_accuracy"]),
        name=outcome,
        mode="markers",
        marker={
            "color": GREY if faded else BLUE,
            "size": 8 if faded else 9,
            "symbol": "circle-open" if faded else "circle",
            "opacity": 0.8 if faded else 0.95,
        },
        **hover(shown, x, outcome),
    )


def hover(trials: pd.DataFrame, x: str, outcome: str) -> dict[str, Any]:
    """What a pointer shows; of each trial only what x and y do not say, since there may be many."""
    number, size = ("%{x}", "") if x == "number" else ("%{customdata}", ", %{x:,} parameters")
    return {
        "customdata": None if x == "number" else trials["number"].tolist(),
        "hovertext": [two_lines(design) for design in trials["design"]],
        "hovertemplate": f"trial {number}, {plain(outcome)}{size}<br>"
        "validation accuracy %{y:.2%}<br>%{hovertext}<extra></extra>",
    }


def two_lines(design: Any) -> str:
    """A design in two lines, since a phone is narrow."""
    return plain("design unknown" if pd.isna(design) else design).replace(" F", "<br>F")


def plain(text: object) -> str:
    """A text in a figure, where plotly reads some HTML; it shows quotes as they are."""
    return escape(str(text), quote=False)


def rounded(values: pd.Series) -> list[float]:
    """Accuracies to six decimals: all that can be seen, in half the characters."""
    return [round(value, 6) for value in values.tolist()]
