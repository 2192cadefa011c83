"""The server: Optuna Dashboard, what nas adds to its answers, and the pages beside it."""

import socketserver
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
import optuna_dashboard
from optuna.trial import FrozenTrial

from nas.dashboard.live import LiveStudy
from nas.dashboard.pages import guarded, model_addresses
from nas.dashboard.studies import OneStudy, Served, StudiesOfFolder
from nas.errors import RequestError
from nas.final.request import final_folder
from nas.runtime import signals
from nas.study.location import StudyError, StudyLocation
from nas.study.optuna_private import storage_of, without_collecting
from nas.study.reader import open_existing
from nas.templates import code

HOST = "127.0.0.1"  # the dashboard has no authentication

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
    path: str  # of what is shown first

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server.server_port}{self.path}"


def make_dashboard(
    location: StudyLocation | None,
    *,
    port: int,
    or_free: bool = False,
    studies_dir: Path,
    allow_edits: bool = False,
) -> Dashboard:
    """Reports and Optuna Dashboard on a study, or on all of a folder, on this machine only.

    Notes are not stored: they are added to the dashboard's answers, unless a person wrote one.

    Args:
        location: of the study; None: all of `studies_dir`, of which none can be changed.
        port: to listen on; 0 takes a free one.
        or_free: takes a free one, too, if that port is taken.
        studies_dir: with the studies and their final trainings.
        allow_edits: lets whoever opens it write notes, and rename and delete studies.

    Raises:
        StudyError: there is no such study.
        RequestError: the port cannot be had.
    """
    server = _listening(port, or_free=or_free)  # first: it takes no time, and a study may
    try:
        studies, path = _studies(location, studies_dir)
    except BaseException:
        server.server_close()
        raise
    server.set_app(guarded(studies, allow_edits=allow_edits and location is not None))
    return Dashboard(server, path)


def _listening(port: int, *, or_free: bool) -> _Server:
    for one in (port, 0) if or_free else (port,):
        try:
            return _Server((HOST, one), _QuietHandler)
        except OSError as error:
            failed = error
    raise RequestError(
        f"--port: expected a free port, got {port}: {failed.strerror}; choose another one"
    ) from failed


def _studies(
    location: StudyLocation | None, studies_dir: Path
) -> tuple[OneStudy | StudiesOfFolder, str]:
    """What is served, and the path of what is shown first."""

    def serve(location: StudyLocation, number: int | None = None) -> Served:
        study = open_existing(location)
        live = LiveStudy(study, location, final_folder(studies_dir, location), number)
        with without_collecting(), suppress(StudyError):
            live.record()  # reads every trial for the first time
        _make_incumbent_best(study, live)
        app = optuna_dashboard.wsgi(storage_of(study))
        app.install(_Notes(live))
        return Served(live, app)

    if location is None:
        app = optuna_dashboard.wsgi(optuna.storages.InMemoryStorage())
        return StudiesOfFolder(studies_dir, app, serve), "/"
    one = OneStudy(serve(location))
    return one, one.study.live.report_address


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
    """A plugin of Bottle, on which the dashboard is built.

    It lets a study have another number in addresses than in its storage, and adds notes to its
    detail.
    """

    name = "nas"
    api = 2

    def __init__(self, live: LiveStudy) -> None:
        self._live = live

    def apply(self, callback: Callable[..., Any], route: Any) -> Callable[..., Any]:
        """The view of a route; another one where it is of a study."""
        if "<study_id:int>" not in route.rule:
            return callback

        def view(study_id: int, **others: Any) -> Any:
            own = study_id == self._live.number
            answer = callback(study_id=self._live.id if own else study_id, **others)
            detail = (route.rule, route.method) == (_DETAIL, "GET")
            if own and detail and isinstance(answer, dict) and "trials" in answer:
                self._add(answer)
            return answer

        return view

    def _add(self, answer: dict[str, Any]) -> None:
        live = self._live
        shown = [*answer["trials"], *answer["best_trials"]]
        for trial in shown:
            trial["study_id"] = live.number
        try:
            study = live.record()
        except StudyError as error:
            _fill(answer, code(error))
            return
        # What is no text or number is in the note, in words.
        attributes = answer["user_attrs"]
        answer["user_attrs"] = [a for a in attributes if not a["value"].startswith(("{", "["))]
        _fill(answer, live.note(study, model_addresses(live)))
        for trial in shown:
            _fill(trial, live.trial_note(trial["number"], study))


def _fill(noted: dict[str, Any], body: str) -> None:
    """Adds a note, unless a person wrote one: then it has a version."""
    if not noted["note"]["version"]:
        noted["note"] = {"version": 0, "body": body}
