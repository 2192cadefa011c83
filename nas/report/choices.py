"""What the choices of a design did: which mattered, and accuracy by each."""

import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from nas.architecture import LETTERS
from nas.report.axes import AccuracyAxis, accuracy_axis, whole_axis
from nas.report.document import Section, figure_section, section
from nas.report.tables import (
    PARAMETERS,
    TRIAL,
    VAL_ACCURACY,
    Column,
    integer,
    spread,
    table,
    typed_frame,
)
from nas.report.theme import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    empty_figure,
    empty_panels,
    rounded,
)
from nas.report.words import listed
from nas.search.importances import Importances, importances, letter
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.text import are, plural, share, whole

TOO_FEW = 20  # designs trained to the end, for importances to be shown at all
ENOUGH = 50  # for them to be read: the best tenth has five then, as Optuna recommends
_MOST_DESIGNS = 600  # drawn in a figure of all designs
_NUMBER_OF = {  # what one number says of a choice that each stage makes
    "B": " in all",
    "C": ", widest stage",
    "F": ", largest",
    "K": ", largest",
}
_FEW_TICKS = 5
_FEW_VALUES = 12  # of a choice, for which the middle of each is shown
_CHANCE = 0.05  # of naming a choice that goes with accuracy where none does
_ENOUGH = 3  # designs with a value, for its middle


