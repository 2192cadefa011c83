"""The page of a study whose settings this version cannot read: what is known, and why no more."""

import json

from nas.report.document import document, figure_section, section
from nas.report.progress import history_figure
from nas.report.tables import (
    DESIGN,
    MULT_ADDS,
    OUTCOME,
    PARAMETERS,
    TRIAL,
    VAL_ACCURACY,
    Column,
    facts,
    table,
)
from nas.report.trials import measured, trials_table
from nas.study.records import UnreadableStudy
from nas.study.settings import flat
from nas.text import percent, plural, whole


def render_unreadable(study: UnreadableStudy) -> str:
    """The page as one HTML document."""
    trials = trials_table(study.trials)
    compared = measured(trials)
    note = (
        "This version of nas cannot read the settings of this study "
        f"({study.reason}). They are shown unchanged; what depends on them, such as the budget, "
        "the ranking within it and intervals, is omitted. The version that made the study shows "
        "everything."
    )
    reason = Column("reason", "Reason", kind="text long")
    columns = (TRIAL, OUTCOME, DESIGN, PARAMETERS, MULT_ADDS, VAL_ACCURACY, reason)
    known = {name: _shown(value) for name, value in flat(study.attributes).items()}
    sections = [
        section("Trials", _summary(study)),
        figure_section(
            "history",
            "Accuracy by trial",
            "Look at how accuracies change over the search; which designs compare is not known.",
            table(trials, columns, caption="Every trial"),
            None if compared.empty else history_figure(compared, compared.head(0)),
        ),
        section("Attributes of the study", facts(known)),
    ]
    return document(
        study.name,
        "Architecture search",
        sections,
        title=f"{study.name} - architecture search",
        notes=[note],
    )


def _summary(study: UnreadableStudy) -> str:
    accuracies = [t.val_accuracy for t in study.trials if t.val_accuracy is not None]
    count = plural(len(study.trials), "trial")
    if not accuracies:
        return f"{count}, none with a validation accuracy that can be read."
    return (
        f"{count}, {whole(len(accuracies))} with a validation accuracy that can be read; the "
        f"highest is {percent(max(accuracies))}."
    )


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 1_000 else f"{text[:1_000]} ..."
