"""Optuna Dashboard as a server for one study."""

import socketserver
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard

from nas.study.location import StudyLocation
from nas.study.storage import open_existing


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal free of a line per request."""


def serve(location: StudyLocation, *, host: str, port: int) -> tuple[WSGIServer, str]:
    """A server of Optuna Dashboard, bound but not yet serving, and the study's path in it.

    Port 0 takes a free one.

    Raises:
        StudyError: there is no such study.
        OSError: the port cannot be had.
    """
    study = open_existing(location)
    app = optuna_dashboard.wsgi(study._storage)
    server = make_server(host, port, app, server_class=_Server, handler_class=_QuietHandler)
    return server, f"/dashboard/studies/{study._study_id}"
