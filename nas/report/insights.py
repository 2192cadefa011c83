"""More tables of a study and of its final training, as pure functions of their records.

What became of the proposals, how the incumbent grew over time, what each choice came to, what is
known of other networks, and what the exported one takes for what. Accuracies stay 0..1.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from nas.architecture import LETTERS, PRESETS
from nas.counting import count, layer_table
from nas.final.records import Exported, FinalDesign, FinalRecord
from nas.final.references import DATASET, LITERATURE, PUBLISHED
from nas.final.words import epochs as epochs_in_words
from nas.final.words import seeds as seeds_in_words
from nas.report.drawing import parts
from nas.report.tables import UNFINISHED, outcome_name, typed_frame
from nas.search.importances import Importance, Importances, letter
from nas.statistics import wilson_interval
from nas.study.records import INTERRUPTED, Outcome, StudyRecord, TrialRecord

PROPOSED = "proposed"
PUBLISHED_KIND = "published (test accuracy, other training)"
MEASURED_KIND = "measured here (test accuracy)"

_STEPS = (
    Outcome.OVER_BUDGET,
    Outcome.DUPLICATE,
    INTERRUPTED,  # and queued again
    Outcome.FAILED,
    Outcome.OUT_OF_MEMORY,
    Outcome.DIVERGED,
    None,
    Outcome.STOPPED_EARLY,
    Outcome.TRAINED,
)


def funnel_table(study: StudyRecord) -> pd.DataFrame:
    """What became of the proposals: `step`, `trials`, their `share`, and how many were `left`.

    The first row is all proposals; the others add up to it. `left` counts those that a step and all
    later ones hold. Steps that no trial ended in are left out, but for the last, `trained`.
    """
    ended: dict[Outcome | str | None, int] = dict.fromkeys(_STEPS, 0)
    for trial in study.trials:
        ended[INTERRUPTED if trial.queued_again else trial.outcome] += 1
    total = left = len(study.trials)
    rows = [{"step": PROPOSED, "trials": total, "share": 1.0 if total else None, "left": total}]
    for step, trials in ended.items():
        if trials or step is Outcome.TRAINED:
            name = outcome_name(step) if isinstance(step, Outcome) else step or UNFINISHED
            share = trials / total if total else None
            rows.append({"step": name, "trials": trials, "share": share, "left": left})
        left -= trials
    return typed_frame(
        rows, {"step": "string", "trials": "Int64", "share": "Float64", "left": "Int64"}
    )


def progress_table(study: StudyRecord) -> pd.DataFrame:
    """The incumbent by time: a row when it changes, and one for the last design trained to the end.

    `elapsed` is seconds since the first trial started, pauses included; `worked` is seconds of
    training of all trials that had finished by then, summed over the workers.
    """
    starts = [_moment(t.started) for t in study.trials if t.started is not None]
    done = sorted(
        (t for t in study.trials if t.finished is not None), key=lambda t: _moment(t.finished)
    )
    rows: list[dict[str, object]] = []
    worked, best = 0.0, -1.0
    last: dict[str, object] | None = None
    for trial in done if starts else []:
        worked += trial.seconds or 0.0
        if trial.outcome is not Outcome.TRAINED or trial.val_accuracy is None:
            continue
        rises = trial.val_accuracy > best
        best = max(best, trial.val_accuracy)
        last = {
            "number": trial.number,
            "elapsed": max(0.0, _moment(trial.finished) - min(starts)),  # clocks may be set back
            "worked": worked,
            "incumbent": best,
        }
        if rises:
            rows.append(last)
    if last is not None and last is not rows[-1]:
        rows.append(last)
    return typed_frame(
        rows,
        {"number": "Int64", "elapsed": "Float64", "worked": "Float64", "incumbent": "Float64"},
    )


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
        {
            **dict.fromkeys(("number", *LETTERS.values(), "parameters"), "Int64"),
            "val_accuracy": "Float64",
        },
    )


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


def importance_table(found: Importances) -> pd.DataFrame:
    """What mattered: first the letters, then the single choices, each by its `share`."""
    return typed_frame(
        [*_importance_rows("letter", found.letters), *_importance_rows("choice", found.choices)],
        {
            "kind": "string",
            "name": "string",
            "letter": "string",
            "share": "Float64",
            "chance": "Float64",
            "beyond": "boolean",
        },
    )


def reference_table(study: StudyRecord, final: FinalRecord | None) -> pd.DataFrame:
    """Other networks to compare with, the smallest first, each with a `mark`: A, B, C, ...

    Published ones only for the dataset they were measured on. `low` and `high` are the 95% interval
    of what was measured here; it is the mean over seeds of the chosen design and of the references
    that the last final training trained. `fits` says whether it is within the study's budget.
    """
    rows: list[dict[str, Any]] = [*_published(study), *(_measured(final) if final else [])]
    rows.sort(key=lambda row: (row["parameters"], row["name"], row["kind"]))
    limit = study.settings.limits.max_parameters
    marked = [
        {**row, "mark": _mark(i), "fits": row["parameters"] <= limit} for i, row in enumerate(rows)
    ]
    return typed_frame(
        marked,
        {
            "mark": "string",
            "name": "string",
            "kind": "string",
            "parameters": "Int64",
            "accuracy": "Float64",
            "low": "Float64",
            "high": "Float64",
            "source": "string",
            "fits": "boolean",
        },
    )


def share_table(trial: TrialRecord, study: StudyRecord) -> pd.DataFrame:
    """Where a design's parameters and mult-adds sit: stem, each stage, head.

    Raises:
        ValueError: the design cannot read the study's images.
    """
    assert trial.architecture is not None
    costs = parts(trial.architecture, study.settings.input)
    parameters = sum(cost.parameters for cost in costs.values())
    mult_adds = sum(cost.mult_adds for cost in costs.values())
    return typed_frame(
        (
            {
                "part": part,
                "parameters": cost.parameters,
                "share": cost.parameters / parameters,
                "mult_adds": cost.mult_adds,
                "mult_adds_share": cost.mult_adds / mult_adds,
            }
            for part, cost in costs.items()
        ),
        {
            "part": "string",
            "parameters": "Int64",
            "share": "Float64",
            "mult_adds": "Int64",
            "mult_adds_share": "Float64",
        },
    )


def layers_table(trial: TrialRecord, study: StudyRecord) -> pd.DataFrame:
    """The layers of a design in the order of the forward pass. Raises as `share_table`."""
    assert trial.architecture is not None
    return typed_frame(
        (
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": "x".join(map(str, layer.output)),
                "kernel": f"{layer.kernel}x{layer.kernel}" if layer.kernel else None,
                "stride": layer.stride,
                "parameters": layer.parameters,
                "mult_adds": layer.mult_adds,
            }
            for layer in layer_table(trial.architecture, study.settings.input)
        ),
        {
            **dict.fromkeys(("name", "kind", "output", "kernel"), "string"),
            **dict.fromkeys(("stride", "parameters", "mult_adds"), "Int64"),
        },
    )


def class_table(exported: Exported) -> pd.DataFrame:
    """How the exported network does by class, the worst first, with Wilson's 95% intervals."""
    rows: list[dict[str, Any]] = []
    for result in exported.per_class:
        share = result.correct / result.images if result.images else None
        interval = None if share is None else wilson_interval(share, result.images)
        rows.append(
            {
                "name": result.name,
                "images": result.images,
                "accuracy": share,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
            }
        )
    rows.sort(key=lambda row: 2.0 if row["accuracy"] is None else row["accuracy"])
    return typed_frame(
        rows,
        {
            "name": "string",
            "images": "Int64",
            **dict.fromkeys(("accuracy", "low", "high"), "Float64"),
        },
    )


