"""Runs in Weights & Biases, online or offline: those of a study are a group.

Its folder `wandb` says which runs are done: a run's folder has its key in its name, and is marked
with what was logged when that was whole. One without the mark was cut off, and is logged anew.
"""

import hashlib
import os
import shutil
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from nas.errors import RequestError
from nas.runtime import signals
from nas.trackers.runs import TrackedRun, TrackedStudy

_PROJECT = "nas"
_MARK = "nas-logged"


def log(study: TrackedStudy, folder: Path | None) -> tuple[int, str]:
    """Logs what is not there yet; gives how many runs that were, and where they are.

    WANDB_MODE, WANDB_PROJECT and the other variables of wandb hold.

    Args:
        study: what to log.
        folder: in which wandb keeps its folder `wandb`; None: where WANDB_DIR says, or here.

    Raises:
        RequestError: wandb is not set up, or does not answer.
        OSError: a file cannot be written.
    """
    place = folder or Path(os.environ.get("WANDB_DIR") or ".")
    place.mkdir(parents=True, exist_ok=True)
    try:
        new = sum(_log(run, study, place, ()) for run in study.children)
        _log(study.run, study, place, study.files)
    except wandb.errors.Error as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(
            f"--to wandb: expected a login or WANDB_MODE=offline, got: {reason}; wandb login, or "
            "set WANDB_MODE"
        ) from error
    return new, str(place / "wandb")


def _log(run: TrackedRun, study: TrackedStudy, place: Path, files: tuple[Path, ...]) -> bool:
    """Logs a run, if what it says is not logged yet; whether it was."""
    signals.check()
    digest = hashlib.sha256(
        repr((run, [(f, f.stat().st_mtime) for f in files])).encode()
    ).hexdigest()
    for there in (place / "wandb").glob(f"*run-*-{run.key}"):
        mark = there / _MARK
        if mark.exists() and mark.read_text() == digest:
            return False
        shutil.rmtree(there)
    kind = "search" if run is study.run else run.name.partition("-")[0]
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        group=study.name,
        job_type=kind,
        id=run.key,
        name=run.name,
        config={**run.parameters, **run.tags},
        dir=str(place),
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    ) as logged:
        steps: dict[int, dict[str, float]] = defaultdict(dict)
        for name, curve in run.curves.items():
            for step, value in curve:
                steps[step][name] = value
        for step in sorted(steps):
            logged.log(steps[step], step=step)
        logged.summary.update(dict(run.results))
        if files:
            model = wandb.Artifact(f"{run.key}-model", "model")
            for file in files:
                model.add_file(str(file))
            logged.log_artifact(model)
        mark = Path(logged.dir).parent / _MARK
        logged.finish(exit_code=1 if run.failed else 0)
    if mark.parent.is_dir():
        mark.write_text(digest)
    return True
