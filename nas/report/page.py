"""The report: a study as one HTML page that needs no other file and no network."""

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from nas.report import figures, insights, sections, tables, words
from nas.report.document import Plot, document, write_page
from nas.report.final import chosen_in_words, final_section, last_final
from nas.report.final import cost as final_cost
from nas.report.markup import MISSING, Column, facts, section, table
from nas.report.unreadable import render_unreadable
from nas.study.records import Outcome, StudyRecord, UnreadableStudy
from nas.text import millions, percent, percent_range, plural, whole


def _integer(value: Any) -> str:
    return whole(int(value))


_ACCURACY = Column("val_accuracy", "Validation accuracy", percent)
_TRIAL = (Column("number", "Trial", _integer), Column("outcome", "Outcome", kind="text"))
_DESIGN = (
    Column("design", "Design", kind="text design"),
    Column("parameters", "Parameters", _integer),
    Column("mult_adds", "Mult-adds", millions),
)

_SQUARES = (
    " Squares are other networks, named under Reference networks: test accuracies, which are not "
    "to be compared with the dots of a search."
)

_TRAINING = Column("training", "Training", kind="text long")


def write_report(
    study: StudyRecord | UnreadableStudy,
    reports_dir: Path | str,
    *,
    final_folder: Path | str | None = None,
) -> Path:
    """Writes the report of a study and returns its path. An older one is replaced as a whole.

    Args:
        study: what to report.
        reports_dir: where to write `<study>.html`.
        final_folder: of the model that `nas final` exported, for pictures of its mistakes.

    Raises:
        OSError: the directory or the file cannot be written; an older report is then unchanged.
    """
    if isinstance(study, UnreadableStudy):
        page = render_unreadable(study)
    else:
        page = render(study, final_folder)
    return write_page(page, Path(reports_dir), study.name)


def render(study: StudyRecord, final_folder: Path | str | None = None) -> str:
    """The report as one HTML document. The arguments are those of `write_report`."""
    trials = tables.trials_table(study)
    final = last_final(study)
    folder = None if final_folder is None else Path(final_folder)
    tested = [] if final is None else [sections.confusion_plot(final)]
    references = insights.reference_table(study, final)
    plots = _plots(study, trials, references)
    body = [
        f"<h1><small>Architecture search</small>{escape(study.name)}</h1>",
        _notes(study),
        _cards(study),
        _summary(study),
        final_section(study),
        *(plot.section() for plot in tested),
        sections.tested_section(final, folder) if final else "",
        sections.design_section(study, final),
        *(plot.section() for plot in plots),
        sections.references_section(study, references),
        _ranking(study),
        _front(study),
        _reasons(study),
        _settings(study),
        _every_trial(study, trials),
    ]
    return document(f"{study.name} - architecture search", body, [*tested, *plots])


def _notes(study: StudyRecord) -> str:
    if not study.notes:
        return ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in study.notes)
    return f'<div class="notes" role="note" aria-label="Please note">{notes}</div>\n'


def _cards(study: StudyRecord) -> str:
    best = study.incumbent
    cards = []
    if best is not None and best.val_accuracy is not None:
        interval = words.interval_of(study, best)
        detail = (
            f"trial {best.number}; 95% interval {percent_range(interval.low, interval.high)}"
            if interval
            else f"trial {best.number}"
        )
        cards.append(("Best validation accuracy", percent(best.val_accuracy), detail))
    final = last_final(study)
    if final is not None:
        accuracy = final.exported.accuracy
        sure = f"95% interval {percent_range(accuracy.low, accuracy.high)}"
        detail = f"{chosen_in_words(final)}; {sure}"
        cards.append(("Test accuracy", percent(accuracy.value), detail))
    if best is not None and best.parameters is not None:
        share = best.parameters / study.settings.limits.max_parameters
        budget = whole(study.settings.limits.max_parameters)
        label = f"Parameters of trial {best.number}"
        cards.append((label, whole(best.parameters), f"{share:.1%} of {budget}"))
    if best is not None and best.mult_adds is not None:
        label = f"Mult-adds of trial {best.number}"
        cards.append((label, millions(best.mult_adds), "per image"))
    stopped = study.outcomes[Outcome.STOPPED_EARLY]
    detail = f"{whole(study.trained - stopped)} to the end, {whole(stopped)} stopped early"
    cards.append(("Designs trained", whole(study.trained), detail))
    if stopped:
        detail = f"by {plural(stopped, 'early stop')}"
        cards.append(("Epochs saved", whole(words.epochs_saved(study)), detail))
    seconds = words.training_seconds(study)
    if seconds is not None:
        cards.append(
            ("Search: training time", words.duration(seconds), words.device_minutes(study))
        )
    items = "".join(
        f'<li><span class="label">{escape(label)}</span> <span class="value">{escape(value)}</span>'
        f' <span class="detail">{escape(detail)}</span></li>'
        for label, value, detail in cards
    )
    return f'<ul class="cards" aria-label="The study at a glance">{items}</ul>\n'


