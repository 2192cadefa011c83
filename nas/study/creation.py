"""How a search begins in a study: it makes it, or checks that it is one of its settings."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime

import optuna
from optuna.exceptions import ExperimentalWarning

from nas import packages
from nas.runtime.liveness import is_alive
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import attributes_of, settings_of
from nas.study.records import StudySettings
from nas.study.settings import differences, settings_to_json


def begin_search(
    study: optuna.Study,
    location: StudyLocation,
    settings: StudySettings,
    *,
    search: Mapping[str, object],
    notes: Sequence[str] = (),
) -> None:
    """Makes a new study one of these settings, or checks that it is; and notes the search in it.

    To be called under the allocation lock of `nas.study.store`.

    Args:
        study: open.
        location: where it is, for messages.
        settings: of the study.
        search: what is kept of this search, with its `seed`, `command` and `worker`.
        notes: what a reader of the study must know.

    Raises:
        StudyError: the study was made with other settings, each of which is a note of the error, or
            not by nas.
    """
    kept = kept_settings(study, location)
    if kept is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"{location}: expected a study made by nas, got a study without settings; "
                "choose another name with --study"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(["val_accuracy"])
        study.set_user_attr("versions", versions())
        study.set_user_attr("seed", search.get("seed"))
        study.set_user_attr("notes", list(notes))
        study.set_user_attr("command", search.get("command"))
        study.set_user_attr("settings", settings_to_json(settings))
    else:
        changed = differences(kept, settings)
        if changed:
            error = StudyError(
                f"{location}: expected the settings the study was made with, got others; use "
                "those, or choose another name with --study"
            )
            for difference in changed:
                error.add_note(difference)
            raise error
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    now = {**search, "versions": versions(), "started": started}
    study.set_user_attr("searches", [*study.user_attrs.get("searches", ()), now])


def kept_settings(study: optuna.Study, location: StudyLocation) -> StudySettings | None:
    """The settings that a search of this study must have.

    None where it makes the study, or makes it anew: one without trials that no other searches.

    Args:
        study: open.
        location: where it is, for messages.

    Raises:
        StudyError: another version made it.
    """
    attributes = attributes_of(study, location)
    if "settings" not in attributes:
        return None
    empty = not study.get_trials(deepcopy=False)
    used = any(is_alive(before.get("worker")) for before in attributes.get("searches", ()))
    return None if empty and not used else settings_of(study, location)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide results."""
    return {"python": platform.python_version(), **packages.versions()}
