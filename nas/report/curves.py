"""Learning curves: validation accuracy of the trials by epoch."""

from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nas.report.document import Section, figure_section
from nas.report.tables import TRIAL, Column, table, typed_frame
from nas.report.theme import (
    BLUE,
    GREY,
    ORANGE,
    accuracy_axis,
    empty_figure,
    plain,
    rounded,
    two_lines,
    whole_axis,
)
from nas.report.words import STOPPED, TRAINED, outcome_name
from nas.study.records import StudyRecord, TrialRecord
from nas.text import are, percent, plural, whole

MOST_CURVES = 200  # drawn; more are one grey cloud
_MANY_CURVES = 50  # lie over one another, and are fainter each


def learning_curves(study: StudyRecord) -> Section:
    """The learning curves."""
    shown = shown_curves(study)
    best = None if study.incumbent is None else study.incumbent.number
    curves = curve_table(replace(study, trials=shown))
    by_epoch = curves_by_epoch(curves)
    epochs = [Column(epoch, f"Epoch {epoch}", percent) for epoch in by_epoch.columns[1:]]
    return figure_section(
        "curves",
        "Learning curves",
        "Look at whether the incumbent (thick) still rises at the last epoch, and whether a "
        "curve that was stopped early (grey, ends in a dot) could have caught up."
        + _left_out(study, len(shown)),
        table(by_epoch, (TRIAL, *epochs), caption="Validation accuracy by epoch"),
        None if by_epoch.empty else curves_figure(curves, best),
    )


def shown_curves(study: StudyRecord, most: int = MOST_CURVES) -> tuple[TrialRecord, ...]:
    """The trials whose learning curves are drawn, in the study's order: all, if they are few.

    Else half are the best trained designs, the incumbent among them, and the others lie evenly over
    the search.
    """
    measured = [trial for trial in study.trials if trial.curve]
    if len(measured) <= most:
        return tuple(measured)
    best = {trial.number for trial in study.ranking[: most // 2] if trial.curve}
    rest = [trial.number for trial in measured if trial.number not in best]
    wanted = most - len(best)
    chosen = best | {rest[i * len(rest) // wanted] for i in range(wanted)}
    return tuple(trial for trial in measured if trial.number in chosen)


def _left_out(study: StudyRecord, shown: int) -> str:
    """Which learning curves are drawn, as a further sentence; empty where all are."""
    measured = sum(bool(trial.curve) for trial in study.trials)
    if shown == measured:
        return ""
    return (
        f" Of {plural(measured, 'curve')} {whole(shown)} {are(shown)} drawn: those of the best "
        "designs, and others taken evenly over the search."
    )


def curve_table(study: StudyRecord) -> pd.DataFrame:
    """One row per trial and epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": outcome_name(trial.outcome),
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
    """Validation accuracy by epoch, one line per trial that ends in a dot."""
    curves = curves.dropna(subset=["val_accuracy"])
    figure = empty_figure("epoch", "validation accuracy")
    best = curves["number"] == (-1 if incumbent is None else incumbent)
    trained, stopped = curves["outcome"] == TRAINED, curves["outcome"] == STOPPED
    other = curves[~trained & ~stopped & ~best]
    grey, blue = {"color": GREY, "width": 1.2}, {"color": BLUE, "width": 1.4}
    _add_lines(figure, other, "not finished", {**grey, "dash": "dot"}, opacity=0.8)
    many = curves[stopped]["number"].nunique() > _MANY_CURVES
    _add_lines(figure, curves[stopped], STOPPED, grey, opacity=0.25 if many else 0.6)
    _add_lines(figure, curves[trained & ~best], TRAINED, blue, opacity=0.7)
    _add_lines(figure, curves[best], "incumbent", {"color": ORANGE, "width": 3.5}, opacity=1)
    figure.update_xaxes(whole_axis(curves["epoch"].tolist()))
    figure.update_yaxes(accuracy_axis(curves["val_accuracy"].tolist()))
    return figure


def _add_lines(
    figure: go.Figure, curves: pd.DataFrame, name: str, line: dict[str, Any], *, opacity: float
) -> None:
    """Adds one line per trial, and a dot where each ends."""
    if curves.empty:
        return
    curves = curves.sort_values(["number", "epoch"])
    shared = {"name": name, "legendgroup": name, "opacity": opacity}
    lines = [
        go.Scatter(
            x=curve["epoch"].tolist(),
            y=rounded(curve["val_accuracy"]),
            mode="lines",
            line=line,
            showlegend=first == 0,
            hovertemplate=_hover(curve.iloc[0], "%{x}", "%{y:.2%}") + "<extra></extra>",
            **shared,
        )
        for first, (_, curve) in enumerate(curves.groupby("number"))
    ]
    ends = curves.groupby("number").tail(1)
    dots = go.Scatter(
        x=ends["epoch"].tolist(),
        y=rounded(ends["val_accuracy"]),
        mode="markers",
        marker={"color": line["color"], "size": 4 + line["width"]},
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
