"""Figures of a study, as pure functions of its tables.

All that is plotly stays here: it has no types. Figures carry no background, and the page restyles
text and grid for light and dark, so the colours of marks must read on both. They are told apart by
shape and line too, not by hue alone.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nas.report.tables import outcome_name
from nas.runtime import signals
from nas.study.records import Outcome
from nas.text import percent, whole

TRAINED = outcome_name(Outcome.TRAINED)
STOPPED = outcome_name(Outcome.STOPPED_EARLY)

BLUE = "#3d8fd1"
ORANGE = "#dd6b10"
GREY = "#868e99"
_GREEN = "#2f9e62"
_VIOLET = "#a259d9"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_SIDES = (  # how two studies are told apart
    {"color": BLUE, "dash": "solid", "symbol": "circle"},
    {"color": ORANGE, "dash": "dash", "symbol": "diamond"},
)
_MANY_CURVES = 50  # lie over one another, and are fainter each
ACCURACY_TICKS = ".2~%"


def plotly_js() -> str:
    """The source of the drawing library, for one inline script."""
    source: str = get_plotlyjs()
    return source


def figure_json(figure: go.Figure) -> str:
    """The figure as JSON that is safe inside a script element.

    No `<`, `>` or `/` is left, and no character that ends a line for a script alone.

    Raises:
        KeyboardInterrupt: a signal came before.
    """
    signals.check()
    text: str = figure.to_json()
    for character in "<>/\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def history(trials: pd.DataFrame, incumbents: pd.DataFrame) -> go.Figure:
    """Validation accuracy by trial number, and the incumbent as a step line."""
    trials = trials.dropna(subset=["val_accuracy"])
    incumbents = incumbents.dropna(subset=["val_accuracy"])
    figure = plain_figure("trial", "validation accuracy")
    figure.add_trace(_dots(trials, "number", STOPPED))
    figure.add_trace(_dots(trials, "number", TRAINED))
    if len(incumbents):
        last = incumbents.iloc[-1]
        end = max(int(trials["number"].max()), int(last["number"]))
        figure.add_trace(
            go.Scatter(
                x=[*incumbents["number"].tolist(), end],
                y=[*incumbents["val_accuracy"].tolist(), last["val_accuracy"]],
                name="incumbent",
                mode="lines",
                line={"color": ORANGE, "width": 2.5, "shape": "hv"},
                hoverinfo="skip",
            )
        )
    figure.update_xaxes(whole_ticks(trials["number"].tolist()))
    figure.update_yaxes(range=accuracy_range(trials["val_accuracy"].tolist()))
    return figure


def accuracy_by_parameters(
    trials: pd.DataFrame,
    max_parameters: int,
    incumbent: int | None,
    front: pd.DataFrame | None = None,
    references: pd.DataFrame | None = None,
) -> go.Figure:
    """Validation accuracy against parameters.

    The budget is a line, the incumbent a star and the front, `tables.front_table`, a step line: the
    best accuracy of the designs that are no larger. Of the references, `insights.reference_table`,
    those within the budget are squares with their mark: open where published, filled and with their
    interval where measured here.
    """
    trials = trials.dropna(subset=["val_accuracy", "parameters"])
    others = None if references is None else references[references["fits"]]
    known_others = others is not None and len(others) > 0
    figure = plain_figure("parameters", "accuracy" if known_others else "validation accuracy")
    figure.add_trace(_dots(trials, "parameters", STOPPED))
    figure.add_trace(_dots(trials, "parameters", TRAINED))
    if front is not None and len(front) > 1:
        figure.add_trace(
            go.Scatter(
                x=front["parameters"].tolist(),
                y=front["val_accuracy"].tolist(),
                name="Pareto front",
                mode="lines",
                line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dot"},
                hoverinfo="skip",
            )
        )
    best = trials[trials["number"] == incumbent] if incumbent is not None else trials.head(0)
    if len(best):
        figure.add_trace(
            go.Scatter(
                x=best["parameters"].tolist(),
                y=best["val_accuracy"].tolist(),
                name="incumbent",
                mode="markers",
                marker={"color": ORANGE, "size": 17, "symbol": "star"},
                **_hover(best, "parameters", "incumbent"),
            )
        )
    known = trials.dropna(subset=["preset"])
    if len(known):
        figure.add_trace(
            go.Scatter(
                x=known["parameters"].tolist(),
                y=known["val_accuracy"].tolist(),
                name="known designs",
                mode="markers+text",
                text=[escape(name, quote=False) for name in known["preset"]],
                textposition=[  # towards the middle: most lie close to the budget
                    "middle left" if size > max_parameters / 3 else "middle right"
                    for size in known["parameters"]
                ],
                marker={"color": ORANGE, "size": 14, "symbol": "diamond-open"},
                hoverinfo="skip",
            )
        )
    sizes = [*trials["parameters"].tolist(), max_parameters]
    accuracies = trials["val_accuracy"].tolist()
    if others is not None and known_others:
        for kind, marks in others.groupby("kind", sort=True):
            figure.add_trace(_squares(marks, str(kind)))
        sizes += others["parameters"].tolist()
        accuracies += [*others["accuracy"], *others["low"].dropna(), *others["high"].dropna()]
    wide = max(sizes) > 10 * min(sizes)
    scaled = [math.log10(size) for size in sizes] if wide else [float(size) for size in sizes]
    room = 0.06 * (max(scaled) - min(scaled)) or 0.05 * abs(scaled[0]) or 1.0
    figure.update_xaxes(
        type="log" if wide else "linear",
        range=[min(scaled) - room, max(scaled) + room],
        tickformat="~s",
        nticks=8,
        dtick="D2" if wide else None,  # 1, 2, 5, 10, ...
    )
    figure.update_yaxes(range=accuracy_range(accuracies))
    figure.add_shape(
        type="line",
        x0=max_parameters,
        x1=max_parameters,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": GREY, "width": 2, "dash": "dash"},
        name=f"budget: {whole(max_parameters)} parameters",
        showlegend=True,
    )
    return figure


def learning_curves(curves: pd.DataFrame, incumbent: int | None) -> go.Figure:
    """Validation accuracy by epoch, one line per trial that ends in a dot."""
    curves = curves.dropna(subset=["val_accuracy"])
    figure = plain_figure("epoch", "validation accuracy")
    best = curves["number"] == (-1 if incumbent is None else incumbent)
    trained, stopped = curves["outcome"] == TRAINED, curves["outcome"] == STOPPED
    other = curves[~trained & ~stopped & ~best]
    grey, blue = {"color": GREY, "width": 1.2}, {"color": BLUE, "width": 1.4}
    _add_lines(figure, other, "not finished", {**grey, "dash": "dot"}, opacity=0.8)
    many = curves[stopped]["number"].nunique() > _MANY_CURVES
    _add_lines(figure, curves[stopped], STOPPED, grey, opacity=0.25 if many else 0.6)
    _add_lines(figure, curves[trained & ~best], TRAINED, blue, opacity=0.7)
    _add_lines(figure, curves[best], "incumbent", {"color": ORANGE, "width": 3.5}, opacity=1)
    figure.update_xaxes(whole_ticks(curves["epoch"].tolist()))
    figure.update_yaxes(range=accuracy_range(curves["val_accuracy"].tolist()))
    return figure


def compared_incumbents(incumbents: pd.DataFrame) -> go.Figure:
    """Step lines of `tables.incumbent_by_effort`, one for each `study`."""
    figure = plain_figure("designs trained", "validation accuracy")
    for (name, steps), look in zip(incumbents.groupby("study", sort=False), _SIDES, strict=False):
        figure.add_trace(
            go.Scatter(
                x=steps["trained"].tolist(),
                y=_rounded(steps["val_accuracy"]),
                name=escape(str(name), quote=False),
                mode="lines+markers",
                line={"color": look["color"], "dash": look["dash"], "width": 2.5, "shape": "hv"},
                marker={"color": look["color"], "symbol": look["symbol"], "size": 8},
            )
        )
    figure.update_xaxes(whole_ticks(incumbents["trained"].tolist()))
    figure.update_yaxes(range=accuracy_range(incumbents["val_accuracy"].dropna().tolist()))
    return figure


def compared_sizes(trials: pd.DataFrame) -> go.Figure:
    """Validation accuracy against parameters, with the trials of each `study` told apart."""
    figure = plain_figure("parameters", "validation accuracy")
    for (name, shown), look in zip(trials.groupby("study", sort=False), _SIDES, strict=False):
        label = escape(str(name), quote=False)
        figure.add_trace(
            go.Scatter(
                x=shown["parameters"].tolist(),
                y=_rounded(shown["val_accuracy"]),
                name=label,
                mode="markers",
                marker={"color": look["color"], "symbol": look["symbol"], "size": 9},
                **_hover(shown, "parameters", str(name)),
            )
        )
    sizes = trials["parameters"].tolist()
    figure.update_xaxes(type="log" if max(sizes) > 10 * min(sizes) else "linear", tickformat="~s")
    figure.update_yaxes(range=accuracy_range(trials["val_accuracy"].tolist()))
    return figure


def run_accuracy(epochs: pd.DataFrame) -> go.Figure:
    """Validation accuracy of one run by epoch."""
    figure = plain_figure("epoch", "validation accuracy")
    figure.add_trace(_run_line(epochs, "val_accuracy", "validation", ORANGE))
    figure.update_xaxes(whole_ticks(epochs["epoch"].tolist()))
    figure.update_yaxes(range=accuracy_range(epochs["val_accuracy"].tolist()))
    return figure


def run_loss(epochs: pd.DataFrame) -> go.Figure:
    """Training and validation loss of one run by epoch."""
    figure = plain_figure("epoch", "loss")
    figure.add_trace(_run_line(epochs, "train_loss", "training", BLUE))
    figure.add_trace(_run_line(epochs, "val_loss", "validation", ORANGE))
    figure.update_xaxes(whole_ticks(epochs["epoch"].tolist()))
    figure.update_yaxes(tickformat=".2~f", rangemode="tozero")
    return figure


def _run_line(epochs: pd.DataFrame, column: str, name: str, color: str) -> Any:
    return go.Scatter(
        x=epochs["epoch"].tolist(),
        y=epochs[column].tolist(),
        name=name,
        mode="lines+markers",
        line={"color": color, "width": 2.5},
        marker={"size": 5},
    )


def plain_figure(x: str, y: str) -> go.Figure:
    """A figure without marks, with the titles of its axes, in the ways of this module."""
    axis = {"gridcolor": "rgba(128,128,128,.25)", "zeroline": False, "automargin": True}
    title = {"standoff": 12}
    return go.Figure(
        layout={
            "template": {},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 13, "color": "#767c86"},
            "margin": {"l": 12, "r": 16, "t": 12, "b": 12},
            "xaxis": {**axis, "title": {**title, "text": x}},
            "yaxis": {**axis, "title": {**title, "text": y}, "tickformat": ACCURACY_TICKS},
            "showlegend": True,
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "tracegroupgap": 0,
            },
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": "#20262e",
                "bordercolor": "#20262e",
                "font": {"color": "#ffffff", "family": FONT, "size": 13},
                "align": "left",
            },
            "dragmode": False,  # a finger on a figure scrolls the page
        }
    )


def _dots(trials: pd.DataFrame, x: str, outcome: str) -> Any:
    shown = trials[trials["outcome"] == outcome]
    faded = outcome != TRAINED
    return go.Scatter(
        x=shown[x].tolist(),
        y=_rounded(shown["val_accuracy"]),
        name=outcome,
        mode="markers",
        marker={
            "color": GREY if faded else BLUE,
            "size": 8 if faded else 9,
            "symbol": "circle-open" if faded else "circle",
            "opacity": 0.8 if faded else 0.95,
        },
        **_hover(shown, x, outcome),
    )


def _squares(references: pd.DataFrame, kind: str) -> Any:
    """Reference networks of one kind, which are test accuracies: never like a trial's dot."""
    measured = bool(references["low"].notna().all())
    color = _GREEN if measured else _VIOLET
    bars = {
        "type": "data",
        "symmetric": False,
        "array": (references["high"] - references["accuracy"]).tolist(),
        "arrayminus": (references["accuracy"] - references["low"]).tolist(),
        "color": color,
        "thickness": 2,
    }
    return go.Scatter(
        x=references["parameters"].tolist(),
        y=references["accuracy"].tolist(),
        name=kind,
        mode="markers+text",
        text=references["mark"].tolist(),
        cliponaxis=False,
        textposition=[  # neighbours lie close
            f"middle {'right' if i % 2 else 'left'}" for i in range(len(references))
        ],
        marker={
            "color": color,
            "size": 11,
            "symbol": "square" if measured else "square-open",
            "line": {"width": 2, "color": color},
        },
        error_y=bars if measured else None,
        hovertext=[
            "<br>".join(
                escape(line, quote=False)
                for line in (
                    f"{row['mark']}: {row['name']}, {kind}",
                    f"{whole(row['parameters'])} parameters, {percent(row['accuracy'])}",
                    str(row["source"]),
                )
            )
            for _, row in references.iterrows()
        ],
        hoverinfo="text",
    )


