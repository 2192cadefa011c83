"""The page of a study whose settings this version cannot read: what is known, and why no more."""

import json
from collections.abc import Mapping
from html import escape

from nas.report import figures, tables
from nas.report.document import Plot, document
from nas.report.markup import Column, facts, section, table
from nas.study.records import UnreadableStudy
from nas.text import millions, percent, plural, whole


def render_unreadable(study: UnreadableStudy) -> str:
    """The page as one HTML document."""
    trials = tables.trials_table(study)
    compared = trials[trials["outcome"].isin([figures.TRAINED, figures.STOPPED])]
    measured = compared.dropna(subset=["val_accuracy"])
    note = (
        "This version of nas cannot read the settings of this study "
        f"({study.reason}). What they say is shown as it is; what depends on them, such as the "
        "budget, the ranking within it and intervals, is left out. The version that made the study "
        "shows it whole."
    )
    rows = table(
        trials,
        (
            Column("number", "Trial", lambda value: whole(int(value))),
            Column("outcome", "Outcome", kind="text"),
            Column("design", "Design", kind="text design"),
            Column("parameters", "Parameters", lambda value: whole(int(value))),
            Column("mult_adds", "Mult-adds", millions),
            Column("val_accuracy", "Validation accuracy", percent),
            Column("reason", "Reason", kind="text long"),
        ),
        caption="Every trial",
    )
    plot = Plot(
        "history",
        "Accuracy by trial",
        "Look at how accuracies change over the search; which designs compare is not known.",
        rows,
        None
        if measured.empty
        else figures.figure_json(figures.history(measured, measured.head(0))),
    )
    known = {name: _shown(value) for name, value in _flat(study.attributes).items()}
    body = [
        f"<h1><small>Architecture search</small>{escape(study.name)}</h1>",
        f'<div class="notes" role="note" aria-label="Please note"><p>{escape(note)}</p></div>\n',
        section("Trials", f"<p>{escape(_summary(study))}</p>"),
        plot.section(),
        section("What the study says of itself", facts(known), long=True),
    ]
    return document(f"{study.name} - architecture search", body, [plot])


def _summary(study: UnreadableStudy) -> str:
    accuracies = [t.val_accuracy for t in study.trials if t.val_accuracy is not None]
    count = plural(len(study.trials), "trial")
    if not accuracies:
        return f"{count}, none with a validation accuracy that can be read."
    return (
        f"{count}, {whole(len(accuracies))} with a validation accuracy that can be read; the "
        f"highest is {percent(max(accuracies))}."
    )


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}: ")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 1_000 else f"{text[:1_000]} ..."
