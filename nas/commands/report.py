"""`nas report`: one self-contained HTML file about a study."""

import argparse
import json

from nas.commands import arguments
from nas.study.location import StudyLocation

SUMMARY = "write one self-contained HTML file about a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas report`."""
    arguments.add_study_options(parser, study_required=True)
    arguments.add_report_option(parser)
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Writes the report and prints where it is."""
    location = StudyLocation.at(
        options.study, studies_dir=options.studies_dir, storage=options.storage
    )
    from nas.report.page import write_report
    from nas.study.storage import read_study

    study = read_study(location)
    path = write_report(study, options.reports_dir)
    if options.json:
        print(json.dumps({"study": study.name, "report": str(path), "trained": study.trained}))
    else:
        print(path)
    return 0
