"""Accuracy and size: the budget, the Pareto front, and other networks to compare with."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nas.architecture import PRESETS
from nas.counting import COSTS, count
from nas.final.records import FinalDesign, FinalRecord
from nas.final.references import DATASET, LITERATURE, PUBLISHED
from nas.final.words import epochs as epochs_in_words
from nas.final.words import seeds as seeds_in_words
from nas.report.document import Section, figure_section, section
from nas.report.tables import (
    DESIGN,
    INTERVAL,
    OUTCOME,
    PARAMETERS,
    TRIAL,
    VAL_ACCURACY,
    Column,
    table,
    typed_frame,
    with_interval,
)
from nas.report.theme import (
    GREEN,
    GREY,
    ORANGE,
    VIOLET,
    accuracy_axis,
    add_dots,
    empty_figure,
    hover,
    plain,
)
from nas.report.trials import measured, trials_table
from nas.report.words import STOPPED, TRAINED, said_by_searches
from nas.study.records import StudyRecord
from nas.text import percent, whole

PUBLISHED_KIND = "published (test accuracy, other training)"
MEASURED_KIND = "measured here (test accuracy)"


def accuracy_by_size(study: StudyRecord, trials: pd.DataFrame, references: pd.DataFrame) -> Section:
    """The trials, `trials_table`, and `reference_table` by their parameters."""
    sized = measured(trials).dropna(subset=["parameters"])
    # The figure's steps are over parameters: a front of mult-adds has none in it.
    front = front_table(study) if study.front_size == "parameters" else None
    caption = (
        "Look at how close the best designs come to the budget (dashed), and what smaller ones "
        f"give up{'' if front is None else ' (the dotted steps)'}."
    )
    if not references.empty:
        caption += (
            " Squares are other networks, named under Reference networks: test accuracies, which "
            "are not to be compared with the dots of a search."
        )
    best = None if study.incumbent is None else study.incumbent.number
    budget = study.settings.limits.get("parameters")
    return figure_section(
        "size",
        "Accuracy and size",
        caption,
        table(sized, (TRIAL, OUTCOME, *DESIGN, VAL_ACCURACY), caption="Accuracy and size"),
        None if sized.empty else size_figure(sized, budget, best, front, references),
    )


def size_figure(
    trials: pd.DataFrame,
    max_parameters: int | None,
    incumbent: int | None,
    front: pd.DataFrame | None = None,
    references: pd.DataFrame | None = None,
) -> go.Figure:
    """Validation accuracy against parameters.

    The budget is a line, the incumbent a star and the front, `front_table`, a step line: the best
    accuracy of the designs that are no larger. Of the references, `reference_table`, those within
    the budget are squares with their mark: open where published, filled and with their interval
    where measured here.
    """
    trials = trials.dropna(subset=["val_accuracy", "parameters"])
    others = None if references is None else references[references["fits"]]
    known_others = others is not None and len(others) > 0
    figure = empty_figure("parameters", "accuracy" if known_others else "validation accuracy")
    add_dots(figure, trials, "parameters", STOPPED)
    add_dots(figure, trials, "parameters", TRAINED)
    if front is not None and len(front) > 1:
        figure.add_scatter(
            x=front["parameters"].tolist(),
            y=front["val_accuracy"].tolist(),
            name="Pareto front",
            mode="lines",
            line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dot"},
            hoverinfo="skip",
        )
    best = trials[trials["number"] == incumbent] if incumbent is not None else trials.head(0)
    if len(best):
        figure.add_scatter(
            x=best["parameters"].tolist(),
            y=best["val_accuracy"].tolist(),
            name="incumbent",
            mode="markers",
            marker={"color": ORANGE, "size": 17, "symbol": "star"},
            **hover(best, "parameters", "incumbent"),
        )
    sizes = trials["parameters"].tolist() + ([] if max_parameters is None else [max_parameters])
    known = trials.dropna(subset=["preset"])
    if len(known):
        figure.add_scatter(
            x=known["parameters"].tolist(),
            y=known["val_accuracy"].tolist(),
            name="known designs",
            mode="markers+text",
            text=[plain(name) for name in known["preset"]],
            textposition=[  # towards the middle: most lie close to the budget
                "middle left" if size > max(sizes) / 3 else "middle right"
                for size in known["parameters"]
            ],
            marker={"color": ORANGE, "size": 14, "symbol": "diamond-open"},
            hoverinfo="skip",
        )
    accuracies = trials["val_accuracy"].tolist()
    if others is not None and known_others:
        for kind, marks in others.groupby("kind", sort=True):
            _add_squares(figure, marks, str(kind))
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
    figure.update_yaxes(accuracy_axis(accuracies))
    if max_parameters is not None:
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


def _add_squares(figure: go.Figure, references: pd.DataFrame, kind: str) -> None:
    """Reference networks of one kind, which are test accuracies: never like a trial's dot."""
    is_measured = bool(references["low"].notna().all())
    color = GREEN if is_measured else VIOLET
    bars = {
        "type": "data",
        "symmetric": False,
        "array": (references["high"] - references["accuracy"]).tolist(),
        "arrayminus": (references["accuracy"] - references["low"]).tolist(),
        "color": color,
        "thickness": 2,
    }
    figure.add_scatter(
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
            "symbol": "square" if is_measured else "square-open",
            "line": {"width": 2, "color": color},
        },
        error_y=bars if is_measured else None,
        hovertext=[
            f"{plain(row['mark'])}: {plain(row['name'])}, {plain(kind)}<br>"
            f"{whole(row['parameters'])} parameters, {percent(row['accuracy'])}<br>"
            f"{plain(row['source'])}"
            for _, row in references.iterrows()
        ],
        hoverinfo="text",
    )


