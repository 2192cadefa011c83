"""Learning curves: validation accuracy of the trials by epoch."""

from dataclasses import replace
from statistics import median
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nas.report.axes import AccuracyAxis, accuracy_axis, whole_axis
from nas.report.document import Section, figure_section
from nas.report.overview import stopping
from nas.report.tables import TRIAL, Column, spread, table, typed_frame
from nas.report.theme import BLUE, GREY, ORANGE, empty_figure, plain, rounded, two_lines
from nas.report.words import STOPPED, TRAINED, last_epoch, listed, status
from nas.study.records import StudyRecord, TrialRecord
from nas.text import are, percent, plural, whole

MOST_CURVES = 200  # drawn; more are one grey cloud
_MANY_CURVES = 50  # lie over one another, and are fainter each
_MOST_COLUMNS = 12  # of epochs in the table; of more, every so many up to the last
_NAMED_EPOCHS = 3  # at which runs were stopped


def learning_curves(study: StudyRecord) -> Section:
    """The learning curves."""
    shown = shown_curves(study)
    best = None if study.incumbent is None else study.incumbent.number
    curves = curve_table(replace(study, trials=shown))
    by_epoch = curves_by_epoch(curves)
    every = -(-(len(by_epoch.columns) - 1) // _MOST_COLUMNS) or 1
    epochs = [Column(e, f"Epoch {e}", percent) for e in by_epoch.columns[:0:-every][::-1]]
    return figure_section(
        "curves",
        "Learning curves",
        f"{what_was_stopped(study)} A run ends in a dot, or in a tick at the bottom if that is "
        f"below the figure.{_left_out(study, len(shown))}",
        table(by_epoch, (TRIAL, *epochs), caption="Validation accuracy by epoch"),
        None if by_epoch.empty else curves_figure(curves, best),
    )


def what_was_stopped(study: StudyRecord) -> str:
    """Which runs were stopped early, how far behind the best one they were, and what that saved."""
    found = stopping(study)
    stopped, timed = found.by_pruner, ""
    if found.at_time_limit:
        were = "was" if found.at_time_limit == 1 else "were"
        timed = f"{whole(found.at_time_limit)} {were} stopped at the time limit."
    if not stopped:
        return (
            f"No run was stopped by the pruner; {timed}" if timed else "No run was stopped early."
        )
    lasts = sorted({last_epoch(trial) for trial in stopped})
    epochs = listed(lasts) if len(lasts) <= _NAMED_EPOCHS else f"{lasts[0]} to {lasts[-1]}"
    best = dict(study.incumbent.curve) if study.incumbent else {}
    gaps = [
        best[trial.curve[-1][0]] - trial.curve[-1][1]
        for trial in stopped
        if trial.curve and trial.curve[-1][0] in best
    ]
    behind = ""
    if gaps:
        gap = median(gaps)
        behind = f", {'' if len(gaps) == 1 else 'a median of '}{100 * abs(gap):.2f} "
        behind += f"points {'behind' if gap >= 0 else 'above'} the best design at that epoch"
    return (
        f"{whole(len(stopped))} of {plural(study.trained, 'run')} "
        f"{'was' if len(stopped) == 1 else 'were'} stopped early, at "
        f"epoch{'' if len(lasts) == 1 else 's'} {epochs}{behind}; this saved {found.saving}."
        f"{' ' if timed else ''}{timed}"
    )


def shown_curves(study: StudyRecord, most: int = MOST_CURVES) -> tuple[TrialRecord, ...]:
    """The trials whose learning curves are drawn, in the study's order: all, if they are few.

    Else half are the best trained designs, the incumbent among them, and the others lie evenly over
    the search.
    """
    measured = [trial for trial in study.trials if trial.curve]
    best = {trial.number for trial in study.ranking[: most // 2] if trial.curve}
    chosen = spread((trial.number for trial in measured), best, most)
    return tuple(trial for trial in measured if trial.number in chosen)


def _left_out(study: StudyRecord, shown: int) -> str:
    """Which learning curves are drawn, as a further sentence; empty where all are."""
    measured = sum(bool(trial.curve) for trial in study.trials)
    if shown == measured:
        return ""
    return (
        f" Of {plural(measured, 'curve')} {whole(shown)} {are(shown)} drawn: those of the best "
        "designs, and others spread evenly over the search."
    )


def curve_table(study: StudyRecord) -> pd.DataFrame:
    """One row per trial and epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": status(trial),
                "design": trial.design,
                "epoch": epoch,
                "val_accuracy": val_accuracy,
            }
            for trial in study.trials
            for epoch, val_accuracy in trial.curve
        ),
        integers="number epoch",
        floats="val_accuracy",
        texts="outcome design",
    )


def curves_by_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """`curve_table` laid out for reading: one row per trial, one column per epoch."""
    wide = curves.pivot_table(
        index="number", columns="epoch", values="val_accuracy", aggfunc="last"
    )
    wide.columns = pd.Index([str(epoch) for epoch in wide.columns])
    return wide.reset_index()


def curves_figure(curves: pd.DataFrame, incumbent: int | None) -> go.Figure:
    """Validation accuracy by epoch, one line per trial that ends in a dot.

    In view is what complete runs reach in the second half of their epochs. Of a run that ends below
    there is a tick at the bottom.
    """
    curves = curves.dropna(subset=["val_accuracy"])
    figure = empty_figure("epoch", "")
    best = curves["number"] == (-1 if incumbent is None else incumbent)
    trained, stopped = curves["outcome"] == TRAINED, curves["outcome"] == STOPPED
    late = curves[trained & (2 * curves["epoch"] > curves["epoch"].max())]
    accuracies = (curves if late.empty else late)["val_accuracy"].tolist()
    axis = accuracy_axis(
        [*accuracies, curves["val_accuracy"].max()],
        finals=None if late.empty else late.groupby("number")["val_accuracy"].last().tolist(),
    )
    axis = axis.with_rug(curves.sort_values("epoch").groupby("number")["val_accuracy"].last())
    other = curves[~trained & ~stopped & ~best]
    grey, blue = {"color": GREY, "width": 1.2}, {"color": BLUE, "width": 1.4}
    _add_lines(figure, axis, other, "not finished", {**grey, "dash": "dot"}, opacity=0.8)
    many = curves[stopped]["number"].nunique() > _MANY_CURVES
    _add_lines(figure, axis, curves[stopped], STOPPED, grey, opacity=0.25 if many else 0.6)
    _add_lines(figure, axis, curves[trained & ~best], TRAINED, blue, opacity=0.7)
    thick = {"color": ORANGE, "width": 3.5}
    _add_lines(figure, axis, curves[best], "incumbent", thick, opacity=1)
    figure.update_xaxes(whole_axis(curves["epoch"].tolist()))
    return figure.update_yaxes(axis.layout("validation accuracy"))


def _add_lines(
    figure: go.Figure,
    axis: AccuracyAxis,
    curves: pd.DataFrame,
    name: str,
    line: dict[str, Any],
    *,
    opacity: float,
) -> None:
    """Adds one line per trial, and where each ends a dot, or a tick if that is not in view."""
    if curves.empty:
        return
    curves = curves.sort_values(["number", "epoch"])
    shared = {"name": name, "legendgroup": name, "opacity": opacity}
    lines = [
        go.Scatter(
            x=curve["epoch"].tolist(),
            y=axis.y(curve["val_accuracy"]),
            customdata=rounded(curve["val_accuracy"]),
            mode="lines",
            line=line,
            showlegend=first == 0,
            hovertemplate=_hover(curve.iloc[0], "%{x}", "%{customdata:.2%}") + "<extra></extra>",
            **shared,
        )
        for first, (_, curve) in enumerate(curves.groupby("number"))
    ]
    ends = curves.groupby("number").tail(1)
    inside = ends["val_accuracy"].map(axis.holds).tolist()
    accuracies = axis.y(ends["val_accuracy"])
    dots = go.Scatter(
        x=ends["epoch"].tolist(),
        y=[y if seen else axis.rug for y, seen in zip(accuracies, inside, strict=True)],
        mode="markers",
        marker={
            "color": line["color"],
            "size": [4 + line["width"] if seen else 10 for seen in inside],
            "symbol": ["circle" if seen else "line-ns-open" for seen in inside],
            "line": {"width": [0 if seen else 1.5 for seen in inside]},
        },
        showlegend=False,
        hovertext=[
            _hover(row, str(row["epoch"]), percent(row["val_accuracy"]))
            for _, row in ends.iterrows()
        ],
        hoverinfo="text",
        **shared,
    )
    figure.add_traces([*lines, dots])


def _hover(trial: Any, epoch: str, val_accuracy: str) -> str:
    heading = f"trial {trial['number']}, {plain(trial['outcome'])}, epoch {epoch}"
    return f"{heading}<br>validation accuracy {val_accuracy}<br>{two_lines(trial['design'])}"
