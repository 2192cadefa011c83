"""How figures look: the plotly template of all of them, and the marks of trials.

Plotly has no types. Figures carry no background, and the page restyles text and grid for light and
dark, so the colours of marks must read on both. They are told apart by shape and line too, not by
hue alone.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from nas.report.axes import AccuracyAxis, accuracy_axis
from nas.report.html import packed
from nas.report.words import STOPPED, TRAINED
from nas.runtime import signals
from nas.statistics import wilson_interval
from nas.text import plural

_MOST_BARS = 100  # of intervals in a figure; more are one cloud

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
PALE_BLUE = "rgba(61,143,209,.5)"
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
    return Markup(packed(get_plotlyjs().encode()))


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


def add_trials(
    figure: go.Figure, trials: pd.DataFrame, x: str, axis: AccuracyAxis, *, images: int = 0
) -> None:
    """Adds the trials, `compared` as dots and the others as ticks at the bottom.

    Args:
        figure: to be changed.
        trials: `trials_table`, those that were measured.
        x: a column.
        axis: of their accuracies; dots that it does not hold are ticks, too.
        images: that were classified: dots have the 95% interval. 0, or many dots: they have none.
    """
    dots = compared(trials)
    faded = bool((dots["outcome"] != TRAINED).any())  # all of them, where none was trained
    outcome, color = (STOPPED, GREY) if faded else (TRAINED, BLUE)
    inside = dots["val_accuracy"].map(axis.holds).astype(bool)
    stopped = trials[~trials.index.isin(dots.index)]
    _add_ticks(figure, stopped, x, axis, STOPPED, STOPPED, GREY)
    _add_ticks(figure, dots[~inside], x, axis, "far below", outcome, color)
    dots = dots[inside]
    if dots.empty:
        return
    accuracies = dots["val_accuracy"].tolist()
    bars = None
    if images > 0 and len(dots) <= _MOST_BARS:
        estimates = [wilson_interval(accuracy, images) for accuracy in accuracies]
        bars = error_bars(axis, accuracies, [(e.low, e.high) for e in estimates])
        bars |= {"color": PALE_BLUE, "thickness": 1.2, "width": 0}
    figure.add_scatter(
        x=dots[x].tolist(),
        y=axis.y(accuracies),
        name=outcome,
        mode="markers",
        marker={
            "color": color,
            "size": 8 if faded else 9,
            "symbol": "circle-open" if faded else "circle",
            "opacity": 0.8 if faded else 0.95,
        },
        error_y=bars,
        **hover(dots, x, outcome),
    )


def marks_in_words(figure: go.Figure, images: int) -> str:
    """What marks of `add_trials` are, as far as the legend leaves it open, to follow a sentence.

    Args:
        figure: with the trials in it.
        images: as there.
    """
    traces = {trace.name: trace for trace in figure.data}
    marks = []
    dots = traces.get(TRAINED, traces.get(STOPPED))
    if dots is not None and dots.error_y.array is not None:
        marks.append(f"bars are 95% intervals ({plural(images, 'image')})")
    if TRAINED in traces and STOPPED in traces:
        marks.append("ticks at the bottom are runs stopped early")
    text = "; ".join(marks)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def trials_axis(
    trials: pd.DataFrame, others: Iterable[float] = (), *, images: int = 0
) -> AccuracyAxis:
    """The axis of `add_trials`; the arguments are those of `accuracy_axis`."""
    dots = compared(trials)
    accuracies = dots["val_accuracy"].tolist()
    images = images if len(dots) <= _MOST_BARS else 0
    axis = accuracy_axis(accuracies, others, images=images)
    return replace(axis, has_rug=True) if len(dots) < len(trials) else axis.with_rug(accuracies)


def compared(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials whose accuracies compare: trained to the end, or if none was, stopped early."""
    trained = trials[trials["outcome"] == TRAINED]
    return trials if trained.empty else trained


def _add_ticks(
    figure: go.Figure,
    trials: pd.DataFrame,
    x: str,
    axis: AccuracyAxis,
    name: str,
    outcome: str,
    color: str,
) -> None:
    if trials.empty:
        return
    figure.add_scatter(
        x=trials[x].tolist(),
        y=[axis.rug] * len(trials),
        name=name,
        mode="markers",
        marker={"color": color, "size": 10, "symbol": "line-ns-open", "line": {"width": 1.5}},
        **hover(trials, x, outcome),
    )


def error_bars(
    axis: AccuracyAxis, accuracies: Sequence[float], ends: Iterable[tuple[float, float]]
) -> dict[str, Any]:
    """Intervals of accuracies as plotly draws them, each from its lower to its upper end."""
    pairs = [(axis.y(end), y) for end, y in zip(ends, axis.y(accuracies), strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [round(max(end) - y, 6) for end, y in pairs],
        "arrayminus": [round(y - min(end), 6) for end, y in pairs],
    }


def hover(trials: pd.DataFrame, x: str, outcome: str) -> dict[str, Any]:
    """What a pointer shows; of each trial only what x does not say, since there may be many."""
    size = "" if x == "number" else ", %{x:,} parameters"
    pairs = zip(trials["number"].tolist(), rounded(trials["val_accuracy"]), strict=True)
    return {
        "customdata": [list(pair) for pair in pairs],
        "hovertext": [two_lines(design) for design in trials["design"]],
        "hovertemplate": f"trial %{{customdata[0]}}, {plain(outcome)}{size}<br>"
        "validation accuracy %{customdata[1]:.2%}<br>%{hovertext}<extra></extra>",
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
