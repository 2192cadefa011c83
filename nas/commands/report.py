"""`nas report`: one self-contained HTML file about a study, or about two; and its records."""

import argparse
import errno
import json
import sys

from nas.commands import arguments
from nas.search.request import SearchRequest
from nas.study.location import StudyError, StudyLocation, check_directory
from nas.text import in_one_line

SUMMARY = "write one self-contained HTML file about a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas report`."""
    studies = parser.add_mutually_exclusive_group(required=True)
    studies.add_argument("--study", metavar="NAME", help="name of the study")
    studies.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="compare two studies instead"
    )
    arguments.add_options(parser, SearchRequest, "studies_dir", "storage")
    arguments.add_reports_option(parser)
    parser.add_argument(
        "--csv", type=arguments.path, metavar="FILE", help="also write all trials as CSV"
    )
    parser.add_argument(
        "--png",
        type=arguments.path,
        metavar="DIR",
        help="also write the figures as PNG files, drawn by Chromium or Chrome",
    )
    parser.add_argument(
        "--json", action="store_true", help="print all records as one JSON document"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the report and prints where it is."""
    if options.compare and options.csv:
        raise StudyError("--csv: expected --study with it, got --compare; write one CSV per study")
    if options.compare and options.compare[0] == options.compare[1]:
        raise StudyError(
            f"--compare: expected two studies, got {options.compare[0]!r} twice; name another one"
        )
    check_directory("--reports-dir", options.reports_dir)
    if options.csv:
        check_directory("--csv", options.csv.parent)
    if options.png:
        check_directory("--png", options.png)
    locations = [
        StudyLocation.at(name, studies_dir=options.studies_dir, storage=options.storage)
        for name in options.compare or [options.study]
    ]
    from nas.report.document import page_path
    from nas.report.export import study_document, trials_csv
    from nas.report.pictures import PicturesError, check_browser, write_pictures
    from nas.study.reader import read_any_study, read_study
    from nas.study.records import UnreadableStudy

    if options.csv:
        report = page_path(options.reports_dir, options.study)
        if options.csv.is_dir() or options.csv.resolve() == report.resolve():
            what = "a directory" if options.csv.is_dir() else "that of the report"
            raise StudyError(f"--csv: expected a file, got {options.csv}, {what}; name another one")
    try:
        if options.png:
            check_browser()
        if options.compare:
            from nas.report.compare import write_comparison

            first, second = map(read_study, locations)
            path = write_comparison(first, second, options.reports_dir)
            documents = {"studies": [study_document(study) for study in (first, second)]}
            doubts = [first.doubts, second.doubts]
        else:
            from nas.files import replacing
            from nas.final.request import final_folder
            from nas.report.page import write_report

            study = read_any_study(locations[0])
            if isinstance(study, UnreadableStudy):
                doubts = [f"the report shows only what can be read: {study.reason}"]
            else:
                doubts = [study.doubts]
            folder = final_folder(options.studies_dir, locations[0])
            path = write_report(study, options.reports_dir, final_folder=folder)
            documents = study_document(study)
            if options.csv:
                options.csv.parent.mkdir(parents=True, exist_ok=True)
                with replacing(options.csv) as file:
                    file.write(trials_csv(study))
        for doubt in filter(None, doubts):
            print(f"NOTE: {in_one_line(doubt)}", file=sys.stderr)
        pictures = write_pictures(path, options.png) if options.png else []
    except PicturesError as error:
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        room = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        reason = in_one_line(f"the report could not be written: {error}{room}")
        print(f"error: {reason}", file=sys.stderr)
        return 1
    files = [path, *([options.csv] if options.csv else []), *pictures]
    if options.json:
        document = {"report": str(path), "files": [str(file) for file in files], **documents}
        print(json.dumps(document, allow_nan=False))
    else:
        print("\n".join(map(str, files)))
    return 0
