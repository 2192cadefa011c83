"""`nas doctor`: can a search run here, and is anything left of one that was killed?"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from nas.commands import arguments
from nas.errors import RequestError
from nas.runtime import signals
from nas.search.request import SearchRequest, check_device_name
from nas.study.location import StudyError, StudyLocation, checkpoints_folder

if TYPE_CHECKING:  # torch and Optuna load in seconds; bad usage must be known before
    from nas.search.continuing import DataOptions
    from nas.search.environment import Finding

SUMMARY = "check versions, device, data, storage and a study, one line each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas doctor`."""
    which = ("dataset", "data_dir", "study", "studies_dir", "storage")
    arguments.add_options(parser, SearchRequest, *which)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="end trials of --study whose worker is gone, and remove checkpoints that are no "
        "longer needed",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="train briefly on auto, cpu, cuda or cuda:N, and report whether the results are "
        "right and how fast it is; takes half a minute on a GPU, and searches use the verdict",
    )
    arguments.add_options(parser, SearchRequest, "grace")
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints a line per finding; 0 when all is well."""
    if options.device is not None:
        check_device_name(options.device)
    if options.repair and options.study is None:
        raise RequestError("--repair: expected the study to repair with --study, got none")
    location = StudyLocation.at(
        "doctor" if options.study is None else options.study,
        studies_dir=options.studies_dir,
        storage=options.storage,
    )
    findings = []
    for finding in _findings(options, location):
        signals.check()
        findings.append(finding)
        if not options.json:
            verdict = " ".join(finding.verdict.split())
            print(f"{'ok ' if finding.good else 'BAD'}  {finding.name:<12} {verdict}", flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    return 0 if all(finding.good for finding in findings) else 1


def _findings(options: argparse.Namespace, location: StudyLocation) -> "Iterator[Finding]":
    from nas.search import environment

    def check_device() -> "Iterator[Finding]":
        from nas.runtime.devices import open_device
        from nas.search import device_check

        return device_check.check_device(open_device(options.device))

    def look_at_data() -> "Iterator[Finding]":
        data = _data_options(options, location)
        yield environment.look_at_data(data.dataset, data.data_dir)

    def look_at_storage() -> "Iterator[Finding]":
        import optuna

        from nas.search import doctor

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        yield doctor.look_at_storage(location)
        if options.study is not None:
            folder = checkpoints_folder(options.studies_dir, location)
            yield from doctor.look_at_study(
                location, folder, grace=options.grace, repair=options.repair
            )

    yield environment.look_at_versions()
    yield from environment.look_at_packages()
    yield from environment.looked_at("device", environment.look_at_devices)
    yield from environment.look_at_load()
    if options.device is not None:
        yield from environment.looked_at("training", check_device)
    yield from environment.looked_at("data", look_at_data)
    yield from environment.looked_at("storage", look_at_storage)


def _data_options(options: argparse.Namespace, location: StudyLocation) -> "DataOptions":
    from nas.search.continuing import data_options

    study = None
    if options.study is not None:
        from nas.study.reader import read_study

        with suppress(StudyError):  # which is one of the findings
            study = read_study(location)
    return data_options(study, dataset=options.dataset, data_dir=options.data_dir)
