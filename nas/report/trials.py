"""The trials of a study: the leaderboard, why some went wrong, and every one."""

from collections.abc import Iterable
from statistics import median

import pandas as pd

from nas.counting import COSTS
from nas.final.records import FinalRecord
from nas.report.document import Section, section
from nas.report.tables import (
    DESIGN,
    INTERVAL,
    OUTCOME,
    TRIAL,
    VAL_ACCURACY,
    Column,
    cost_columns,
    design_columns,
    integer,
    table,
    typed_frame,
    with_interval,
)
from nas.report.words import STOPPED, TRAINED, interval_of, last_epoch, status
from nas.statistics import difference_interval
from nas.study.chance import guessing_in_words
from nas.study.designs import LATENCIES
from nas.study.records import StudyRecord, TrialRecord, training_in_words
from nas.text import duration, milliseconds, percent, plural, share, whole

_MOST_NUMBERS = 20  # of trials with the same reason
_TRAINING = Column("training", "Training", kind="text long")
_REASON = Column("reason", "Reason", kind="text long")
_EPOCHS = Column("epochs", "Epochs", integer)
_TRAINING_TIME = Column("seconds", "Training time", duration, exact=True)
_LATENCY = (
    Column("latency_ms", "Latency", milliseconds),
    Column("latency_estimate_ms", "Latency, estimated", milliseconds),
)
_FINAL_VALIDATION = Column("final_validation", "Final validation", percent)
_FINAL_TEST = Column("final_test", "Final test", percent)


def trials_table(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row per trial, in their order; `epochs` is the last epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": status(trial),
                "design": trial.design,
                "preset": trial.preset,
                **{name: getattr(trial, name) for name in COSTS},
                **{name: getattr(trial, name) for name in LATENCIES},
                "val_accuracy": trial.val_accuracy,
                "training": training_in_words(trial.training) or None,
                "epochs": last_epoch(trial) or None,
                "seconds": trial.seconds,
                "reason": trial.reason,
            }
            for trial in trials
        ),
        integers=f"number {' '.join(COSTS)} epochs",
        floats=f"{' '.join(LATENCIES)} val_accuracy seconds",
        texts="outcome design preset training reason",
    )


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """Of `trials_table` those whose accuracy was measured, to the end or stopped early."""
    return trials[trials["outcome"].isin([TRAINED, STOPPED])].dropna(subset=["val_accuracy"])


def leaderboard(study: StudyRecord, final: FinalRecord | None) -> Section | None:
    """The designs trained to the end, best first; None before the first.

    Args:
        study: which ranks them.
        final: the last final training, whose means stand beside the designs that it trained.
    """
    ranked = leaderboard_table(study, final)
    if ranked.empty:
        return None
    columns = (
        Column("rank", "Rank", integer),
        TRIAL,
        DESIGN,
        VAL_ACCURACY,
        INTERVAL,
        Column("tied", "Tied with first", kind="text"),
        *cost_columns(study),
        *(_LATENCY if study.settings.latency else []),
        _EPOCHS,
        _TRAINING_TIME,
        *([_TRAINING] if study.settings.tuning else []),
        *([_FINAL_VALIDATION, _FINAL_TEST] if final else []),
    )
    deployed = final.chosen.trial if final else ranked["number"].iloc[0]
    places = ranked.index[ranked["number"] == deployed]
    rows = table(
        with_interval(ranked),
        columns,
        marked=int(places[0]) if len(places) else None,
        fold=True,
        caption="Leaderboard",
    )
    caption = [
        "By validation accuracy in the search, best first; of equal ones, the earlier.",
        ties(study),
        guessing_in_words(study),
        estimates(study),
        "Final accuracies are means over the seeds of the final training." if final else "",
    ]
    return section("Leaderboard", rows, caption=" ".join(filter(None, caption)))


def leaderboard_table(study: StudyRecord, final: FinalRecord | None = None) -> pd.DataFrame:
    """The designs trained to the end, best first: `trials_table` with their `rank`.

    `low` and `high` are the 95% interval of `val_accuracy`, `tied` says what `is_tied` does.
    `final_validation` and `final_test` are means over the seeds of the final training.
    """
    ranking, finalists = study.ranking, final.finalists if final else ()
    trained = {design.trial: design for design in reversed(finalists)}  # of two the better one
    rows = []
    for rank, trial in enumerate(ranking, start=1):
        interval, design = interval_of(study, trial), trained.get(trial.number)
        tied = "yes" if is_tied(study, ranking[0], trial) else "no"
        rows.append(
            {
                "rank": rank,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "tied": "first" if rank == 1 else tied,
                "final_validation": design and design.validation and design.validation.mean.value,
                "final_test": design and design.test and design.test.mean.value,
            }
        )
    more = typed_frame(
        rows, integers="rank", floats="low high final_validation final_test", texts="tied"
    )
    return pd.concat([trials_table(ranking), more], axis=1)


def is_tied(study: StudyRecord, better: TrialRecord, worse: TrialRecord) -> bool:
    """Whether the validation images alone leave open which of two designs is better."""
    images = study.settings.validation_images
    if better.val_accuracy is None or worse.val_accuracy is None or images < 1:
        return False
    return difference_interval(better.val_accuracy, images, worse.val_accuracy, images).low <= 0


def ties_with_the_first(study: StudyRecord) -> int:
    """How many designs `is_tied` says of the first, itself included; 0 without validation."""
    ranking = study.ranking
    return sum(is_tied(study, ranking[0], trial) for trial in ranking)


def ties(study: StudyRecord) -> str:
    """How many designs the validation images do not tell apart; empty for fewer than two."""
    close = ties_with_the_first(study)
    if close == 0 or len(study.ranking) < 2:
        return ""
    if close == 1:
        return "The 95% interval of every other design's difference to the first excludes 0."
    return (
        f"{whole(close)} designs, the first included, are too close for the validation images "
        "alone to tell them apart: the 95% interval of their difference to the first contains 0."
    )


def estimates(study: StudyRecord) -> str:
    """How far latencies that were estimated are from those measured; empty without any."""
    errors = [
        abs(trial.latency_estimate_ms / trial.latency_ms - 1)
        for trial in study.trials
        if trial.latency_ms and trial.latency_estimate_ms
    ]
    if not errors:
        return ""
    return (
        "A latency is the 10th percentile of many runs of the whole network; estimates from "
        f"measured layers are {share(median(errors))} off it (median of "
        f"{plural(len(errors), 'design')})."
    )


def reasons(study: StudyRecord) -> Section | None:
    """Why trials went wrong; None where none did."""
    found = reason_table(study)
    if found.empty:
        return None
    columns = (
        OUTCOME,
        _REASON,
        Column("trials", "Trials", integer),
        Column("numbers", "Trial numbers", kind="text long"),
    )
    return section("What went wrong", table(found, columns, caption="What went wrong"))


def reason_table(study: StudyRecord) -> pd.DataFrame:
    """Why trials went wrong: each distinct reason with its trials, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for trial in study.trials:
        if trial.reason is not None:
            found.setdefault((status(trial), trial.reason), []).append(trial.number)
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
    """All trials, `trials_table`; None before the first."""
    if trials.empty:
        return None
    columns = (
        TRIAL,
        OUTCOME,
        *design_columns(study),
        *(_LATENCY if study.settings.latency else []),
        VAL_ACCURACY,
        *([_TRAINING] if study.settings.tuning else []),
        _EPOCHS,
        _TRAINING_TIME,
        _REASON,
    )
    return section("Every trial", table(trials, columns, caption="Every trial"))
