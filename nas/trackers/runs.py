"""What a tracker keeps of a study: a run for it, one for each trial and each final run.

The adapters differ only in how they write these. Times are those of the study, as far as it has
them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nas.architecture import FIELDS, Architecture
from nas.counting import COSTS
from nas.final.records import FinalRecord
from nas.final.request import RESULT, RUNS
from nas.report.tested import last_final
from nas.study.designs import LATENCIES
from nas.study.records import Outcome, StudyRecord, TrialRecord
from nas.study.settings import flat, settings_to_json

Value = bool | int | float | str
Curve = tuple[tuple[int, float], ...]
"""Values by step, from 1."""

_FAILED = (Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.FAILED)
_OF_EPOCHS = ("train_loss", "val_loss", "val_accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One run of a tracker."""

    key: str  # unique among all studies, and the same whenever the study is logged
    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    failed: bool = False

    @property
    def last(self) -> dict[str, float]:
        """Each result, and the last value of each curve."""
        return {name: curve[-1][1] for name, curve in self.curves.items()} | dict(self.results)

    def time_of(self, step: int) -> datetime | None:
        """About when a step of its curves was done: as if all had taken equally long."""
        if self.started is None or self.ended is None:
            return self.ended
        steps = max(curve[-1][0] for curve in self.curves.values())
        return self.started + (self.ended - self.started) * min(1.0, step / steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedStudy:
    """A study as it is now: only what has ended is logged, so that no run changes later."""

    run: TrackedRun  # grows with the study
    children: tuple[TrackedRun, ...]
    files: tuple[Path, ...]  # of the exported model

    @property
    def name(self) -> str:
        """Of the study."""
        return self.run.name


def tracked(study: StudyRecord, final_folder: Path) -> TrackedStudy:
    """What is logged of a study, and of its final training if there was one.

    Args:
        study: as it was read.
        final_folder: of its final training; need not be there.
    """
    key = _key(study)
    trials = [_of_trial(t, f"{key}-{t.number}") for t in study.trials if t.outcome is not None]
    files = [path for path in sorted(final_folder.glob("[!.]*")) if path.is_file()]
    return TrackedStudy(
        run=_of_study(study, key),
        children=(*trials, *_final_runs(final_folder / RUNS, key)),
        files=tuple(files),
    )


def _key(study: StudyRecord) -> str:
    """Equal for a study only, whatever is added to it."""
    first = study.searches[0] if study.searches else {}
    own = (study.name, study.settings.dataset_digest, study.seed, study.command)
    parts = [*own, first.get("started"), first.get("worker")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _of_study(study: StudyRecord, key: str) -> TrackedRun:
    best, final = study.incumbent, last_final(study)
    settings = flat(settings_to_json(study.settings))
    times = [time for t in study.trials for time in (t.started, t.finished) if time is not None]
    return TrackedRun(
        key=key,
        name=study.name,
        parameters={name: _plain(v) for name, v in settings.items() if v is not None},
        results={"trained": study.trained, **_of_test(final)},
        curves={"best_val_accuracy": curve} if (curve := _incumbents(study)) else {},
        tags={
            "command": study.command or "",
            "best": "" if best is None else f"trial {best.number}: {best.design}",
            "final": "" if final is None else f"{final.chosen.name}: {final.chosen.architecture}",
        },
        started=min(times, key=datetime.timestamp, default=None),
        ended=max(times, key=datetime.timestamp, default=None),
    )


def _of_test(final: FinalRecord | None) -> dict[str, float]:
    if final is None:
        return {}
    accuracy = final.exported.accuracy
    return {
        "test_accuracy": accuracy.value,
        "test_accuracy_low": accuracy.low,
        "test_accuracy_high": accuracy.high,
    }


def _incumbents(study: StudyRecord) -> Curve:
    """The best validation accuracy by the number of designs trained, in the order they ended."""
    ended = [t for t in study.trials if t.counts and t.finished]
    ended.sort(key=lambda t: t.finished.timestamp() if t.finished else 0.0)
    points, best = [], None
    for number, trial in enumerate(ended, start=1):
        if trial.outcome is Outcome.TRAINED and trial.val_accuracy is not None:
            best = max(best or 0.0, trial.val_accuracy)
        if best is not None:
            points.append((number, best))
    return tuple(points)


def _of_trial(trial: TrialRecord, key: str) -> TrackedRun:
    assert trial.outcome is not None
    names = (*COSTS, *LATENCIES)
    costs = {name: value for name in names if (value := getattr(trial, name)) is not None}
    measured = {
        "val_accuracy": None if trial.curve else trial.val_accuracy,
        "seconds": trial.seconds,
        "images_per_second": trial.images_per_second,
    }
    texts = {"reason": trial.reason, "forecast": trial.forecast, "device": trial.device}
    return TrackedRun(
        key=key,
        name=f"trial-{trial.number}",
        parameters={
            **({} if trial.architecture is None else _of_design(trial.architecture)),
            **costs,
            **{name: _plain(value) for name, value in trial.training.items()},
        },
        results={name: value for name, value in measured.items() if value is not None},
        curves={"val_accuracy": trial.curve} if trial.curve else {},
        tags={"outcome": trial.outcome.value, **{n: v for n, v in texts.items() if v}},
        started=trial.started,
        ended=trial.finished,
        failed=trial.outcome in _FAILED,
    )


def _of_design(design: Architecture) -> dict[str, Value]:
    """The choices of a design by the names that they have in Optuna."""
    found: dict[str, Value] = {"design": str(design), "stages": design.stages}
    for choice in FIELDS:
        value = getattr(design, choice.name)
        if isinstance(value, tuple):
            found |= {f"{choice.name}_{i}": one for i, one in enumerate(value, start=1)}
        else:
            found[choice.name] = value
    return found


def _final_runs(folder: Path, key: str) -> Iterator[TrackedRun]:
    """The runs of a final training that are done; one whose file is damaged is left out."""
    for path in sorted(folder.glob(f"*/{RESULT}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            run = json.loads(path.read_text(encoding="utf-8"))
            ended = datetime.fromtimestamp(path.stat().st_mtime)
            yield _of_final(run, path.parent.name, key, ended)


def _of_final(run: Mapping[str, Any], name: str, key: str, ended: datetime) -> TrackedRun:
    curves = {
        part: tuple((int(epoch["epoch"]), float(epoch[part])) for epoch in run["epochs"])
        for part in _OF_EPOCHS
    }
    return TrackedRun(
        key=f"{key}-{name}",
        name=f"final-{name}",
        parameters={
            "design": str(run["design"]),
            "seed": int(run["seed"]),
            "on": str(run["on"]),
            **{f"recipe.{part}": _plain(value) for part, value in run["recipe"].items()},
        },
        results={"seconds": float(run["seconds"])},
        curves={part: curve for part, curve in curves.items() if curve},
        tags={"device": str(run["device"]), "failed": str(run["failed"] or "")},
        started=ended - timedelta(seconds=float(run["seconds"])),
        ended=ended,
        failed=run["failed"] is not None,
    )


def _plain(value: object) -> Value:
    return value if isinstance(value, Value) else json.dumps(value)
