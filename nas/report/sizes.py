"""The trade-off of accuracy and size: budget, Pareto front, and networks to compare with."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nas.architecture import PRESETS
from nas.counting import COSTS, count
from nas.final.records import FinalDesign, FinalRecord
from nas.final.references import DATASET, LITERATURE, PUBLISHED
from nas.final.words import epochs as epochs_in_words
from nas.final.words import seeds as seeds_in_words
from nas.report.axes import AccuracyAxis, size_axis
from nas.report.document import Section, figure_section, section
from nas.report.tables import (
    INTERVAL,
    OUTCOME,
    PARAMETERS,
    TRIAL,
    VAL_ACCURACY,
    Column,
    design_columns,
    table,
    typed_frame,
    with_interval,
)
from nas.report.theme import (
    GREEN,
    GREY,
    ORANGE,
    VIOLET,
    add_trials,
    compared,
    empty_figure,
    error_bars,
    hover,
    marks_in_words,
    plain,
    trials_axis,
)
from nas.report.trials import measured, trials_table
from nas.report.words import listed, search_values
from nas.statistics import difference_interval
from nas.study.chance import chance_of
from nas.study.records import StudyRecord, StudySettings
from nas.text import percent, plural, share, short_count, whole

PUBLISHED_KIND = "published"
MEASURED_KIND = "measured here"


def accuracy_by_size(
    study: StudyRecord,
    trials: pd.DataFrame,
    references: pd.DataFrame,
    deployed: int | None = None,
) -> Section:
    """The trials, `trials_table`, and `reference_table` by their parameters.

    `deployed` is the trial that the final training chose; without it, the incumbent is compared.
    """
    sized = measured(trials).dropna(subset=["parameters"])
    images = study.settings.validation_images
    caption, figure = cost_of_half_the_size(study, deployed), None
    if len(sized):
        figure = size_figure(
            sized,
            study.settings.limits.get("parameters"),
            None if study.incumbent is None else study.incumbent.number,
            deployed,
            # The figure's steps are over parameters: a front of mult-adds has none in it.
            front_table(study) if study.front_size == "parameters" else None,
            references,
            images=images,
            chance=chance_of(study),
        )
        caption += marks_in_words(figure, images)
        if {PUBLISHED_KIND, MEASURED_KIND} & {trace.name for trace in figure.data}:
            caption += (
                " Squares are other networks, named under Reference networks: test accuracies, "
                "which cannot be compared with the dots."
            )
    return figure_section(
        "size",
        "Accuracy against size",
        caption,
        table(
            sized,
            (TRIAL, OUTCOME, *design_columns(study), VAL_ACCURACY),
            caption="Accuracy against size",
        ),
        figure,
    )


def cost_of_half_the_size(study: StudyRecord, deployed: int | None = None) -> str:
    """By how much the best design of at most half the best one's parameters is less accurate.

    Where there is none, the smallest design is compared. The interval is that of the images alone,
    since each design was trained once. A trial that is `deployed` stands for the best one; a
    smaller design may then have been more accurate in the search.
    """
    chosen = next((trial for trial in study.ranking if trial.number == deployed), None)
    best = chosen or study.incumbent
    if best is None or best.val_accuracy is None or best.parameters is None:
        return "What a smaller design costs is not known: none was trained to the end."
    name = f"trial {best.number}, {'the chosen one' if chosen else 'the best'}"
    smaller = [
        (trial.parameters / best.parameters, trial.number, trial.val_accuracy)
        for trial in study.ranking
        if trial.parameters is not None and trial.val_accuracy is not None
        if trial.parameters < best.parameters
    ]
    if not smaller:
        return f"No design smaller than {name}, was trained to the end."
    halves = [found for found in smaller if found[0] <= 0.5]
    part, number, accuracy = halves[0] if halves else min(smaller, key=lambda found: found[0])
    more, less = max(best.val_accuracy, accuracy), min(best.val_accuracy, accuracy)
    cost = f"{'gains' if accuracy > less else 'costs'} {100 * (more - less):.2f} points"
    cost += " in the search" if chosen else ""
    images = study.settings.validation_images
    if images:
        gap = difference_interval(more, images, less, images)
        cost += f" (95% interval {100 * gap.low:.2f} to {100 * gap.high:.2f}"
        cost += f", so {plural(images, 'image')} cannot show a difference)" if gap.low <= 0 else ")"
    if halves:
        return (
            f"Trial {number}, with {100 * part:.2g}% of the parameters of {name}, {cost}: "
            f"{percent(accuracy)} instead of {percent(best.val_accuracy)}."
        )
    return (
        f"No design of half the size was trained to the end; the smallest, trial {number}, has "
        f"{part:.0%} of the parameters of {name}, and {cost}."
    )


def size_figure(
    trials: pd.DataFrame,
    max_parameters: int | None,
    incumbent: int | None,
    deployed: int | None = None,
    front: pd.DataFrame | None = None,
    references: pd.DataFrame | None = None,
    *,
    images: int = 0,
    chance: float | None = None,
) -> go.Figure:
    """Validation accuracy against parameters.

    The deployed design, or else the incumbent, is a star, and the front, `front_table`, a step
    line: the best accuracy of the designs that are no larger. Of the references, `reference_table`,
    those within the budget are squares with their mark, open where published, filled and with their
    interval where measured here; those far from the accuracies of the trials are left out.

    Args:
        trials: `trials_table`.
        max_parameters: the budget, a line.
        incumbent: its trial.
        deployed: the trial that the final training chose.
        front: see above.
        references: see above.
        images: that trials were measured on, for their intervals; 0: none are drawn.
        chance: accuracy of guessing, a line where it is in view.
    """
    trials = measured(trials).dropna(subset=["parameters"])
    others = reference_frame(()) if references is None else references[references["fits"]]
    axis = trials_axis(trials, others["accuracy"].tolist(), images=images)
    others = others[others["accuracy"].map(axis.holds).astype(bool)]
    figure = empty_figure("parameters", "")
    add_trials(figure, trials, "parameters", axis, images=images)
    if front is not None and len(front) > 1:
        figure.add_scatter(
            x=front["parameters"].tolist(),
            y=axis.y(front["val_accuracy"]),
            name="Pareto front",
            mode="lines",
            line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dot"},
            hoverinfo="skip",
        )
    number, name = (incumbent, "incumbent") if deployed is None else (deployed, "chosen")
    best = trials[trials["number"] == (-1 if number is None else number)]
    if len(best):
        figure.add_scatter(
            x=best["parameters"].tolist(),
            y=axis.y(best["val_accuracy"]),
            name=name,
            mode="markers",
            marker={"color": ORANGE, "size": 17, "symbol": "star"},
            **hover(best, "parameters", name),
        )
    sizes = [*trials["parameters"].tolist(), *others["parameters"].tolist()]
    sizes += [] if max_parameters is None else [max_parameters]
    known = compared(trials).dropna(subset=["preset"])
    known = known[known["val_accuracy"].map(axis.holds).astype(bool)]
    if len(known):
        figure.add_scatter(
            x=known["parameters"].tolist(),
            y=axis.y(known["val_accuracy"]),
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
    for kind, marks in others.groupby("kind", sort=True):
        _add_squares(figure, axis, marks, str(kind))
    figure.update_xaxes(size_axis(sizes))
    figure.update_yaxes(axis.layout("validation accuracy" if others.empty else "accuracy"))
    if max_parameters is not None:
        place = {"x0": max_parameters, "x1": max_parameters, "y0": 0, "y1": 1, "yref": "paper"}
        _add_line(figure, f"budget: {short_count(max_parameters)}", "dash", **place)
    if chance is not None and axis.holds(chance):
        (y,) = axis.y([chance])
        _add_line(figure, f"chance: {share(chance)}", "dot", x0=0, x1=1, xref="paper", y0=y, y1=y)
    return figure


def _add_line(figure: go.Figure, name: str, dash: str, **place: Any) -> None:
    line = {"color": GREY, "width": 2, "dash": dash}
    figure.add_shape(type="line", line=line, name=name, showlegend=True, **place)


def _add_squares(
    figure: go.Figure, axis: AccuracyAxis, references: pd.DataFrame, kind: str
) -> None:
    """Reference networks of one kind, which are test accuracies: never like a trial's dot."""
    is_measured = bool(references["low"].notna().all())
    color = GREEN if is_measured else VIOLET
    ends = zip(references["low"].tolist(), references["high"].tolist(), strict=True)
    bars = (
        error_bars(axis, references["accuracy"].tolist(), ends) | {"color": color, "thickness": 2}
        if is_measured
        else None
    )
    figure.add_scatter(
        x=references["parameters"].tolist(),
        y=axis.y(references["accuracy"]),
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
        error_y=bars,
        hovertext=[
            f"{plain(row['mark'])}: {plain(row['name'])}, {plain(kind)}<br>"
            f"{whole(row['parameters'])} parameters, test accuracy {percent(row['accuracy'])}<br>"
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
    rows = table(best, (TRIAL, *design_columns(study), VAL_ACCURACY), caption="Pareto front")
    return section("Pareto front", rows, caption=front_caption(study))


def front_table(study: StudyRecord) -> pd.DataFrame:
    """The Pareto front of accuracy and the study's `front_size`, the smallest design first."""
    return trials_table(study.pareto_front(study.front_size))


def front_caption(study: StudyRecord) -> str:
    """What a Pareto front is, and what this one is not."""
    how = (
        "Designs of every size were proposed for it"
        if any("," in objectives for objectives in search_values(study, "objectives"))
        else "The search looked for accuracy alone, not for small designs"
    )
    return (
        "The smallest designs for their accuracy: each is more accurate than all designs trained "
        f"to the end that have no more {COSTS[study.front_size].units}. {how}; neighbours "
        "that hardly differ may swap places."
    )


def references(references: pd.DataFrame) -> Section | None:
    """Which networks the squares of the figure of accuracy and size are; None without any."""
    if references.empty:
        return None
    columns = (
        Column("mark", "Mark", kind="text"),
        Column("name", "Network", kind="text"),
        PARAMETERS,
        Column("limits", "Limits", kind="text"),
        Column("accuracy", "Test accuracy", percent),
        INTERVAL,
        Column("kind", "Kind", kind="text"),
        Column("source", "Source", kind="text long"),
    )
    return section(
        "Reference networks",
        table(with_interval(references), columns, caption="Reference networks"),
        caption="The squares of the trade-off, and those over the limits or too far away to be "
        "drawn. All are test accuracies, while a search sees validation images alone. Open "
        "squares are published values: trained elsewhere, differently and mostly longer, so they "
        "show what is possible at a size, not what the design alone is worth. Filled squares were "
        "measured here, all in the same final training.",
    )


def reference_table(study: StudyRecord, final: FinalRecord | None) -> pd.DataFrame:
    """Other networks to compare with, the smallest first, each with a `mark`: A, B, C, ...

    Published ones only for the dataset they were measured on. `low` and `high` are the 95% interval
    of what was measured here; it is the mean over seeds of the chosen design and of the references
    that the last final training trained. `fits` says whether it is within the study's limits as far
    as its costs are known, and `limits` which of them that was.
    """
    rows: list[dict[str, Any]] = [*_published(study), *(_measured(final) if final else [])]
    rows.sort(key=lambda row: (row["parameters"], row["name"], row["kind"]))
    return reference_frame(
        {**row, "mark": _mark(i), **_within(row, study.settings)} for i, row in enumerate(rows)
    )


def _within(row: Mapping[str, Any], settings: StudySettings) -> dict[str, object]:
    """Whether a network is within the limits, as far as its costs are known, and in words."""
    known = {name: most for name, most in settings.limits.items() if row.get(name) is not None}
    if any(row[name] > most for name, most in known.items()):
        return {"fits": False, "limits": "over the limits"}
    if len(known) == len(settings.limits) and settings.latency is None:
        return {"fits": True, "limits": "within"}
    within = f"{listed([COSTS[name].title for name in known])} within"
    return {"fits": True, "limits": within if known else "not known"}


def reference_frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Reference networks as a table."""
    return typed_frame(
        rows,
        integers="parameters",
        floats="accuracy low high",
        texts="mark name kind source limits",
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
            **(
                asdict(count(PRESETS[name], s.input))
                if name in PUBLISHED
                else {"parameters": known.parameters}
            ),
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