def _summary(study: StudyRecord) -> str:
    found = f"<p>{escape(words.found(study))}</p>"
    if study.incumbent is not None and study.incumbent.architecture is not None:
        found += f"<pre><code>{escape(str(study.incumbent.architecture))}</code></pre>"
    caution = words.caution(study)
    sure = (
        ""
        if caution is None
        else f'<dt>How sure</dt><dd class="caution"><p>{escape(caution)}</p></dd>'
    )
    how = words.searched(study)
    spent = words.cost(study)
    final = last_final(study)
    if final is not None:
        spent.append(f"The final training took {final_cost(final)}, summed over its runs.")
    cost = "".join(f"<p>{escape(sentence)}</p>" for sentence in spent)
    return section(
        "Summary",
        f'<dl class="summary"><dt>Asked</dt><dd><p>{escape(words.asked(study))}</p>'
        f"{f'<p>{escape(how)}</p>' if how else ''}</dd>"
        f"<dt>Found</dt><dd>{found}</dd>{sure}"
        f"<dt>Cost</dt><dd>{cost or '<p>Nothing so far.</p>'}</dd></dl>",
    )


def _plots(study: StudyRecord, trials: pd.DataFrame, references: pd.DataFrame) -> list[Plot]:
    best = None if study.incumbent is None else study.incumbent.number
    max_parameters = study.settings.limits.max_parameters
    incumbents = tables.incumbent_table(study)
    # The figure's steps are over parameters: a front of mult-adds has none in it.
    front = tables.front_table(study) if study.front_size == "parameters" else None
    shown = tables.shown_curves(study)
    curves = tables.curve_table(replace(study, trials=shown))
    by_epoch = tables.curves_by_epoch(curves)
    compared = trials[trials["outcome"].isin([figures.TRAINED, figures.STOPPED])]
    measured = compared.dropna(subset=["val_accuracy"])
    sized = measured.dropna(subset=["parameters"])
    steps = measured.merge(incumbents[["number", "incumbent"]], how="left", on="number")
    epochs = [Column(epoch, f"Epoch {epoch}", percent) for epoch in by_epoch.columns[1:]]
    return [
        sections.funnel_plot(study),
        Plot(
            "history",
            "How the search went",
            "Look at the step line, the best design so far: where it stays flat, more trials "
            "brought nothing better.",
            table(
                steps,
                (*_TRIAL, _ACCURACY, Column("incumbent", "Incumbent (trial)", _integer)),
                caption="How the search went",
            ),
            None if measured.empty else figures.figure_json(figures.history(measured, incumbents)),
        ),
        sections.time_plot(study),
        Plot(
            "size",
            "Accuracy and size",
            "Look at how close the best designs come to the budget (dashed), and what smaller "
            f"ones give up{'' if front is None else ' (the dotted steps)'}."
            + ("" if references.empty else _SQUARES),
            table(sized, (*_TRIAL, *_DESIGN, _ACCURACY), caption="Accuracy and size"),
            None
            if sized.empty
            else figures.figure_json(
                figures.accuracy_by_parameters(sized, max_parameters, best, front, references)
            ),
        ),
        Plot(
            "curves",
            "Learning curves",
            "Look at whether the incumbent (thick) still rises at the last epoch, and whether a "
            "curve that was stopped early (grey, ends in a dot) could have caught up."
            + words.curves_shown(study, len(shown)),
            table(by_epoch, (_TRIAL[0], *epochs), caption="Validation accuracy by epoch"),
            None if by_epoch.empty else figures.figure_json(figures.learning_curves(curves, best)),
        ),
        sections.importance_plot(study),
        sections.slices_plot(study),
        sections.parallel_plot(study),
    ]


def _ranking(study: StudyRecord) -> str:
    ranking = tables.ranking_table(study)
    if ranking.empty:
        return section("Ranking", f"<p>{escape(words.nothing_found(study))}</p>")
    columns = (
        Column("rank", "Rank", _integer),
        _TRIAL[0],
        *_DESIGN,
        _ACCURACY,
        *([_TRAINING] if study.settings.tuning else []),
    )
    caption = f'<p class="caption">{escape(words.ranking_caption(study))}</p>'
    return section("Ranking", caption + table(ranking, columns, best_first=True, caption="Ranking"))


