"""The report: a study as one HTML page that needs no other file and no network."""

from pathlib import Path

from nas.final.card import model_card
from nas.report import choices, curves, design, mistakes, progress, sizes, tested, trials
from nas.report.document import document, encoded, group, slug, write_page
from nas.report.export import trials_csv
from nas.report.settings import settings
from nas.report.unreadable import render_unreadable
from nas.report.verdict import verdict
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
    folder = None if final_folder is None else Path(final_folder)
    references = sizes.reference_table(study, final)
    deployed = None if final is None else final.chosen.trial
    table = f"{slug(study.name)}.csv"
    files, buttons = {table: trials_csv(study)}, {"Download trials (CSV)": table}
    if final is not None:
        files["README.md"] = encoded(model_card(final))
        buttons["Download model card"] = "README.md"
    sections = [
        verdict(study, final, folder, buttons),
        trials.leaderboard(study, final),
        group(
            "Trade-off",
            [sizes.accuracy_by_size(study, every, references, deployed)],
            [sizes.front(study), sizes.references(references)],
        ),
        group("Curves", [curves.learning_curves(study), progress.history(study, every)]),
        mistakes.mistakes(final, folder),
        design.design(study, final),
        group(
            "Appendix",
            [],
            [
                tested.final_training(study, final),
                trials.reasons(study),
                progress.funnel(study),
                progress.over_time(study),
                choices.what_mattered(study),
                choices.slices(study),
                settings(study),
                trials.every_trial(study, every),
            ],
        ),
    ]
    return document(
        study.name,
        "Architecture search",
        sections,
        title=f"{study.name} - architecture search",
        notes=study.notes,
        files=files,
    )
