"""How the search went: what became of the proposals, and the incumbent over trials and time."""

from datetime import datetime
from itertools import accumulate

import pandas as pd
import plotly.graph_objects as go

from nas.report import overview
from nas.report.axes import accuracy_axis, whole_axis
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
    add_trials,
    empty_figure,
    empty_panels,
    marks_in_words,
    rounded,
    trials_axis,
)
from nas.report.trials import measured
from nas.report.words import (
    QUEUED_AGAIN,
    STOPPED,
    TRAINED,
    WITHOUT_OUTCOME,
    is_time_up,
    listed,
    outcome_name,
    status,
)
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.text import duration, percent, plural, share, whole

_PROPOSED = "proposed"
_STEPS = (
    outcome_name(Outcome.OVER_BUDGET),
    outcome_name(Outcome.DUPLICATE),
    QUEUED_AGAIN,
    outcome_name(Outcome.FAILED),
    outcome_name(Outcome.OUT_OF_MEMORY),
    outcome_name(Outcome.DIVERGED),
    *WITHOUT_OUTCOME,
    STOPPED,
    TRAINED,
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
        where_the_time_went(study),
        table(steps, columns, caption="What became of the proposals"),
        funnel_figure(steps) if study.trials else None,
    )


def where_the_time_went(study: StudyRecord) -> str:
    """Which share of the training time went to which trials, and which trials took none."""
    spent: dict[str, list[float]] = {}
    for trial in study.trials:
        if trial.seconds is not None:
            spent.setdefault(_kind(trial), []).append(trial.seconds)
    total = sum(map(sum, spent.values()))
    unbuilt = study.outcomes[Outcome.OVER_BUDGET] + study.outcomes[Outcome.DUPLICATE]
    free = (
        f" {plural(unbuilt, 'proposal')} over the budget or the same as an earlier one took none."
        if unbuilt
        else ""
    )
    if total <= 0:
        return f"No training time was recorded.{free}"
    parts = [
        f"{plural(len(seconds), 'run')} {kind} ({sum(seconds) / total:.0%})"
        for kind, seconds in sorted(spent.items(), key=lambda item: -sum(item[1]))
    ]
    return f"{duration(total)} of training went to {listed(parts)}.{free}"


def _kind(trial: TrialRecord) -> str:
    if is_time_up(trial):
        return "stopped at the time limit"
    kinds = {Outcome.TRAINED: "trained to the end", Outcome.STOPPED_EARLY: "stopped early"}
    other = "that diverged, failed or did not end"
    return kinds.get(trial.outcome, other) if trial.outcome else other