def _front(study: StudyRecord) -> str:
    front = tables.front_table(study)
    if len(front) < 2:
        return ""  # one design is the best of all sizes: the ranking says it
    caption = f'<p class="caption">{escape(words.front_caption(study))}</p>'
    return section(
        "Pareto front",
        caption + table(front, (_TRIAL[0], *_DESIGN, _ACCURACY), caption="Pareto front"),
    )


def _reasons(study: StudyRecord) -> str:
    reasons = tables.reason_table(study)
    if reasons.empty:
        return ""
    columns = (
        Column("outcome", "Outcome", kind="text"),
        Column("reason", "Reason", kind="text long"),
        Column("trials", "Trials", _integer),
        Column("numbers", "Which", kind="text long"),
    )
    return section("What went wrong", table(reasons, columns, caption="What went wrong"))


def _settings(study: StudyRecord) -> str:
    s = study.settings
    asked = {
        "Dataset": s.dataset,
        "Dataset digest": s.dataset_digest,
        "Images": str(s.input),
        "Training images": whole(s.train_images),
        "Validation images": whole(s.validation_images),
        "Subset": words.subset_in_words(study),
        "Split seed": str(s.split_seed),
        "Budget": f"{whole(s.limits.max_parameters)} parameters",
        "Mult-adds": "no limit"
        if s.limits.max_mult_adds is None
        else f"at most {millions(s.limits.max_mult_adds)}",
    }
    trained_on = {
        device: plural(sum(t.device == device for t in study.trials), "run")
        for device in words.devices(study)
    }
    workers = sorted({t.worker for t in study.trials if t.worker is not None})
    starts = [t.started for t in study.trials if t.started is not None]
    ends = [t.finished for t in study.trials if t.finished is not None]
    origin = {
        "Seed": MISSING if study.seed is None else str(study.seed),
        "Workers": words.listed(words.shortened(workers)) or MISSING,
        "First trial started": _time(min(starts, key=lambda t: t.timestamp(), default=None)),
        "Last trial finished": _time(max(ends, key=lambda t: t.timestamp(), default=None)),
    }
    space = {_words(name): words.choices_in_words(value) for name, value in s.space.items()}
    tuning = {_words(name): words.listed(values, "or") for name, values in s.tuning.items()}
    recipe = {_words(name): str(v) for name, v in {**s.recipe, "precision": s.precision}.items()}
    return section(
        "Settings",
        f"{facts(asked)}<h3>Search space</h3>{facts(space)}"
        f"<h3>Recipe</h3>{facts(recipe)}"
        + (f"<h3>Tuned in it</h3>{facts(tuning)}" if tuning else "")
        + f"<h3>Versions</h3>{facts(study.versions)}<h3>Hardware</h3>{facts(trained_on)}"
        f"<h3>Origin</h3>{facts(origin)}<h3>Searches</h3>{_searches(study)}",
        long=True,
    )


def _searches(study: StudyRecord) -> str:
    """Every command that searched in the study, with what may change between them."""
    searches = study.searches or ({"command": study.command, "seed": study.seed},)
    rows = [
        {
            "number": number,
            "started": _text(search.get("started")),
            "sampler": _text(search.get("sampler")),
            "pruner": _text(search.get("pruner")),
            "objectives": _text(search.get("objectives")),
            "seed": _text(search.get("seed")),
            "versions": _text(search.get("versions")),
            "command": _text(search.get("command")),
        }
        for number, search in enumerate(searches, start=1)
    ]
    columns = (
        Column("number", "Search", _integer),
        Column("started", "Started", kind="text"),
        Column("sampler", "Sampler", kind="text"),
        Column("pruner", "Pruner", kind="text"),
        Column("objectives", "Objectives", kind="text"),
        Column("seed", "Seed"),
        Column("command", "Command", kind="text long code"),
        Column("versions", "Versions", kind="text long"),
    )
    return table(tables.frame_of(rows), columns, caption="Searches of the study")


def _text(value: object) -> str | None:
    """What a search says of itself, as text; None if nothing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said}" for name, said in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def _every_trial(study: StudyRecord, trials: pd.DataFrame) -> str:
    if trials.empty:
        return ""
    columns = (
        *_TRIAL,
        *_DESIGN,
        _ACCURACY,
        *([_TRAINING] if study.settings.tuning else []),
        Column("epochs", "Epochs", _integer),
        Column("seconds", "Training time", words.duration, exact=True),
        Column("reason", "Reason", kind="text long"),
    )
    rows = table(trials, columns, caption="Every trial")
    return section(
        "Every trial",
        f"<details><summary>{plural(len(trials), 'trial')}</summary>{rows}</details>",
        long=True,
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _time(moment: Any) -> str:
    return MISSING if moment is None else moment.isoformat(sep=" ", timespec="seconds")
