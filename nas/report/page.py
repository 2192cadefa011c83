"""The report: a study as one HTML page that needs no other file and no network."""

from pathlib import Path

from nas.report import (
    choices,
    curves,
    design,
    health,
    overview,
    progress,
    sizes,
    tested,
    trials,
)
from nas.report.document import document, write_page
from nas.report.settings import settings
from nas.report.unreadable import render_unreadable
from nas.study.records import StudyRecord, UnreadableStudy


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
    every = trials.trials_table(study.trials)
    final = tested.last_final(study)
    references = sizes.reference_table(study, final)
    sections = [
        overview.summary(study),
        tested.final_training(study),
        tested.confusion(final),
        tested.classes(final, None if final_folder is None else Path(final_folder)),
        design.best_design(study, final),
        health.section(study),
        progress.funnel(study),
        progress.history(study, every),
        progress.over_time(study),
        sizes.accuracy_by_size(study, every, references),
        curves.learning_curves(study),
        choices.what_mattered(study),
        choices.slices(study),
        sizes.references(references),
        trials.ranking(study),
        sizes.front(study),
        trials.reasons(study),
        settings(study),
        trials.every_trial(study, every),
    ]
    return document(
        study.name,
        "Architecture search",
        sections,
        title=f"{study.name} - architecture search",
        notes=study.notes,
        cards=overview.cards(study),
    )
