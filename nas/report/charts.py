"""More figures of a study and of its final training, as pure functions of `insights`' tables.

They keep to the ways of `nas.report.figures`.
"""

import math
from collections.abc import Sequence
from html import escape
from itertools import chain
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nas.architecture import LETTERS
from nas.report.figures import (
    ACCURACY_TICKS,
    BLUE,
    FONT,
    GREY,
    ORANGE,
    STOPPED,
    TRAINED,
    accuracy_range,
    plain_figure,
    whole_ticks,
)
from nas.report.insights import PROPOSED
from nas.text import whole

_GRID = "rgba(128,128,128,.25)"
_TEXT = "#767c86"
_NUMBER_OF = {  # what one number says of a choice that each stage makes
    "B": " in all",
    "C": ", widest stage",
    "F": ", largest",
    "K": ", largest",
}
_FEW_TICKS = 5
_FEW_VALUES = 12  # of a choice, for which the middle of each is shown
_ENOUGH = 3  # designs with a value, for its middle
_TIMES = ((172_800, 86_400, "days"), (7_200, 3_600, "hours"), (120, 60, "minutes"))
_LABELLED_CLASSES = 20
_NUMBERED_CLASSES = 12
_LONGEST_NAME = 10  # of a class on an axis


def funnel(steps: pd.DataFrame) -> go.Figure:
    """What became of the proposals, `insights.funnel_table`: each step takes its part away."""
    figure = plain_figure("trials", "")
    trials = steps["trials"].tolist()
    colors = {PROPOSED: "rgba(134,142,153,.15)", STOPPED: GREY, TRAINED: BLUE}
    names = steps["step"].tolist()
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=names,
            x=trials,
            base=[left - n for left, n in zip(steps["left"].tolist(), trials, strict=True)],
            marker={
                "color": [colors.get(name, "rgba(134,142,153,.4)") for name in names],
                "line": {"color": GREY, "width": 1},
            },
            text=[whole(n) for n in trials],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    figure.update_layout(showlegend=False, bargap=0.3)
    figure.update_xaxes(range=[0, 1.12 * max(trials)], nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def incumbent_over_time(progress: pd.DataFrame) -> go.Figure:
    """The incumbent by wall clock, above, and by training time of all workers, below."""
    figure = _panels(2, 1, vertical_spacing=0.28)
    panels = (
        ("elapsed", "since the first trial began", "solid", ORANGE),
        ("worked", "of training, all workers", "dash", BLUE),
    )
    for row, (column, words, dash, color) in enumerate(panels, start=1):
        last = float(progress[column].max())
        seconds, unit = next(((s, u) for least, s, u in _TIMES if last >= least), (1, "seconds"))
        figure.add_trace(
            go.Scatter(
                x=[value / seconds for value in progress[column].tolist()],
                y=progress["incumbent"].tolist(),
                customdata=progress["number"].tolist(),
                name=column,
                mode="lines+markers",
                line={"color": color, "width": 2.5, "shape": "hv", "dash": dash},
                marker={"size": 4},
                hovertemplate=f"trial %{{customdata}}, %{{x:.3~g}} {unit}<br>incumbent %{{y:.2%}}"
                "<extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_xaxes(title={"text": f"{unit} {words}", "standoff": 8}, row=row, col=1)
    figure.update_xaxes(rangemode="tozero", nticks=7)
    figure.update_yaxes(
        range=accuracy_range(progress["incumbent"].tolist()), tickformat=ACCURACY_TICKS, nticks=5
    )
    return figure


def importances(mattered: pd.DataFrame, *, weak: bool) -> go.Figure:
    """How much each letter mattered, `insights.importance_table`, beside what chance gives.

    Args:
        mattered: the table.
        weak: whether the designs are too few to lean on it; all bars are grey then.
    """
    letters = mattered[mattered["kind"] == "letter"]
    called = {
        letter: f"{name.replace('shortcut_', 'shortcut<br>')} ({letter})"
        for name, letter in LETTERS.items()
    }
    names = [called.get(n, n.replace("_", " ")) for n in letters["name"].tolist()]
    figure = plain_figure("share of the sum", "")
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=names,
            x=letters["share"].tolist(),
            name="measured",
            marker={
                "color": [
                    BLUE if beyond and not weak else "rgba(134,142,153,.4)"
                    for beyond in letters["beyond"].tolist()
                ],
                "line": {"color": GREY, "width": 1},
            },
            hovertemplate="%{x:.0%}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=letters["chance"].tolist(),
            y=names,
            name="largest bar of chance alone",
            mode="markers",
            marker={
                "symbol": "line-ns-open",
                "size": 24,
                "color": ORANGE,
                "line": {"width": 3, "color": ORANGE},
            },
            hovertemplate="chance: %{x:.0%}<extra></extra>",
        )
    )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def slices(choices: pd.DataFrame) -> go.Figure:
    """Validation accuracy by each choice, `insights.choices_table`, a panel per letter.

    Where a choice has few values, a bar is the middle (median) design of each that has three.
    """
    figure = _panels(3, 2, vertical_spacing=0.16, horizontal_spacing=0.1, shared_yaxes=True)
    for i, (choice, name) in enumerate(LETTERS.items()):
        words = f"{choice.replace('_', ' ')}{_NUMBER_OF.get(name, '')} ({name})"
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        known = choices.dropna(subset=[name])
        values = [int(value) for value in known[name].tolist()]
        figure.add_trace(
            go.Scatter(
                x=values,
                y=known["val_accuracy"].tolist(),
                customdata=known["number"].tolist(),
                name=name,
                mode="markers",
                marker={"color": BLUE, "size": 6, "opacity": 0.45},
                hovertemplate=f"trial %{{customdata}}, {name} %{{x}}<br>%{{y:.2%}}<extra></extra>",
            ),
            **place,
        )
        groups = known.groupby(name)["val_accuracy"]
        middle = groups.median()[groups.size() >= _ENOUGH]
        if len(middle) and known[name].nunique() <= _FEW_VALUES:
            figure.add_trace(
                go.Scatter(
                    x=[int(value) for value in middle.index],
                    y=middle.tolist(),
                    name=f"{name}, median",
                    mode="markers",
                    marker={
                        "symbol": "line-ew-open",
                        "size": 18,
                        "color": ORANGE,
                        "line": {"width": 3, "color": ORANGE},
                    },
                    hovertemplate=f"median of {name} %{{x}}: %{{y:.2%}}<extra></extra>",
                ),
                **place,
            )
        axis = {**whole_ticks(values), "nticks": 4, "tickangle": 0}
        if len(set(values)) <= _FEW_TICKS:
            axis |= {"tickvals": sorted(set(values))}
        axis["title"] = {"text": words, "standoff": 6, "font": {"size": 11}}
        figure.update_xaxes(**axis, **place)
    figure.update_yaxes(
        range=accuracy_range(choices["val_accuracy"].tolist()),
        tickformat=ACCURACY_TICKS,
        nticks=5,
    )
    return figure


def parallel(choices: pd.DataFrame) -> go.Figure:
    """Each design as a line over its choices, size and accuracy; the best tenth stands out.

    Lines are drawn as those of any figure: plotly's own parallel coordinates need WebGL and a
    script from text, which the page forbids.
    """
    figure = plain_figure("", "")
    axes = [*LETTERS.values(), "parameters", "val_accuracy"]
    scaled, ends = {}, {}
    for name in axes:
        values = [math.nan if pd.isna(v) else float(v) for v in choices[name].tolist()]
        known = [v for v in values if not math.isnan(v)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        ends[name] = (low, high) if known else None
        scaled[name] = [_between(v, low, high, log=name == "parameters") for v in values]
    order = choices["val_accuracy"].rank(method="first", ascending=False)
    best = max(1, round(0.1 * len(choices)))
    half = len(choices) // 2
    groups = (
        ("lower half", order > max(half, best), GREY, 0.35, 1.0),
        ("upper half", (order > best) & (order <= max(half, best)), BLUE, 0.45, 1.0),
        ("best tenth" if best > 1 else "best", order <= best, ORANGE, 0.95, 2.0),
    )
    numbers = choices["number"].tolist()
    for name, chosen, color, opacity, width in groups:
        rows = [i for i, c in enumerate(chosen.tolist()) if c]
        if not rows:
            continue
        figure.add_trace(
            go.Scatter(
                x=list(chain.from_iterable([*range(len(axes)), None] for _ in rows)),
                y=list(
                    chain.from_iterable(
                        [*(_rounded(scaled[a][i]) for a in axes), None] for i in rows
                    )
                ),
                text=list(
                    chain.from_iterable([f"trial {numbers[i]}"] * (len(axes) + 1) for i in rows)
                ),
                name=name,
                mode="lines",
                line={"color": color, "width": width},
                opacity=opacity,
                connectgaps=False,
                hoverinfo="text",
            )
        )
    titles = [*axes[:-2], "size", "acc."]
    figure.update_xaxes(
        tickvals=list(range(len(axes))),
        ticktext=titles,
        range=[-0.4, len(axes) - 0.55],
        side="bottom",
        tickangle=0,
        gridcolor=GREY,
        title=None,
    )
    figure.update_yaxes(visible=False, range=[-0.16, 1.16])
    for place, name in enumerate(axes):
        pair = ends[name]
        for value, y, anchor in zip(pair or (), (0, 1), ("top", "bottom"), strict=False):
            figure.add_annotation(
                x=place,
                y=y,
                text=_shown(name, value),
                yanchor=anchor,
                showarrow=False,
                font={"size": 10, "color": _TEXT},
            )
    return figure


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> go.Figure:
    """Which class is taken for which: a row per true class, a column per answer.

    Colour is the share of the true class: right answers blue, wrong ones orange, on a scale of
    their own, since mistakes are few. With many classes names and numbers are left out.

    Args:
        matrix: images, by [label][answer].
        classes: their names, in label order.
    """
    labelled, numbered = len(classes) <= _LABELLED_CLASSES, len(classes) <= _NUMBERED_CLASSES
    shares = [[n / (sum(row) or 1) for n in row] for row in matrix]
    figure = plain_figure("answer", "true class")
    for name, color, wanted in (("right", "61,143,209", True), ("wrong", "221,107,16", False)):
        shown = [
            [share if (i == j) is wanted and share > 0 else None for j, share in enumerate(row)]
            for i, row in enumerate(shares)
        ]
        most = max((share for row in shown for share in row if share), default=1.0)
        figure.add_trace(
            go.Heatmap(
                z=shown,
                text=[[str(n) if n else "" for n in row] for row in matrix],
                name=name,
                colorscale=[[0, f"rgba({color},.12)"], [1, f"rgba({color},.65)"]],
                zmin=0,
                zmax=most,
                showscale=False,
                xgap=int(labelled),
                ygap=int(labelled),
                texttemplate="%{text}" if numbered else None,
                textfont={"size": 11},
                hoverongaps=False,
                hovertemplate="%{text} images, %{z:.1%} of the class<extra></extra>",
            )
        )
    ticks: dict[str, Any] = {"showticklabels": False, "showgrid": False}
    if labelled:
        names = [_class_name(name) for name in classes]
        ticks = {"tickvals": list(range(len(classes))), "ticktext": names, "showgrid": False}
    figure.update_xaxes(**ticks, range=[-0.5, len(classes) - 0.5], constrain="domain")
    figure.update_yaxes(
        **ticks, range=[len(classes) - 0.5, -0.5], scaleanchor="x", constrain="domain"
    )
    return figure


def _panels(rows: int, columns: int, **layout: Any) -> go.Figure:
    """A figure of several panels, all in the way of `figures`."""
    figure = make_subplots(rows=rows, cols=columns, **layout)
    plain = plain_figure("", "").layout.to_plotly_json()
    figure.update_layout(**{k: v for k, v in plain.items() if k not in ("xaxis", "yaxis")})
    figure.update_layout(showlegend=False, font={"family": FONT, "size": 12, "color": _TEXT})
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    return figure


def _between(value: float, low: float, high: float, *, log: bool) -> float:
    """Where a value lies between two others, 0..1; the middle when they are equal; nan stays."""
    if math.isnan(value):
        return value
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return 0.5 if high == low else (value - low) / (high - low)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _shown(name: str, value: float) -> str:
    if name == "val_accuracy":
        return f"{value:.1%}"
    if name != "parameters":
        return str(int(value))
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.{0 if value >= 10 * unit else 1}f}{letter}"
    return str(int(value))


def _class_name(name: str) -> str:
    """A class on an axis, where plotly reads some HTML: escaped, and not too long."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return escape(short, quote=False)
