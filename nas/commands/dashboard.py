"""`nas dashboard`: reports and Optuna Dashboard on studies, on this machine only."""

import argparse
import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.commands import arguments
from nas.errors import RequestError
from nas.final.request import FinalRequest
from nas.runtime import signals
from nas.study.location import StudyLocation

if TYPE_CHECKING:
    from nas.dashboard.server import Dashboard

SUMMARY = "open reports and Optuna Dashboard on 127.0.0.1"

_PORT = 8080


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas dashboard`."""
    parser.add_argument(
        "--study",
        metavar="NAME",
        help="name of the study (default: a list of all in --studies-dir)",
    )
    arguments.add_options(parser, FinalRequest, "studies_dir", "storage")
    parser.add_argument(
        "--port",
        type=arguments.port,
        metavar="N",
        help=f"port to listen on (default: {_PORT}, or a free one if that is taken)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address without opening a browser"
    )
    parser.add_argument(
        "--allow-edits",
        action="store_true",
        help="allow anyone who opens the page to write notes on --study, and to rename and delete "
        "studies of its storage",
    )


def run(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    dashboard = _dashboard(options)
    print(dashboard.address, flush=True)
    print("Ctrl-C ends it", file=sys.stderr)
    if not options.no_browser and sys.stdout.isatty() and has_browser(os.environ, sys.platform):
        # Some browsers keep the caller waiting; the server answers meanwhile.
        threading.Thread(target=webbrowser.open, args=(dashboard.address,), daemon=True).start()
    with dashboard.server as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return signals.INTERRUPTED
    return 0


def has_browser(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a window can be opened here; a browser in the terminal is none."""
    named = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return platform == "darwin" or any(environment.get(name) for name in named)


def _dashboard(options: argparse.Namespace) -> "Dashboard":
    location = _location(options)
    from nas.dashboard.server import make_dashboard

    signals.check()  # one that came while that was loaded
    return make_dashboard(
        location,
        port=_PORT if options.port is None else options.port,
        or_free=options.port is None,
        studies_dir=options.studies_dir,
        allow_edits=options.allow_edits,
    )


def _location(options: argparse.Namespace) -> StudyLocation | None:
    """The place of the study; None for all of the folder."""
    if options.study is not None:
        return StudyLocation.at(
            options.study, studies_dir=options.studies_dir, storage=options.storage
        )
    for name in ("storage", "allow_edits"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise RequestError(f"{option}: expected --study with it, got none; name the study")
    return None
