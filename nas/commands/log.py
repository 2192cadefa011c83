"""`nas log`: a study's trials in an experiment tracker."""

import argparse
import importlib
from pathlib import Path

from nas.commands import arguments
from nas.errors import RequestError
from nas.final.request import FinalRequest, final_folder
from nas.runtime import signals
from nas.study.location import StudyLocation
from nas.text import in_one_line, plural

SUMMARY = "log a study to MLflow, TensorBoard or Weights & Biases"

_PACKAGES = {"mlflow": "mlflow-skinny", "tensorboard": "tensorboard", "wandb": "wandb"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas log`."""
    parser.epilog = "Running it again adds only what is new."
    parser.add_argument("study", metavar="STUDY", help="name of the study")
    parser.add_argument("--to", choices=[*_PACKAGES], required=True, help="the tracker")
    parser.add_argument(
        "--dir",
        type=arguments.path,
        metavar="DIR",
        help="folder that is written to (default: mlflow.db here or what MLFLOW_TRACKING_URI says, "
        "tensorboard/, or wandb/ here or in WANDB_DIR)",
    )
    arguments.add_options(parser, FinalRequest, "studies_dir", "storage")


def run(options: argparse.Namespace) -> int:
    """Logs what is not there yet, and prints where it is."""
    location = StudyLocation.at(
        options.study, studies_dir=options.studies_dir, storage=options.storage
    )
    package = _PACKAGES[options.to]
    try:
        tracker = importlib.import_module(f"nas.trackers.to_{options.to}")
    except ModuleNotFoundError as error:
        if error.name != options.to:
            raise
        raise RequestError(
            f"--to {options.to}: expected the package {package}, got none; pip install {package}"
        ) from error
    from nas.study.reader import read_study
    from nas.trackers.runs import tracked

    signals.check()  # one that came while these were loaded
    study = tracked(read_study(location), final_folder(options.studies_dir, location))
    directory: Path | None = options.dir
    new, where = tracker.log(study, directory)
    print(
        in_one_line(
            f"{plural(new, 'new run')} of {study.name} logged, "
            f"{len(study.children) - new} were already logged: {where}"
        )
    )
    return 0