def what_mattered(study: StudyRecord) -> Section:
    """What mattered, or how many designs are missing to tell."""
    heading = "What mattered"
    found, words = importances_in_words(study)
    if not found.letters:
        return section(heading, caption=words)
    designs = plural(found.designs, "design")
    mattered = importance_table(found)
    columns = (
        Column("name", "Choice", kind="text"),
        Column("letter", "Letter", kind="text"),
        Column("share", "Share", share),
        Column("chance", "Largest by chance alone", share),
        Column("beyond", "Beyond chance", lambda b: "yes" if b else "no", kind="text"),
    )
    best = max(1, -(-found.designs // 10))
    return figure_section(
        "importances",
        heading,
        words,
        table(mattered, columns, caption=heading),
        importances_figure(mattered, weak=found.designs < ENOUGH),
        note="A bar shows how much the values of a choice in the best tenth "
        f"({whole(best)}) of {designs} trained to the end differ from those in all of them "
        "(PED-ANOVA, Optuna's default), summed over the stages. The search did not choose at "
        "random, the limits link choices, and later stages exist in some designs only: this "
        "shows where to look, not what causes what. Designs that were stopped early are left out, "
        "since their accuracy is that of fewer epochs.",
    )


def importances_in_words(study: StudyRecord) -> tuple[Importances, str]:
    """What mattered, none of it where too few designs can be compared, and how sure that is."""
    trained = sum(t.val_accuracy is not None for t in study.ranking)
    found = importances(study) if trained >= TOO_FEW else Importances(trained, (), ())
    if found.designs >= TOO_FEW and found.letters:
        return found, _what_passed(found)
    return Importances(found.designs, (), ()), _cannot_be_told(found.designs)


def _cannot_be_told(designs: int) -> str:
    return (
        f"Which choices mattered cannot be told: {plural(designs, 'design')} of the space "
        f"{'was' if designs == 1 else 'were'} trained to the end, and with fewer than {TOO_FEW}, "
        "chance alone makes any choice look important. Designs that were stopped early do not "
        "count: their accuracy is that of fewer epochs."
    )


def _what_passed(found: Importances) -> str:
    """Which choices mattered, and how reliable that is."""
    beyond = listed([_called(i.name) for i in found.letters if i.is_beyond_chance])
    weak = found.designs < ENOUGH
    if not beyond:
        text = "Which choice mattered cannot be told: no bar ends beyond its mark."
    elif weak:
        text = f"Perhaps {beyond} mattered, but this is not reliable."
    else:
        text = f"What mattered: {beyond}."
    text += (
        " The mark is the largest bar in 19 random shuffles of the same accuracies: if nothing "
        "matters, one study in 20 has a bar beyond it."
    )
    if weak:
        text += (
            f" Grey because {plural(found.designs, 'design')} are few: from {ENOUGH} on, the best "
            "tenth has five, the minimum that Optuna recommends."
        )
    return text


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
        weak: whether the designs are too few to rely on it; all bars are grey then.
    """
    letters = mattered[mattered["kind"] == "letter"]
    names = [_called(n).replace("shortcut ", "shortcut<br>") for n in letters["name"].tolist()]
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
        name="largest bar by chance alone",
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
        f"{what_goes_with_accuracy(choices)} A dot is a design trained to the end, an orange bar "
        "the median of all designs with a value, where they are three or more. The budget links "
        f"choices, so one of them alone proves nothing.{_left_out(choices, shown)}",
        table(shown, columns, caption="Choices of each design"),
        None if choices.empty else slices_figure(choices),
        tall=True,
    )


def what_goes_with_accuracy(choices: pd.DataFrame) -> str:
    """With which choices of `choices_table` accuracy rises or falls, beyond chance.

    Spearman's rank correlation differs from 0 at the 5% level, shared out over the choices that
    were tested (Bonferroni), so that one study in 20 at most names a choice where none matters.
    Tested are those that differ at all, in `TOO_FEW` designs or more that have them: without a
    projection there is no K.
    """
    if len(choices) < TOO_FEW:
        return (
            f"With which choice accuracy rises cannot be told from {plural(len(choices), 'design')}"
            f"; {TOO_FEW} are needed."
        )
    found = {}
    for name in LETTERS.values():
        known = choices.dropna(subset=[name])
        values, accuracies = known[name].tolist(), known["val_accuracy"].tolist()
        if len(known) >= TOO_FEW and len(set(values)) > 1 and len(set(accuracies)) > 1:
            found[name] = stats.spearmanr(values, accuracies)
    sure = {n: float(c.statistic) for n, c in found.items() if c.pvalue * len(found) < _CHANCE}
    if not sure:
        return "Accuracy does not rise or fall with any choice by more than chance."
    parts = [
        f"{'rises' if r > 0 else 'falls'} with {_called(n)} (rank correlation {r:+.2f})"
        for n, r in sorted(sure.items(), key=lambda item: -abs(item[1]))
    ]
    others = listed([_called(name) for name in found if name not in sure])
    return f"Accuracy {listed(parts)}" + (
        f"; with {others} it does so by no more than chance." if others else "."
    )


def _called(letter: str, number: str = "") -> str:
    """A choice by its name, which number of it, and its letter; without a letter by its name."""
    names = {letter: f"{name}{number} ({letter})" for name, letter in LETTERS.items()}
    return names.get(letter, letter).replace("_", " ")


def slices_figure(choices: pd.DataFrame) -> go.Figure:
    """Validation accuracy by each choice, `choices_table`, a panel per letter.

    Where a choice has few values, a bar is the median of all designs with one, if they are three.
    The dots of designs that are far below the others are left out, and so are some of very many.
    """
    figure = empty_panels(3, 2, vertical_spacing=0.16, horizontal_spacing=0.1, shared_yaxes=True)
    axis = accuracy_axis(choices["val_accuracy"].tolist())
    drawn = _near(thinned(choices, _MOST_DESIGNS), axis)
    for i, name in enumerate(LETTERS.values()):
        words = _called(name, _NUMBER_OF.get(name, ""))
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        known = choices.dropna(subset=[name])
        values = [int(value) for value in known[name].tolist()]
        dots = drawn.dropna(subset=[name])
        accuracies = rounded(dots["val_accuracy"])
        figure.add_scatter(
            x=[int(value) for value in dots[name].tolist()],
            y=axis.y(accuracies),
            customdata=list(zip(dots["number"].tolist(), accuracies, strict=True)),
            name=name,
            mode="markers",
            marker={"color": BLUE, "size": 6, "opacity": 0.45},
            hovertemplate=f"trial %{{customdata[0]}}, {name} %{{x}}<br>%{{customdata[1]:.2%}}"
            "<extra></extra>",
            **place,
        )
        groups = known.groupby(name)["val_accuracy"]
        middle = groups.median()[groups.size() >= _ENOUGH]
        middle = middle[middle.map(axis.holds).astype(bool)]
        if len(middle) and known[name].nunique() <= _FEW_VALUES:
            figure.add_scatter(
                x=[int(value) for value in middle.index],
                y=axis.y(middle),
                customdata=rounded(middle),
                name=f"{name}, median",
                mode="markers",
                marker={
                    "symbol": "line-ew-open",
                    "size": 18,
                    "color": ORANGE,
                    "line": {"width": 3, "color": ORANGE},
                },
                hovertemplate=f"median of {name} %{{x}}: %{{customdata:.2%}}<extra></extra>",
                **place,
            )
        ticks: dict[str, object] = {**whole_axis(values), "nticks": 4, "tickangle": 0}
        if len(set(values)) <= _FEW_TICKS:
            ticks |= {"tickvals": sorted(set(values))}
        ticks["title"] = {"text": words, "standoff": 6, "font": {"size": 11}}
        figure.update_xaxes(**ticks, **place)
    figure.update_yaxes(axis.layout(ticks=4))
    return figure.update_yaxes(title_text="", col=2)  # the same scale as in the first


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
    """At most `limit` rows in their order: the best fifth of them, others at regular intervals.

    Args:
        choices: a table with `val_accuracy`.
        limit: of the rows, at least 5.
    """
    if len(choices) <= limit:
        return choices
    order = choices["val_accuracy"].to_numpy(dtype=float).argsort(kind="stable")[::-1]
    best = set(order[: limit // 5].tolist())
    return choices.iloc[sorted(spread(range(len(choices)), best, limit))]


def _near(choices: pd.DataFrame, axis: AccuracyAxis) -> pd.DataFrame:
    """Those that are not far below the others."""
    return choices[choices["val_accuracy"].map(axis.holds).astype(bool)]


def _left_out(choices: pd.DataFrame, shown: pd.DataFrame) -> str:
    """Which dots are not drawn, as further sentences; empty where all are."""
    text = ""
    if len(shown) < len(choices):
        text = (
            f" {whole(len(shown))} of {plural(len(choices), 'design')} {are(len(shown))} shown: "
            f"the best {whole(_MOST_DESIGNS // 5)}, and others at regular intervals."
        )
    far = len(shown) - len(_near(shown, accuracy_axis(choices["val_accuracy"].tolist())))
    if far:
        text += f" {whole(far)} of them, far below the others, {are(far)} not drawn."
    return text
