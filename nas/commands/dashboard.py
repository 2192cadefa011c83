"""`nas dashboard`: Optuna Dashboard on a study, on this machine only."""

import argparse
import sys

from nas.commands import arguments
from nas.study.location import StudyLocation
from nas.study.request import RequestError

SUMMARY = "open Optuna Dashboard on a study, on 127.0.0.1"

_HOST = "127.0.0.1"  # the dashboard has no authentication


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas dashboard`."""
    arguments.add_study_options(parser, study_required=True)
    parser.add_argument(
        "--port", type=arguments.port, default=8080, metavar="N", help="port to listen on"
    )


def run(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    location = StudyLocation.at(
        options.study, studies_dir=options.studies_dir, storage=options.storage
    )
    from nas.study.dashboard import serve

    try:
        server, path = serve(location, host=_HOST, port=options.port)
    except OSError as error:
        raise RequestError(
            f"--port: expected a free port, got {options.port}: {error.strerror}"
        ) from error
    print(f"http://{_HOST}:{server.server_port}{path}   (Ctrl-C ends it)", file=sys.stderr)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 130
    return 0
