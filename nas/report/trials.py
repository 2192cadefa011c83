"""The trials of a study: the best of them, why some went wrong, and every one."""

from collections.abc import Iterable

import pandas as pd

from nas.counting import COSTS
from nas.report.document import Section, section
from nas.report.html import html
from nas.report.overview import nothing_found
from nas.report.tables import (
    DESIGN,
    OUTCOME,
    TRIAL,
    VAL_ACCURACY,
    Column,
    integer,
    table,
    typed_frame,
)
from nas.report.words import STOPPED, TRAINED, interval_of, last_epoch, outcome_name
from nas.statistics import difference_interval
from nas.study.records import StudyRecord, TrialRecord, training_in_words
from nas.text import duration, plural, whole

_MOST_NUMBERS = 20  # of trials with the same reason
_TRAINING = Column("training", "Training", kind="text long")
_REASON = Column("reason", "Reason", kind="text long")


def trials_table(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row per trial, in their order; `epochs` is the last epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": outcome_name(trial.outcome),
                "design": trial.design,
                "preset": trial.preset,
                **{name: getattr(trial, name) for name in COSTS},
                "val_accuracy": trial.val_accuracy,
                "training": training_in_words(trial.training) or None,
                "epochs": last_epoch(trial) or None,
                "seconds": trial.seconds,
                "reason": trial.reason,
            }
            for trial in trials
        ),
        integers=f"number {' '.join(COSTS)} epochs",
        floats="val_accuracy seconds",
        texts="outcome design preset training reason",
    )


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """Of `trials_table` those whose accuracy was measured, to the end or stopped early."""
    return trials[trials["outcome"].isin([TRAINED, STOPPED])].dropna(subset=["val_accuracy"])


def ranking(study: StudyRecord) -> Section:
    """The best designs."""
    ranked = ranking_table(study)
    if ranked.empty:
        return section("Ranking", nothing_found(study))
    columns = (
        Column("rank", "Rank", integer),
        TRIAL,
        *DESIGN,
        VAL_ACCURACY,
        *([_TRAINING] if study.settings.tuning else []),
    )
    rows = table(ranked, columns, best_first=True, caption="Ranking")
    return section("Ranking", rows, caption=ranking_caption(study))


def ranking_table(study: StudyRecord, top: int = 10) -> pd.DataFrame:
    """The best trained designs, best first: `trials_table` with their `rank`."""
    ranked = trials_table(study.ranking[:top])
    return ranked.assign(rank=pd.array(range(1, len(ranked) + 1), dtype="Int64"))


def are_close(study: StudyRecord, better: TrialRecord, worse: TrialRecord) -> bool:
    """Whether the validation images alone leave open which of two designs is better."""
    images = study.settings.validation_images
    shares = (better.val_accuracy, worse.val_accuracy)
    if shares[0] is None or shares[1] is None:
        return False
    return difference_interval(shares[0], images, shares[1], images).low <= 0


def ranking_caption(study: StudyRecord) -> str:
    """How far apart the best designs are, given how few images judge them."""
    best = study.incumbent
    if best is None or interval_of(study, best) is None or len(study.ranking) < 2:
        return "The trained designs, best first; of equals, the earlier."
    close = sum(are_close(study, best, trial) for trial in study.ranking)
    tell = (
        "The 95% interval of every other design's difference to the best leaves out 0."
        if close == 1
        else f"{whole(close)} designs, the best included, are too close for the validation images "
        "alone to tell them apart: the 95% interval of their difference to the best holds 0."
    )
    return f"The ten best at most, best first; of equals, the earlier. {tell}"


def reasons(study: StudyRecord) -> Section | None:
    """Why trials went wrong; None where none did."""
    found = reason_table(study)
    if found.empty:
        return None
    columns = (
        OUTCOME,
        _REASON,
        Column("trials", "Trials", integer),
        Column("numbers", "Which", kind="text long"),
    )
    return section("What went wrong", table(found, columns, caption="What went wrong"))


def reason_table(study: StudyRecord) -> pd.DataFrame:
    """Why trials went wrong: each distinct reason with its trials, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for trial in study.trials:
        if trial.reason is not None:
            outcome = "queued again" if trial.queued_again else outcome_name(trial.outcome)
            found.setdefault((outcome, trial.reason), []).append(trial.number)
    return typed_frame(
        (
            {
                "outcome": outcome,
                "reason": reason,
                "trials": len(numbers),
                "numbers": ", ".join(map(str, numbers[:_MOST_NUMBERS]))
                + (", ..." if len(numbers) > _MOST_NUMBERS else ""),
            }
            for (outcome, reason), numbers in sorted(found.items(), key=lambda item: -len(item[1]))
        ),
        integers="trials",
        texts="outcome reason numbers",
    )


def every_trial(study: StudyRecord, trials: pd.DataFrame) -> Section | None:
    """All trials, `trials_table`, behind a click; None before the first."""
    if trials.empty:
        return None
    columns = (
        TRIAL,
        OUTCOME,
        *DESIGN,
        VAL_ACCURACY,
        *([_TRAINING] if study.settings.tuning else []),
        Column("epochs", "Epochs", integer),
        Column("seconds", "Training time", duration, exact=True),
        _REASON,
    )
    content = html(
        "details.html",
        summary=plural(len(trials), "trial"),
        content=table(trials, columns, caption="Every trial"),
    )
    return section("Every trial", content, long=True)
