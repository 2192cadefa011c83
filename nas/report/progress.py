"""How the search went: what became of the proposals, and the incumbent over trials and time."""

from datetime import datetime
from itertools import accumulate

import pandas as pd
import plotly.graph_objects as go

from nas.report.document import Section, figure_section
from nas.report.tables import (
    OUTCOME,
    TRIAL,
    VAL_ACCURACY,
    Column,
    integer,
    table,
    typed_frame,
)
from nas.report.theme import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    PALER,
    accuracy_axis,
    add_dots,
    empty_figure,
    empty_panels,
    whole_axis,
)
from nas.report.trials import measured
from nas.report.words import STOPPED, TRAINED, UNFINISHED, outcome_name
from nas.study.records import INTERRUPTED, Outcome, StudyRecord
from nas.text import duration, percent, share, whole

_PROPOSED = "proposed"
_STEPS = (
    Outcome.OVER_BUDGET,
    Outcome.DUPLICATE,
    INTERRUPTED,  # and queued again
    Outcome.FAILED,
    Outcome.OUT_OF_MEMORY,
    Outcome.DIVERGED,
    None,
    Outcome.STOPPED_EARLY,
    Outcome.TRAINED,
)
_TIMES = ((172_800, 86_400, "days"), (7_200, 3_600, "hours"), (120, 60, "minutes"))


def funnel(study: StudyRecord) -> Section:
    """What became of the proposals."""
    steps = funnel_table(study)
    columns = (
        Column("step", "Step", kind="text"),
        Column("trials", "Trials", integer),
        Column("share", "Share", share),
    )
    return figure_section(
        "funnel",
        "From proposals to designs",
        "Look at how much of the search was training: proposals over the budget and duplicates "
        "are never built and cost milliseconds; all others took time, also those that failed.",
        table(steps, columns, caption="What became of the proposals"),
        funnel_figure(steps) if study.trials else None,
    )


def funnel_table(study: StudyRecord) -> pd.DataFrame:
    """What became of the proposals: `step`, `trials`, their `share`, and how many were `left`.

    The first row is all proposals; the others add up to it. `left` counts those that a step and all
    later ones hold. Steps that no trial ended in are left out, but for the last, `trained`.
    """
    ended: dict[Outcome | str | None, int] = dict.fromkeys(_STEPS, 0)
    for trial in study.trials:
        ended[INTERRUPTED if trial.queued_again else trial.outcome] += 1
    total = left = len(study.trials)
    rows = [{"step": _PROPOSED, "trials": total, "share": 1.0 if total else None, "left": total}]
    for step, trials in ended.items():
        if trials or step is Outcome.TRAINED:
            name = outcome_name(step) if isinstance(step, Outcome) else step or UNFINISHED
            part = trials / total if total else None
            rows.append({"step": name, "trials": trials, "share": part, "left": left})
        left -= trials
    return typed_frame(rows, integers="trials left", floats="share", texts="step")


