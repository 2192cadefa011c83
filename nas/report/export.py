"""A study's records for other programs: one JSON document, or a CSV file with a row per trial."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nas.architecture import FIELD_NAMES
from nas.counting import COSTS
from nas.report.words import last_epoch
from nas.study.designs import LATENCIES
from nas.study.records import StudyRecord, TrialRecord, UnreadableStudy
from nas.study.settings import settings_to_json
from nas.training.tuning import REAL_VALUES

_PLAIN = (
    *COSTS,
    *LATENCIES,
    "val_accuracy",
    "seconds",
    "images_per_second",
    "device",
    "worker",
    "preset",
    "started",
    "finished",
    "reason",
    "forecast",
    "queued_again",  # it was only interrupted
)


def study_document(study: StudyRecord | UnreadableStudy) -> dict[str, Any]:
    """The whole study as values that JSON keeps: accuracies are 0..1, times ISO 8601.

    What is not a finite number is null.
    """
    if isinstance(study, UnreadableStudy):
        about: dict[str, Any] = {"unreadable": study.reason, "attributes": study.attributes}
    else:
        best = study.incumbent
        about = {
            "trained": study.trained,
            "incumbent": None if best is None else best.number,
            "pareto_front": [trial.number for trial in study.pareto_front(study.front_size)],
            "pareto_front_by": study.front_size,
            "settings": settings_to_json(study.settings),
            "notes": study.notes,
            "seed": study.seed,
            "command": study.command,
            "versions": study.versions,
            "searches": study.searches,
            "latency_machines": study.latency_machines,
            "test_readings": [dataclasses.asdict(reading) for reading in study.readings],
        }
    document: dict[str, Any] = _plain(
        {"study": study.name, **about, "trials": [_trial(trial) for trial in study.trials]}
    )
    return document


def trials_csv(study: StudyRecord | UnreadableStudy) -> bytes:
    """One row per trial, UTF-8. Lists, such as `blocks` and `curve`, are JSON; unknown is empty."""
    names = ("number", "outcome", "design", *FIELD_NAMES, "epochs", *_PLAIN, *REAL_VALUES, "curve")
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    for trial in study.trials:
        row = _plain(_trial(trial))
        row |= row["training"]
        writer.writerow(
            {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in row.items()}
        )
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def _trial(trial: TrialRecord) -> dict[str, Any]:
    architecture = trial.architecture
    return {
        "number": trial.number,
        "outcome": trial.outcome,
        "design": None if architecture is None else str(architecture),
        **{name: getattr(architecture, name, None) for name in FIELD_NAMES},
        "architecture": None if architecture is None else dataclasses.asdict(architecture),
        "epochs": last_epoch(trial) or None,
        **{name: getattr(trial, name) for name in _PLAIN},
        "training": trial.training,
        "curve": trial.curve,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
