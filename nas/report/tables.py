"""Tables of a study, as pure functions of its records. Accuracies stay 0..1 here."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

import pandas as pd

from nas.study.records import (
    Outcome,
    StudyRecord,
    TrialRecord,
    UnreadableStudy,
    training_in_words,
)

UNFINISHED = "unfinished"  # shown for a trial without an outcome: running, or ended without saying


MOST_CURVES = 200  # drawn; more are one grey cloud
_MOST_NUMBERS = 20  # of trials with the same reason


def trials_table(study: StudyRecord | UnreadableStudy) -> pd.DataFrame:
    """One row per trial, in the study's order; `epochs` is the last epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": outcome_name(trial.outcome),
                "design": trial.design,
                "preset": trial.preset,
                "parameters": trial.parameters,
                "mult_adds": trial.mult_adds,
                "val_accuracy": trial.val_accuracy,
                "training": training_in_words(trial.training) or None,
                "epochs": last_epoch(trial) or None,
                "seconds": trial.seconds,
                "reason": trial.reason,
            }
            for trial in study.trials
        ),
        {
            "number": "Int64",
            "outcome": "string",
            "design": "string",
            "preset": "string",
            "parameters": "Int64",
            "mult_adds": "Int64",
            "val_accuracy": "Float64",
            "training": "string",
            "epochs": "Int64",
            "seconds": "Float64",
            "reason": "string",
        },
    )


def ranking_table(study: StudyRecord, top: int = 10) -> pd.DataFrame:
    """The best trained designs, best first."""
    return typed_frame(
        (
            {
                "rank": rank,
                "number": trial.number,
                "design": trial.design,
                "parameters": trial.parameters,
                "mult_adds": trial.mult_adds,
                "val_accuracy": trial.val_accuracy,
                "training": training_in_words(trial.training) or None,
            }
            for rank, trial in enumerate(study.ranking[:top], start=1)
        ),
        {
            "rank": "Int64",
            "number": "Int64",
            "design": "string",
            "parameters": "Int64",
            "mult_adds": "Int64",
            "val_accuracy": "Float64",
            "training": "string",
        },
    )


def front_table(study: StudyRecord) -> pd.DataFrame:
    """The Pareto front of accuracy and the study's `front_size`, the smallest design first."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "design": trial.design,
                "parameters": trial.parameters,
                "mult_adds": trial.mult_adds,
                "val_accuracy": trial.val_accuracy,
            }
            for trial in study.pareto_front(study.front_size)
        ),
        {
            "number": "Int64",
            "design": "string",
            "parameters": "Int64",
            "mult_adds": "Int64",
            "val_accuracy": "Float64",
        },
    )


def incumbent_table(study: StudyRecord) -> pd.DataFrame:
    """The incumbent after each trained trial, by trial number: `incumbent`, its `val_accuracy`."""
    ranking = study.ranking
    rank = {trial.number: place for place, trial in enumerate(ranking)}
    trained = sorted(ranking, key=lambda trial: trial.number)
    best = accumulate(trained, lambda *pair: min(pair, key=lambda trial: rank[trial.number]))
    return typed_frame(
        (
            {
                "number": trial.number,
                "incumbent": incumbent.number,
                "design": incumbent.design,
                "val_accuracy": incumbent.val_accuracy,
            }
            for trial, incumbent in zip(trained, best, strict=True)
        ),
        {"number": "Int64", "incumbent": "Int64", "design": "string", "val_accuracy": "Float64"},
    )


def incumbent_by_effort(study: StudyRecord) -> pd.DataFrame:
    """The incumbent by how many designs were trained, stopped early or not: `trained`.

    One row for each new incumbent, and one for the end.
    """
    counting = sorted(t.number for t in study.trials if t.outcome and t.outcome.counts)
    place = {number: count for count, number in enumerate(counting, start=1)}
    table = incumbent_table(study)
    table["trained"] = table["number"].map(place).astype("Int64")
    steps = table.drop_duplicates("incumbent")
    if table.empty:
        return steps
    return pd.concat([steps, table.tail(1).assign(trained=len(counting))])


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
        {"outcome": "string", "reason": "string", "trials": "Int64", "numbers": "string"},
    )


def shown_curves(study: StudyRecord, most: int = MOST_CURVES) -> tuple[TrialRecord, ...]:
    """The trials whose learning curves are drawn, in the study's order: all, if they are few.

    Else half are the best trained designs, the incumbent among them, and the others lie evenly over
    the search.
    """
    measured = [trial for trial in study.trials if trial.curve]
    if len(measured) <= most:
        return tuple(measured)
    best = {trial.number for trial in study.ranking[: most // 2] if trial.curve}
    rest = [trial.number for trial in measured if trial.number not in best]
    wanted = most - len(best)
    chosen = best | {rest[i * len(rest) // wanted] for i in range(wanted)}
    return tuple(trial for trial in measured if trial.number in chosen)


def curve_table(study: StudyRecord) -> pd.DataFrame:
    """One row per trial and epoch that was measured."""
    return typed_frame(
        (
            {
                "number": trial.number,
                "outcome": outcome_name(trial.outcome),
                "design": trial.design,
                "epoch": epoch,
                "val_accuracy": val_accuracy,
            }
            for trial in study.trials
            for epoch, val_accuracy in trial.curve
        ),
        {
            "number": "Int64",
            "outcome": "string",
            "design": "string",
            "epoch": "Int64",
            "val_accuracy": "Float64",
        },
    )


def curves_by_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """`curve_table` laid out for reading: one row per trial, one column per epoch."""
    wide = curves.pivot_table(
        index="number", columns="epoch", values="val_accuracy", aggfunc="last"
    )
    wide.columns = pd.Index([str(epoch) for epoch in wide.columns])
    return wide.reset_index()


def outcome_name(outcome: Outcome | None) -> str:
    """An outcome as it is shown."""
    return UNFINISHED if outcome is None else outcome.replace("_", " ")


def last_epoch(trial: TrialRecord) -> int:
    """The last epoch that was measured, 0 if none."""
    return max((epoch for epoch, _ in trial.curve), default=0)


def typed_frame(rows: Iterable[Mapping[str, object]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table whose columns have the same types for any rows, none included."""
    return frame_of(rows, list(dtypes)).astype(dict(dtypes))


def frame_of(
    rows: Iterable[Mapping[str, object]], columns: list[str] | None = None
) -> pd.DataFrame:
    r"""Rows as a table, with what UTF-8 cannot hold (from a file's name) as `\udcff`.

    Where pyarrow is installed, pandas keeps text in it, which refuses anything else.
    """
    return pd.DataFrame(
        [{name: _encodable(value) for name, value in row.items()} for row in rows], columns=columns
    )


def _encodable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", errors="backslashreplace").decode("utf-8")
