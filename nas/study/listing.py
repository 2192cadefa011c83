"""What studies lie in a folder, in milliseconds each.

Optuna takes a second to load and a quarter of one to open a study; what a list says is a few rows
of each file, which SQLite's own library reads. A test holds it to `nas.study.reader.read_study`,
which looks at all attributes of a trial: one that another program wrote may count here, not there.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.latency import LatencyLimit
from nas.space import Limits
from nas.study.location import StudyError
from nas.study.records import Outcome, asked_of, ended_as, limits_in_words
from nas.study.settings import settings_from_json

_TRIALS = """
    SELECT trials.state, outcome.value_json, result.value
    FROM trials
    LEFT JOIN trial_user_attributes AS outcome
        ON outcome.trial_id = trials.trial_id AND outcome.key = 'outcome'
    LEFT JOIN trial_values AS result ON result.trial_id = trials.trial_id
    WHERE study_id = ?
"""


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """What a list says of one study."""

    name: str
    path: Path
    changed: datetime  # when the file was
    dataset: str
    limits: Limits
    latency: LatencyLimit | None
    trained: int  # designs
    asked: int | None  # designs, by its last search that says so, or `trained` if that is more
    time: str | None  # that its last search had over all searches, such as 30m, or none
    best_val_accuracy: float | None  # of the incumbent, 0..1

    @property
    def within(self) -> str:
        """All limits in words."""
        return limits_in_words(self.limits, self.latency)

    @property
    def finished(self) -> bool | None:
        """Whether all designs asked for are trained; None if that is unknown."""
        return None if self.asked is None else self.trained >= self.asked


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file that has the name of a study."""

    path: Path
    reason: str
    name: str | None = None  # of the study in it, of which only the settings cannot be read


def list_studies(folder: Path) -> Iterator[ListedStudy | OtherFile]:
    """The studies in a folder by name, and the files that have such a name and are none.

    Raises:
        StudyError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".db")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StudyError(
            f"--studies-dir: expected a folder that can be read, got {folder}: {error.strerror}"
        ) from error
    for path in paths:
        try:
            yield from _studies_in(path)
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            yield OtherFile(path, f"expected a study, got {type(error).__name__}: {error}")


def _studies_in(path: Path) -> Iterator[ListedStudy | OtherFile]:
    if not path.is_file():
        yield OtherFile(path, "expected a file with a study, got none")
        return
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if not {"studies", "trials"} <= tables:
            got = "the database of another program" if tables else "an empty file"
            yield OtherFile(path, f"expected a study, got {got}")
            return
        ids = database.execute("SELECT study_id, study_name FROM studies").fetchall()
        for study_id, name in ids:
            # A study that is alone is known by the name of its file.
            called = path.stem if len(ids) == 1 else str(name)
            yield _study(database, study_id, called, path)
        if not ids:
            yield OtherFile(path, "expected a study, got a database without one")


def _study(
    database: sqlite3.Connection, study_id: int, name: str, path: Path
) -> ListedStudy | OtherFile:
    rows = database.execute(
        "SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", (study_id,)
    )
    attributes: dict[str, Any] = {key: _loaded(value) for key, value in rows}
    if "settings" not in attributes:
        return OtherFile(path, f"expected a study made by nas, got {name!r} without its settings")
    try:
        settings = settings_from_json(attributes["settings"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"expected a study made by this version of nas, got {name!r} with {error}"
        return OtherFile(path, reason, name)
    ended = [
        (ended_as(state, _loaded(outcome), value), value)
        for state, outcome, value in database.execute(_TRIALS, (study_id,))
    ]
    searches = [s for s in attributes.get("searches", ()) if isinstance(s, dict)]
    asked = asked_of(searches)
    trained = sum(outcome.counts for outcome, _ in ended if outcome is not None)
    return ListedStudy(
        name=name,
        path=path,
        changed=datetime.fromtimestamp(_changed(path)).astimezone(),
        dataset=settings.dataset,
        limits=settings.limits,
        latency=settings.latency,
        trained=trained,
        asked=None if asked is None else max(asked, trained),
        time=searches[-1].get("time") if searches else None,
        best_val_accuracy=max((v for o, v in ended if o is Outcome.TRAINED), default=None),
    )


def _changed(path: Path) -> float:
    """When a study was last written, in seconds since the epoch; its newest rows lie in the log."""
    log = path.with_name(f"{path.name}-wal")
    return max(file.stat().st_mtime for file in (path, log) if file.exists())


def _loaded(text: str | None) -> Any:
    """What an attribute holds; None where it is cut or missing."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
