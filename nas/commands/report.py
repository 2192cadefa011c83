"""`nas report`: one self-contained HTML file about a study."""

import argparse
import json
import sys

from nas.commands import arguments
from nas.study.location import StudyLocation, check_directory

SUMMARY = "write one self-contained HTML file about a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas report`."""
    arguments.add_study_options(parser, study_required=True)
    arguments.add_report_option(parser)
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the report and prints where it is."""
    check_directory("--reports-dir", options.reports_dir)
    location = StudyLocation.at(
        options.study, studies_dir=options.studies_dir, storage=options.storage
    )
    from nas.final.request import final_folder
    from nas.report.page import write_report
    from nas.study.storage import read_study

    study = read_study(location)
    folder = final_folder(options.studies_dir, location)
    try:
        path = write_report(study, options.reports_dir, final_folder=folder)
    except OSError as error:
        print(f"error: the report could not be written: {error}; make room", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"study": study.name, "report": str(path), "trained": study.trained}))
    else:
        print(path)
    return 0