def _add_lines(
    figure: go.Figure, curves: pd.DataFrame, name: str, line: dict[str, Any], *, opacity: float
) -> None:
    """Adds one line per trial, and a dot where each ends."""
    if curves.empty:
        return
    curves = curves.sort_values(["number", "epoch"])
    shared = {"name": name, "legendgroup": name, "opacity": opacity}
    for first, (_, curve) in enumerate(curves.groupby("number")):
        figure.add_trace(
            go.Scatter(
                x=curve["epoch"].tolist(),
                y=_rounded(curve["val_accuracy"]),
                mode="lines",
                line=line,
                showlegend=first == 0,
                hovertemplate=_curve_text(curve.iloc[0], "%{x}", "%{y:.2%}") + "<extra></extra>",
                **shared,
            )
        )
    ends = curves.groupby("number").tail(1)
    figure.add_trace(
        go.Scatter(
            x=ends["epoch"].tolist(),
            y=_rounded(ends["val_accuracy"]),
            mode="markers",
            marker={"color": line["color"], "size": 4 + line["width"]},
            showlegend=False,
            hovertext=[
                _curve_text(row, str(row["epoch"]), percent(row["val_accuracy"]))
                for _, row in ends.iterrows()
            ],
            hoverinfo="text",
            **shared,
        )
    )


