"""`nas doctor`: can a search run here, and is anything left of one that was killed?"""

import argparse
import dataclasses
import json
from contextlib import suppress

from nas.commands import arguments
from nas.errors import RequestError
from nas.runtime import signals
from nas.study.location import StudyError, StudyLocation
from nas.study.request import checkpoints_folder

SUMMARY = "check versions, device, data, storage and a study, one line each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas doctor`."""
    arguments.add_data_folder_options(parser, default="auto")
    arguments.add_study_options(parser, study_required=False)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="end trials of --study without a worker, and remove checkpoints of no use",
    )
    arguments.add_grace_option(parser)
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints a line per finding; 0 when all is well."""
    if options.repair and options.study is None:
        raise RequestError("--repair: expected the study to repair with --study, got none")
    location = StudyLocation.at(
        options.study or "doctor", studies_dir=options.studies_dir, storage=options.storage
    )
    import optuna

    from nas.study import doctor
    from nas.study.storage import read_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = options.dataset
    if options.study is not None and dataset == "auto":
        with suppress(StudyError):  # which is one of the findings
            dataset = read_study(location).settings.dataset
    findings = [doctor.look_at_versions(), doctor.look_at_devices()]
    signals.check()
    findings.append(doctor.look_at_data(dataset, options.data_dir))
    signals.check()
    findings.append(doctor.look_at_storage(location))
    signals.check()
    if options.study is not None:
        folder = checkpoints_folder(options.studies_dir, location)
        findings += doctor.look_at_study(
            location, folder, grace=options.grace, repair=options.repair
        )
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            verdict = " ".join(finding.verdict.split())
            print(f"{'ok ' if finding.good else 'BAD'}  {finding.name:<12} {verdict}")
    return 0 if all(finding.good for finding in findings) else 1
