"""What the choices of a design did: which mattered, accuracy by each, and all of them at once."""

import math
from itertools import chain

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from nas.architecture import LETTERS
from nas.report.document import Section, figure_section, section
from nas.report.tables import (
    PARAMETERS,
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
    TEXT,
    accuracy_axis,
    empty_figure,
    empty_panels,
    whole_axis,
)
from nas.report.words import listed
from nas.search.importances import Importances, importances, letter
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.text import are, plural, share, whole

TOO_FEW = 20  # designs trained to the end, for importances to be shown at all
ENOUGH = 50  # for them to be read: the best tenth has five then, as Optuna advises
_MOST_DESIGNS = 600  # drawn in a figure of all designs
_NAMES = ", ".join(f"{letter} {name.replace('_', ' ')}" for name, letter in LETTERS.items())
_NUMBER_OF = {  # what one number says of a choice that each stage makes
    "B": " in all",
    "C": ", widest stage",
    "F": ", largest",
    "K": ", largest",
}
_FEW_TICKS = 5
_FEW_VALUES = 12  # of a choice, for which the middle of each is shown
_ENOUGH = 3  # designs with a value, for its middle


def what_mattered(study: StudyRecord) -> Section:
    """What mattered, or how many designs are missing to tell."""
    heading = "What mattered"
    trained = sum(t.val_accuracy is not None for t in study.ranking)
    found = importances(study) if trained >= TOO_FEW else Importances(trained, (), ())
    designs = plural(found.designs, "design")
    if found.designs < TOO_FEW or not found.letters:
        return section(heading, caption=cannot_be_told(found.designs))
    mattered = importance_table(found)
    columns = (
        Column("name", "Choice", kind="text"),
        Column("letter", "Letter", kind="text"),
        Column("share", "Share", share),
        Column("chance", "Largest by chance", share),
        Column("beyond", "Beyond chance", lambda b: "yes" if b else "no", kind="text"),
    )
    best = max(1, -(-found.designs // 10))
    return figure_section(
        "importances",
        heading,
        _what_passed(found),
        table(mattered, columns, caption=heading),
        importances_figure(mattered, weak=found.designs < ENOUGH),
        note=f"Measured is how differently a choice was made in the best tenth ({whole(best)}) of "
        f"{designs} trained to the end than in all of them (PED-ANOVA, Optuna's default), summed "
        "over the stages. The search did not choose at random, the budget ties choices together, "
        "and later stages exist in some designs only: this says where to look, not what causes "
        "what. Designs that were stopped early are left out, since their accuracy is that of fewer "
        "epochs.",
    )


def cannot_be_told(designs: int) -> str:
    """Why so few designs do not show what mattered."""
    return (
        f"Which choices mattered cannot be told: {plural(designs, 'design')} of the space trained "
        f"to the end, and below {TOO_FEW} luck alone makes any choice look important. Designs that "
        "were stopped early do not count: their accuracy is that of fewer epochs."
    )


def _what_passed(found: Importances) -> str:
    """What to look at among importances."""
    text = (
        "Look at which bars pass the mark: of 19 times that the same accuracies were dealt out at "
        "random it is the largest bar of all, so where nothing matters one study in 20 has any bar "
        "beyond it; a bar that ends before it says nothing. "
    )
    beyond = listed([i.name for i in found.letters if i.is_beyond_chance])
    if found.designs >= ENOUGH:
        return text + (f"Beyond it: {beyond}." if beyond else "None ends beyond it.")
    passed = f"Beyond it, but not to be leaned on: {beyond}." if beyond else "None ends beyond it."
    return (
        f"{text}{passed} Grey, since {plural(found.designs, 'design')} are few: from {ENOUGH} on "
        "the best tenth has five, the least that Optuna advises."
    )


def importance_table(found: Importances) -> pd.DataFrame:
    """What mattered: first the letters, then the single choices, each by its `share`."""
    kinds = {"letter": found.letters, "choice": found.choices}
    return typed_frame(
        (
            {
                "kind": kind,
                "name": i.name,
                "letter": letter(i.name),
                "share": i.share,
                "chance": i.chance,
                "beyond": i.is_beyond_chance,
            }
            for kind, those in kinds.items()
            for i in those
        ),
        floats="share chance",
        texts="kind name letter",
        flags="beyond",
    )


def importances_figure(mattered: pd.DataFrame, *, weak: bool) -> go.Figure:
    """How much each letter mattered, `importance_table`, beside what chance gives.

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
    figure = empty_figure("share of the sum", "")
    figure.add_bar(
        orientation="h",
        y=names,
        x=letters["share"].tolist(),
        name="measured",
        marker={
            "color": [
                BLUE if beyond and not weak else PALE for beyond in letters["beyond"].tolist()
            ],
            "line": {"color": GREY, "width": 1},
        },
        hovertemplate="%{x:.0%}<extra></extra>",
    )
    figure.add_scatter(
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
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def slices(study: StudyRecord) -> Section:
    """Accuracy by each choice."""
    choices = choices_table(study)
    shown = thinned(choices, _MOST_DESIGNS)
    letters = (Column(letter, letter, integer) for letter in LETTERS.values())
    columns = (TRIAL, *letters, PARAMETERS, VAL_ACCURACY)
    return figure_section(
        "slices",
        "Accuracy by choice",
        "Look at whether a cloud rises or falls: a dot is a design trained to the end, an orange "
        "bar the median of a value with three designs or more. Choices hang together through the "
        f"budget, so one cloud alone is no proof. {_left_out(choices, shown)}",
        table(shown, columns, caption="Choices of each design"),
        None if choices.empty else slices_figure(shown),
        tall=True,
    )


def slices_figure(choices: pd.DataFrame) -> go.Figure:
    """Validation accuracy by each choice, `choices_table`, a panel per letter.

    Where a choice has few values, a bar is the middle (median) design of each that has three.
    """
    figure = empty_panels(3, 2, vertical_spacing=0.16, horizontal_spacing=0.1, shared_yaxes=True)
    for i, (choice, name) in enumerate(LETTERS.items()):
        words = f"{choice.replace('_', ' ')}{_NUMBER_OF.get(name, '')} ({name})"
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        known = choices.dropna(subset=[name])
        values = [int(value) for value in known[name].tolist()]
        figure.add_scatter(
            x=values,
            y=known["val_accuracy"].tolist(),
            customdata=known["number"].tolist(),
            name=name,
            mode="markers",
            marker={"color": BLUE, "size": 6, "opacity": 0.45},
            hovertemplate=f"trial %{{customdata}}, {name} %{{x}}<br>%{{y:.2%}}<extra></extra>",
            **place,
        )
        groups = known.groupby(name)["val_accuracy"]
        middle = groups.median()[groups.size() >= _ENOUGH]
        if len(middle) and known[name].nunique() <= _FEW_VALUES:
            figure.add_scatter(
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
                **place,
            )
        axis = {**whole_axis(values), "nticks": 4, "tickangle": 0}
        if len(set(values)) <= _FEW_TICKS:
            axis |= {"tickvals": sorted(set(values))}
        axis["title"] = {"text": words, "standoff": 6, "font": {"size": 11}}
        figure.update_xaxes(**axis, **place)
    figure.update_yaxes(accuracy_axis(choices["val_accuracy"].tolist()), nticks=5)
    return figure


def parallel(study: StudyRecord) -> Section:
    """All choices of each design at once."""
    choices = choices_table(study)
    shown = thinned(choices, _MOST_DESIGNS)
    return figure_section(
        "parallel",
        "Designs side by side",
        "Look at where the thick lines, the best tenth, run together: there the best designs "
        f"agree. A line is a design trained to the end; {_NAMES}; C, F and K are the largest of "
        f"the stages, the size is on a logarithmic axis. {_left_out(choices, shown)}",
        Markup("<p>The designs are those of the table under Accuracy by choice.</p>"),
        None if choices.empty else parallel_figure(shown),
    )


def parallel_figure(choices: pd.DataFrame) -> go.Figure:
    """Each design as a line over its choices, size and accuracy; the best tenth stands out.

    Lines are drawn as those of any figure: plotly's own parallel coordinates need WebGL and a
    script from text, which the page forbids.
    """
    figure = empty_figure("", "")
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
        figure.add_scatter(
            x=list(chain.from_iterable([*range(len(axes)), None] for _ in rows)),
            y=list(
                chain.from_iterable([*(_rounded(scaled[a][i]) for a in axes), None] for i in rows)
            ),
            text=list(chain.from_iterable([f"trial {numbers[i]}"] * (len(axes) + 1) for i in rows)),
            name=name,
            mode="lines",
            line={"color": color, "width": width},
            opacity=opacity,
            connectgaps=False,
            hoverinfo="text",
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
                font={"size": 10, "color": TEXT},
            )
    return figure


def choices_table(study: StudyRecord) -> pd.DataFrame:
    """What was chosen for each design trained to the end, one number per letter.

    N stages, B blocks in all, C channels of the widest stage, F the largest kernel, K the largest
    kernel of a projection shortcut (none without one), P the pool.
    """
    return typed_frame(
        (
            {
                "number": t.number,
                "N": t.architecture.stages,
                "B": sum(t.architecture.blocks),
                "C": max(t.architecture.channels),
                "F": max(t.architecture.kernels),
                "K": max(_projection_kernels(t), default=None),
                "P": t.architecture.pool,
                "parameters": t.parameters,
                "val_accuracy": t.val_accuracy,
            }
            for t in study.trials
            if t.outcome is Outcome.TRAINED and t.architecture is not None
            if t.val_accuracy is not None and t.parameters is not None
        ),
        integers=f"number {' '.join(LETTERS.values())} parameters",
        floats="val_accuracy",
    )


def _projection_kernels(trial: TrialRecord) -> list[int]:
    a = trial.architecture
    assert a is not None
    pairs = zip(a.shortcut_kernels, a.projections, strict=True)
    return [kernel for kernel, projection in pairs if projection]


def thinned(choices: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` rows in their order: the best fifth of them, and of the rest every so many.

    Args:
        choices: a table with `val_accuracy`.
        limit: of the rows, at least 5.
    """
    if len(choices) <= limit:
        return choices
    order = choices["val_accuracy"].to_numpy(dtype=float).argsort(kind="stable")[::-1]
    best = set(order[: limit // 5].tolist())
    rest = [i for i in range(len(choices)) if i not in best]
    wanted = limit - len(best)
    kept = {rest[i * len(rest) // wanted] for i in range(wanted)}
    return choices.iloc[sorted(best | kept)]


def _left_out(choices: pd.DataFrame, shown: pd.DataFrame) -> str:
    if len(shown) == len(choices):
        return ""
    return (
        f"{whole(len(shown))} of {plural(len(choices), 'design')} {are(len(shown))} shown: the "
        f"best {whole(_MOST_DESIGNS // 5)}, and every so many of the others."
    )


def _between(value: float, low: float, high: float, *, log: bool) -> float:
    """Where a value is between two others, 0..1; the middle when they are equal; nan stays."""
    if math.isnan(value):
        return value
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return 0.5 if high == low else (value - low) / (high - low)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _shown(name: str, value: float) -> str:
    if name == "val_accuracy":
        return share(value)
    if name != "parameters":
        return str(int(value))
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.{0 if value >= 10 * unit else 1}f}{suffix}"
    return str(int(value))