def front(study: StudyRecord) -> Section | None:
    """The Pareto front; None where one design is the best of all sizes, as the ranking says."""
    best = front_table(study)
    if len(best) < 2:
        return None
    rows = table(best, (TRIAL, *DESIGN, VAL_ACCURACY), caption="Pareto front")
    return section("Pareto front", rows, caption=front_caption(study))


def front_table(study: StudyRecord) -> pd.DataFrame:
    """The Pareto front of accuracy and the study's `front_size`, the smallest design first."""
    return trials_table(study.pareto_front(study.front_size))


def front_caption(study: StudyRecord) -> str:
    """What a Pareto front is, and what this one is not."""
    how = (
        "Designs of every size were proposed for it"
        if any("," in objectives for objectives in said_by_searches(study, "objectives"))
        else "The search was for accuracy alone and did not look for small designs"
    )
    return (
        "The smallest designs for what they reach: each is more accurate than all designs trained "
        f"to the end that have no more {COSTS[study.front_size].units}. {how}; neighbours "
        "that hardly differ may change places."
    )


def references(references: pd.DataFrame) -> Section | None:
    """Which networks the squares of the figure of accuracy and size are; None without any."""
    if references.empty:
        return None
    columns = (
        Column("mark", "Mark", kind="text"),
        Column("name", "Network", kind="text"),
        PARAMETERS,
        Column("fits", "Limits", lambda fits: "within" if fits else "over, not drawn", kind="text"),
        Column("accuracy", "Test accuracy", percent),
        INTERVAL,
        Column("kind", "What it is", kind="text"),
        Column("source", "Source", kind="text long"),
    )
    shown = with_interval(references.assign(kind=references["kind"].str.partition(" (")[0]))
    return section(
        "Reference networks",
        table(shown, columns, caption="Reference networks"),
        caption="The squares in the figure of accuracy and size. All are test accuracies, while a "
        "search sees validation images alone. Open squares were published: trained elsewhere, in "
        "other ways, and mostly longer, so they show what is possible at a size, not what the "
        "design alone is worth. Filled ones were measured here, in one final training, alike.",
    )


def reference_table(study: StudyRecord, final: FinalRecord | None) -> pd.DataFrame:
    """Other networks to compare with, the smallest first, each with a `mark`: A, B, C, ...

    Published ones only for the dataset they were measured on. `low` and `high` are the 95% interval
    of what was measured here; it is the mean over seeds of the chosen design and of the references
    that the last final training trained. `fits` says whether it is within the study's limits, as
    far as its costs are known.
    """
    rows: list[dict[str, Any]] = [*_published(study), *(_measured(final) if final else [])]
    rows.sort(key=lambda row: (row["parameters"], row["name"], row["kind"]))
    limits = study.settings.limits
    return typed_frame(
        (
            {
                **row,
                "mark": _mark(i),
                "fits": all(row.get(name, 0) <= most for name, most in limits.items()),
            }
            for i, row in enumerate(rows)
        ),
        integers="parameters",
        floats="accuracy low high",
        texts="mark name kind source",
        flags="fits",
    )


def _published(study: StudyRecord) -> list[dict[str, object]]:
    s = study.settings
    if s.dataset != DATASET:
        return []
    return [
        {
            "name": name,
            "kind": PUBLISHED_KIND,
            "parameters": known.parameters or count(PRESETS[name], s.input).parameters,
            "accuracy": known.accuracy,
            "source": known.source,
        }
        for name, known in {**PUBLISHED, **LITERATURE}.items()
    ]


def _measured(final: FinalRecord) -> list[dict[str, object]]:
    seeds = ("mean of " if len(final.seeds) > 1 else "") + seeds_in_words(final)
    named: list[tuple[str, FinalDesign]] = [
        (f"{final.chosen.name}, chosen", final.chosen),
        *((design.name, design) for design in final.references),
    ]
    return [
        {
            "name": name,
            "kind": MEASURED_KIND,
            **{cost: getattr(design, cost) for cost in COSTS},
            "accuracy": design.test.mean.value,
            "low": design.test.mean.low,
            "high": design.test.mean.high,
            "source": f"recipe {final.recipe_name}, {epochs_in_words(final)}, {seeds}",
        }
        for name, design in named
        if design.test is not None
    ]


def _mark(i: int) -> str:
    return chr(ord("A") + i % 26) + (str(i // 26 + 1) if i >= 26 else "")