def funnel_table(study: StudyRecord) -> pd.DataFrame:
    """What became of the proposals: `step`, `trials`, their `share`, and how many were `left`.

    The first row is all proposals; the others add up to it. `left` counts those that a step and all
    later ones hold. Steps that no trial ended in are left out, but for the last, `trained`.
    """
    ended = dict.fromkeys(_STEPS, 0)
    for trial in study.trials:
        ended[status(trial)] += 1
    total = left = len(study.trials)
    rows = [{"step": _PROPOSED, "trials": total, "share": 1.0 if total else None, "left": total}]
    for step, trials in ended.items():
        if trials or step == TRAINED:
            part = trials / total if total else None
            rows.append({"step": step, "trials": trials, "share": part, "left": left})
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
    shown, incumbents = measured(trials), incumbent_table(study)
    steps = shown.merge(incumbents[["number", "incumbent"]], how="left", on="number")
    images = study.settings.validation_images
    figure = None if shown.empty else history_figure(shown, incumbents, images=images)
    columns = (TRIAL, OUTCOME, VAL_ACCURACY, Column("incumbent", "Incumbent (trial)", integer))
    return figure_section(
        "history",
        "How the search went",
        overview.last_gain(study) + ("" if figure is None else marks_in_words(figure, images)),
        table(steps, columns, caption="How the search went"),
        figure,
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


def history_figure(trials: pd.DataFrame, incumbents: pd.DataFrame, *, images: int = 0) -> go.Figure:
    """Validation accuracy by trial number, and the incumbent as a step line.

    Args:
        trials: `trials_table`.
        incumbents: `incumbent_table`.
        images: that accuracies were measured on, for their intervals; 0: none are drawn.
    """
    trials = measured(trials)
    incumbents = incumbents.dropna(subset=["val_accuracy"])
    figure = empty_figure("trial", "")
    axis = trials_axis(trials, images=images)
    add_trials(figure, trials, "number", axis, images=images)
    if len(incumbents):
        last = incumbents.iloc[-1]
        end = max(int(trials["number"].max()), int(last["number"]))
        figure.add_scatter(
            x=[*incumbents["number"].tolist(), end],
            y=axis.y([*incumbents["val_accuracy"].tolist(), last["val_accuracy"]]),
            name="incumbent",
            mode="lines",
            line={"color": ORANGE, "width": 2.5, "shape": "hv"},
            hoverinfo="skip",
        )
    figure.update_xaxes(whole_axis(trials["number"].tolist()))
    return figure.update_yaxes(axis.layout("validation accuracy"))


def over_time(study: StudyRecord) -> Section:
    """The incumbent over time."""
    progress = progress_table(study)
    columns = (
        TRIAL,
        Column("elapsed", "Since the first trial", duration, exact=True),
        Column("worked", "Training, all workers", duration, exact=True),
        Column("incumbent", "Incumbent's validation accuracy", percent),
    )
    return figure_section(
        "time",
        "The incumbent over time",
        "" if progress.empty else time_of_the_last_gain(study, progress),
        table(progress, columns, caption="The incumbent over time"),
        None if progress.empty else over_time_figure(progress),
    )


def time_of_the_last_gain(study: StudyRecord, progress: pd.DataFrame) -> str:
    """When the best design of `progress_table` was found, in wall-clock and in training time."""
    gain = progress[progress["incumbent"] == progress["incumbent"].max()].iloc[0]
    starts = [_moment(t.started) for t in study.trials if t.started is not None]
    ends = [_moment(t.finished) for t in study.trials if t.finished is not None]
    worked = sum(t.seconds or 0.0 for t in study.trials)
    return (
        f"The last gain came after {duration(gain['elapsed'])} of "
        f"{duration(max(ends) - min(starts))} of wall-clock time (above; including pauses between "
        f"searches), and after {duration(gain['worked'])} of {duration(worked)} of training time "
        "(below; all workers)."
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
        ("elapsed", "since the first trial started", "solid", ORANGE),
        ("worked", "of training, all workers", "dash", BLUE),
    )
    accuracies = rounded(progress["incumbent"])
    axis = accuracy_axis(accuracies)
    for row, (column, words, dash, color) in enumerate(panels, start=1):
        last = float(progress[column].max())
        seconds, unit = next(((s, u) for least, s, u in _TIMES if last >= least), (1, "seconds"))
        figure.add_scatter(
            x=[value / seconds for value in progress[column].tolist()],
            y=axis.y(accuracies),
            customdata=list(zip(progress["number"].tolist(), accuracies, strict=True)),
            name=column,
            mode="lines+markers",
            line={"color": color, "width": 2.5, "shape": "hv", "dash": dash},
            marker={"size": 4},
            hovertemplate=f"trial %{{customdata[0]}}, %{{x:.3~g}} {unit}<br>"
            "incumbent %{customdata[1]:.2%}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_xaxes(title={"text": f"{unit} {words}", "standoff": 8}, row=row, col=1)
    figure.update_xaxes(rangemode="tozero", nticks=7)
    return figure.update_yaxes(axis.layout(ticks=4))


def _moment(time: datetime | None) -> float:
    assert time is not None
    return time.timestamp()