def confused_table(final: FinalRecord, top: int) -> pd.DataFrame:
    """The pairs of classes that are confused most often: `images` of `label` called `predicted`.

    `share` is of the images of `label`.
    """
    confusion = final.exported.confusion
    pairs = [
        (images, label, predicted)
        for label, row in enumerate(confusion)
        for predicted, images in enumerate(row)
        if label != predicted and images
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return typed_frame(
        (
            {
                "label": final.classes[label],
                "predicted": final.classes[predicted],
                "images": images,
                "share": images / sum(confusion[label]),
            }
            for images, label, predicted in pairs[:top]
        ),
        {"label": "string", "predicted": "string", "images": "Int64", "share": "Float64"},
    )


def _projection_kernels(trial: TrialRecord) -> list[int]:
    a = trial.architecture
    assert a is not None
    pairs = zip(a.shortcut_kernels, a.projections, strict=True)
    return [kernel for kernel, projection in pairs if projection]


def _importance_rows(kind: str, found: Sequence[Importance]) -> Iterable[Mapping[str, object]]:
    return (
        {
            "kind": kind,
            "name": i.name,
            "letter": letter(i.name),
            "share": i.share,
            "chance": i.chance,
            "beyond": i.is_beyond_chance,
        }
        for i in found
    )


def _published(study: StudyRecord) -> list[dict[str, object]]:
    s = study.settings
    if s.dataset != DATASET:
        return []
    return [
        {
            "name": name,
            "kind": PUBLISHED_KIND,
            "parameters": known.parameters or count(PRESETS[name], s.input).parameters,
            "accuracy": known.accuracy,
            "source": known.source,
        }
        for name, known in {**PUBLISHED, **LITERATURE}.items()
    ]


def _measured(final: FinalRecord) -> list[dict[str, object]]:
    seeds = ("mean of " if len(final.seeds) > 1 else "") + seeds_in_words(final)

    def row(design: FinalDesign, name: str) -> dict[str, object] | None:
        if design.test is None:
            return None
        mean = design.test.mean
        return {
            "name": name,
            "kind": MEASURED_KIND,
            "parameters": design.parameters,
            "accuracy": mean.value,
            "low": mean.low,
            "high": mean.high,
            "source": f"recipe {final.recipe_name}, {epochs_in_words(final)}, {seeds}",
        }

    rows = [row(final.chosen, f"{final.chosen.name}, chosen")]
    rows += [row(design, design.name) for design in final.references]
    return [found for found in rows if found is not None]


def _mark(i: int) -> str:
    return chr(ord("A") + i % 26) + (str(i // 26 + 1) if i >= 26 else "")


def _moment(time: datetime | None) -> float:
    assert time is not None
    return time.timestamp()