def funnel_figure(steps: pd.DataFrame) -> go.Figure:
    """`funnel_table` as bars: each step takes its part away."""
    trials, names = steps["trials"].tolist(), steps["step"].tolist()
    colors = {_PROPOSED: PALER, STOPPED: GREY, TRAINED: BLUE}
    figure = empty_figure("trials", "", showlegend=False, bargap=0.3)
    figure.add_bar(
        orientation="h",
        y=names,
        x=trials,
        base=[left - n for left, n in zip(steps["left"].tolist(), trials, strict=True)],
        marker={
            "color": [colors.get(name, PALE) for name in names],
            "line": {"color": GREY, "width": 1},
        },
        text=[whole(n) for n in trials],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure.update_xaxes(range=[0, 1.12 * max(trials)], nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def history(study: StudyRecord, trials: pd.DataFrame) -> Section:
    """The trials, `trials_table`, and the incumbent by trial number."""
    compared, incumbents = measured(trials), incumbent_table(study)
    steps = compared.merge(incumbents[["number", "incumbent"]], how="left", on="number")
    columns = (TRIAL, OUTCOME, VAL_ACCURACY, Column("incumbent", "Incumbent (trial)", integer))
    return figure_section(
        "history",
        "How the search went",
        "Look at the step line, the best design so far: where it stays flat, more trials "
        "brought nothing better.",
        table(steps, columns, caption="How the search went"),
        None if compared.empty else history_figure(compared, incumbents),
    )


def incumbent_table(study: StudyRecord) -> pd.DataFrame:
    """The incumbent after each trained trial, by trial number: `incumbent`, its `val_accuracy`."""
    ranking = study.ranking
    rank = {trial.number: place for place, trial in enumerate(ranking)}
    trained = sorted(ranking, key=lambda trial: trial.number)
    best = accumulate(trained, lambda *pair: min(pair, key=lambda trial: rank[trial.number]))
    return typed_frame(
        (
            {
                "number": trial.number,
                "incumbent": incumbent.number,
                "design": incumbent.design,
                "val_accuracy": incumbent.val_accuracy,
            }
            for trial, incumbent in zip(trained, best, strict=True)
        ),
        integers="number incumbent",
        floats="val_accuracy",
        texts="design",
    )


def history_figure(trials: pd.DataFrame, incumbents: pd.DataFrame) -> go.Figure:
    """Validation accuracy by trial number, and the incumbent as a step line."""
    trials = trials.dropna(subset=["val_accuracy"])
    incumbents = incumbents.dropna(subset=["val_accuracy"])
    figure = empty_figure("trial", "validation accuracy")
    add_dots(figure, trials, "number", STOPPED)
    add_dots(figure, trials, "number", TRAINED)
    if len(incumbents):
        last = incumbents.iloc[-1]
        end = max(int(trials["number"].max()), int(last["number"]))
        figure.add_scatter(
            x=[*incumbents["number"].tolist(), end],
            y=[*incumbents["val_accuracy"].tolist(), last["val_accuracy"]],
            name="incumbent",
            mode="lines",
            line={"color": ORANGE, "width": 2.5, "shape": "hv"},
            hoverinfo="skip",
        )
    figure.update_xaxes(whole_axis(trials["number"].tolist()))
    figure.update_yaxes(accuracy_axis(trials["val_accuracy"].tolist()))
    return figure


def over_time(study: StudyRecord) -> Section:
    """The incumbent over time."""
    progress = progress_table(study)
    columns = (
        TRIAL,
        Column("elapsed", "Since the first trial", duration),
        Column("worked", "Training, all workers", duration),
        Column("incumbent", "Incumbent's validation accuracy", percent),
    )
    return figure_section(
        "time",
        "The incumbent over time",
        "Look at when the last rise came: above by the clock, pauses between searches included; "
        "below by the time that was spent in training.",
        table(progress, columns, caption="The incumbent over time"),
        None if progress.empty else over_time_figure(progress),
    )


def progress_table(study: StudyRecord) -> pd.DataFrame:
    """The incumbent by time: a row when it changes, and one for the last design trained to the end.

    `elapsed` is seconds since the first trial started, pauses included; `worked` is seconds of
    training of all trials that had finished by then, summed over the workers.
    """
    starts = [_moment(t.started) for t in study.trials if t.started is not None]
    done = sorted(
        (t for t in study.trials if t.finished is not None), key=lambda t: _moment(t.finished)
    )
    rows: list[dict[str, object]] = []
    worked, best = 0.0, -1.0
    last: dict[str, object] | None = None
    for trial in done if starts else []:
        worked += trial.seconds or 0.0
        if trial.outcome is not Outcome.TRAINED or trial.val_accuracy is None:
            continue
        rises = trial.val_accuracy > best
        best = max(best, trial.val_accuracy)
        last = {
            "number": trial.number,
            "elapsed": max(0.0, _moment(trial.finished) - min(starts)),  # clocks may be set back
            "worked": worked,
            "incumbent": best,
        }
        if rises:
            rows.append(last)
    if last is not None and last is not rows[-1]:
        rows.append(last)
    return typed_frame(rows, integers="number", floats="elapsed worked incumbent")


def over_time_figure(progress: pd.DataFrame) -> go.Figure:
    """The incumbent by wall clock, above, and by training time of all workers, below."""
    figure = empty_panels(2, 1, vertical_spacing=0.28)
    panels = (
        ("elapsed", "since the first trial began", "solid", ORANGE),
        ("worked", "of training, all workers", "dash", BLUE),
    )
    for row, (column, words, dash, color) in enumerate(panels, start=1):
        last = float(progress[column].max())
        seconds, unit = next(((s, u) for least, s, u in _TIMES if last >= least), (1, "seconds"))
        figure.add_scatter(
            x=[value / seconds for value in progress[column].tolist()],
            y=progress["incumbent"].tolist(),
            customdata=progress["number"].tolist(),
            name=column,
            mode="lines+markers",
            line={"color": color, "width": 2.5, "shape": "hv", "dash": dash},
            marker={"size": 4},
            hovertemplate=f"trial %{{customdata}}, %{{x:.3~g}} {unit}<br>incumbent %{{y:.2%}}"
            "<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_xaxes(title={"text": f"{unit} {words}", "standoff": 8}, row=row, col=1)
    figure.update_xaxes(rangemode="tozero", nticks=7)
    figure.update_yaxes(accuracy_axis(progress["incumbent"].tolist()), nticks=5)
    return figure


def _moment(time: datetime | None) -> float:
    assert time is not None
    return time.timestamp()
