"""The server: Optuna Dashboard, what nas adds to its answers, and the pages beside it."""

import socketserver
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard
from optuna.trial import FrozenTrial

from nas.dashboard.live import LiveStudy
from nas.dashboard.notes import study_note
from nas.dashboard.pages import Files, guarded
from nas.report.document import page_path
from nas.runtime import signals
from nas.search.request import folder_of
from nas.study.location import StudyError, StudyLocation
from nas.study.optuna_private import storage_of
from nas.study.reader import open_existing
from nas.templates import code

HOST = "127.0.0.1"  # the dashboard has no authentication

_MANY = 1_000  # trials, of which a browser draws the overview's figures in ten seconds or more
_DETAIL = "/api/studies/<study_id:int>"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def service_actions(self) -> None:
        """Ends `serve_forever`, which calls it every half second, once a signal has come."""
        signals.check()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal free of a line per request."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A server that is bound, but does not serve yet."""

    server: WSGIServer
    path: str  # of the study in it, and what of it is shown first

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server.server_port}{self.path}"


def make_dashboard(
    location: StudyLocation,
    *,
    port: int,
    studies_dir: Path,
    reports_dir: Path,
    allow_edits: bool = False,
) -> Dashboard:
    """Optuna Dashboard on a study, on this machine only.

    Notes are not stored: they are added to the dashboard's answers, unless a person wrote one.

    Args:
        location: of the study.
        port: to listen on; 0 takes a free one.
        studies_dir: with the study's final training.
        reports_dir: with its report.
        allow_edits: lets whoever opens it write notes, and rename and delete studies.

    Raises:
        StudyError: there is no such study.
        OSError: the port cannot be had.
    """
    study = open_existing(location)
    live = LiveStudy(study, location)
    live.load()
    files = Files(
        report=page_path(reports_dir, location.name),
        model=folder_of(studies_dir, location) / "final",
    )
    _make_incumbent_best(study, live)
    app = optuna_dashboard.wsgi(storage_of(study))
    app.install(_Notes(live, files))
    server = make_server(
        HOST,
        port,
        guarded(app, live, files, allow_edits=allow_edits),
        server_class=_Server,
        handler_class=_QuietHandler,
    )
    many = len(study.get_trials(deepcopy=False)) > _MANY
    return Dashboard(server, f"/dashboard/studies/{live.id}{'/trials' if many else ''}")


def _make_incumbent_best(study: optuna.Study, live: LiveStudy) -> None:
    """Lets the storage of this process take the incumbent for the best trial of the study.

    Of equal trials a database returns any, and it does not look at constraints or outcomes.
    """
    storage = storage_of(study)
    original = storage.get_best_trial

    def best_trial(study_id: int) -> FrozenTrial:
        if study_id != live.id:
            return original(study_id)
        try:
            incumbent = live.record().incumbent
        except StudyError:
            incumbent = None
        if incumbent is None:
            return original(study_id)
        trials = study.get_trials(deepcopy=False)
        return next(trial for trial in trials if trial.number == incumbent.number)

    storage.get_best_trial = best_trial  # type: ignore[method-assign]


class _Notes:
    """A plugin of Bottle, on which the dashboard is built: adds notes to the study's detail."""

    name = "nas"
    api = 2

    def __init__(self, live: LiveStudy, files: Files) -> None:
        self._live = live
        self._files = files

    def apply(self, callback: Callable[..., Any], route: Any) -> Callable[..., Any]:
        """The view of a route, with notes where it is that of a study."""
        if (route.rule, route.method) != (_DETAIL, "GET"):
            return callback

        def with_notes(study_id: int) -> Any:
            answer = callback(study_id=study_id)
            if study_id == self._live.id and isinstance(answer, dict) and "trials" in answer:
                self._add(answer)
            return answer

        return with_notes

    def _add(self, answer: dict[str, Any]) -> None:
        try:
            study = self._live.record()
        except StudyError as error:
            _fill(answer, code(error))
            return
        files = self._files
        _fill(answer, study_note(study, report=files.report_address, model=files.model_addresses))
        for trial in (*answer["trials"], *answer["best_trials"]):
            _fill(trial, self._live.trial_note(trial["number"], study))


def _fill(noted: dict[str, Any], body: str) -> None:
    """Adds a note, unless a person wrote one: then it has a version."""
    if not noted["note"]["version"]:
        noted["note"] = {"version": 0, "body": body}