def _hover(trials: pd.DataFrame, x: str, outcome: str) -> dict[str, Any]:
    """What a pointer shows; of each trial only what x and y do not say, since there may be many."""
    number, size = ("%{x}", "") if x == "number" else ("%{customdata}", ", %{x:,} parameters")
    return {
        "customdata": None if x == "number" else trials["number"].tolist(),
        "hovertext": [_design(design) for design in trials["design"]],
        "hovertemplate": f"trial {number}, {escape(outcome, quote=False)}{size}<br>"
        "validation accuracy %{y:.2%}<br>%{hovertext}<extra></extra>",
    }


def _curve_text(trial: Any, epoch: str, val_accuracy: str) -> str:
    said = escape(f"trial {trial['number']}, {trial['outcome']}, epoch ", quote=False) + epoch
    return f"{said}<br>validation accuracy {val_accuracy}<br>{_design(trial['design'])}"


def _design(design: Any) -> str:
    """A design in two lines, since a phone is narrow. Plotly reads some HTML, so it is escaped.

    It shows quotes as they are and does not decode `&quot;`.
    """
    text = "design unknown" if pd.isna(design) else str(design)
    return escape(text, quote=False).replace(" F", "<br>F")


def _rounded(values: pd.Series) -> list[float]:
    """Accuracies to six decimals: all that can be seen, in half the characters."""
    return [round(value, 6) for value in values.tolist()]


def accuracy_range(values: Sequence[float]) -> list[float]:
    """The values with some room around them, and none of it outside 0..1 but for the marks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.02, 0.06 * (high - low))
    return [max(-0.02, low - room), min(1.02, high + room)]


def whole_ticks(values: Sequence[int]) -> dict[str, object]:
    """Axis settings for whole numbers: no tick between two of them."""
    low, high = min(values, default=0), max(values, default=0)
    room = max(0.5, 0.03 * (high - low))
    axis: dict[str, object] = {"range": [low - room, high + room], "nticks": 10}
    if high - low < 10:
        axis = {**axis, "dtick": 1, "tick0": 0}
    return axis
