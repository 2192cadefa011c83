"""Runs as event files of TensorBoard: a folder for each, in one of the study.

A folder takes its place when all its events are written, so that one that is there is done.
"""

import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nas.files import temporary_folder
from nas.report.document import slug
from nas.runtime import signals
from nas.trackers.runs import TrackedRun, TrackedStudy

_FOLDER = Path("tensorboard")
_OF_STUDY = "study"  # the folder of its own run: a study may have the name of a trial


def log(study: TrackedStudy, folder: Path | None) -> tuple[int, str]:
    """Logs what is not there yet; gives how many runs that were, and where they are.

    TensorBoard keeps no files: the run of the study says where those of the model are.

    Args:
        study: what to log.
        folder: what `tensorboard --logdir` is to show; None: `tensorboard`.

    Raises:
        OSError: a file cannot be written.
    """
    folder = folder or _FOLDER
    runs = folder / f"{slug(study.name)}-{study.run.key}"
    runs.mkdir(parents=True, exist_ok=True)
    places = {runs / slug(run.name): run for run in study.children}
    new = {place: run for place, run in places.items() if not place.exists()}
    for place, run in new.items():
        signals.check()
        _write(place, run, {})
    files = "\n".join(f"- `{file}`" for file in study.files)
    _write(runs / _OF_STUDY, study.run, {"model": files} if files else {})
    return len(new), str(folder)


def _write(place: Path, run: TrackedRun, texts: dict[str, str]) -> None:
    with temporary_folder(place.parent, place.name) as unfinished:
        with SummaryWriter(str(unfinished)) as writer:
            for name, curve in run.curves.items():
                for step, value in curve:
                    time = run.time_of(step)
                    writer.add_scalar(name, value, step, time.timestamp() if time else None)
            results = {f"result/{name}": value for name, value in run.last.items()}
            writer.add_hparams(dict(run.parameters), results, run_name=".")
            for name, text in {**run.tags, **texts}.items():
                if text:
                    writer.add_text(name, text)
        if place.exists():  # of the study, which has grown
            shutil.rmtree(place)
        unfinished.chmod(0o755)
        unfinished.rename(place)
