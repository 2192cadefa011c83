"""`nas predict`: what an exported model sees on images."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands import arguments
from nas.data.catalogue import DataError
from nas.final.request import model_folder
from nas.runtime import signals, streams
from nas.search.request import check_device_name
from nas.text import in_one_line, percent, percent_range, printable

if TYPE_CHECKING:  # torch loads in seconds; bad usage must be known before
    from nas.export.loading import Classifier, Prediction
    from nas.statistics import Estimate

SUMMARY = "classify images with an exported model"

_TOGETHER = 256  # files that are read before their rows are printed


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file or folder without a prediction."""

    file: str
    reason: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas predict`."""
    parser.epilog = (
        "Exit status: 0 all images were classified; 1 some were, and the others are named on "
        "stderr; 2 none was."
    )
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL_DIR",
        help="folder of an exported model, or of a study with a final training",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=os.path.expanduser,
        metavar="IMAGE",
        help="an image file, or a folder that is searched with all its subfolders",
    )
    parser.add_argument(
        "--top",
        type=arguments.whole_number,
        default=3,
        metavar="N",
        help="how many of the likeliest classes to show",
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N"
    )
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints a row per image; 1 when some files are no images, 2 when all are none."""
    check_device_name(options.device)
    from nas.export.loading import load
    from nas.runtime.devices import open_device

    signals.check()  # one that came while these were loaded
    folder = model_folder(options.model)
    model = load(folder, device=open_device(options.device))
    tested = _tested(model)
    if tested is not None:
        interval = percent_range(tested.low, tested.high)
        print(
            f"test accuracy of this model {percent(tested.value)} (95% interval {interval})",
            file=sys.stderr,
        )
    files, failures = _files(options.images)
    for failure in failures:
        _name(failure)
    table = _Table(model, files, options.top)
    predictions: list[Prediction] = []
    for result in _predict(model, files, options.top):
        if isinstance(result, _Failure):
            failures.append(result)
            _name(result)
            continue
        predictions.append(result)
        if not options.json:
            table.row(result)
        if streams.stdout_error():  # nobody reads on
            break
    if not predictions:
        return 2
    if options.json:
        print(_document(folder, model, tested, predictions, failures))
    return 1 if failures else 0


def _tested(model: "Classifier") -> "Estimate | None":
    """The accuracy of the model on the test images of its study; None where nothing says."""
    from nas.final.records import FinalRecord

    try:
        return FinalRecord.from_dict(model.metrics).exported.accuracy
    except ValueError:  # of another version, or of a model that another program exported
        return None


def _files(given: Sequence[str]) -> tuple[list[str], list[_Failure]]:
    """The files that are named, and the images in the folders that are; and what gives none."""
    from nas.data.listing import list_images

    files: list[str] = []
    failures: list[_Failure] = []

    def unreadable(error: OSError) -> None:
        folder = str(error.filename)
        reason = f"{folder}: expected a readable folder, got: {error.strerror}"
        failures.append(_Failure(folder, reason))

    for path in given:
        if not os.path.isdir(path):
            files.append(path)
            continue
        known = len(failures)
        found = list_images(path, unreadable).images
        files += [os.path.join(path, image) for image in found]
        if not found and len(failures) == known:
            reason = f"{path}: expected images in this folder, got none: name another, or a file"
            failures.append(_Failure(path, reason))
    return files, failures


def _predict(
    model: "Classifier", files: Sequence[str], top: int
) -> "Iterator[Prediction | _Failure]":
    """What is on each file, in order; where some are no images, they are read one by one."""
    for start in range(0, len(files), _TOGETHER):
        some = files[start : start + _TOGETHER]
        try:
            yield from model.predict(some, top=top)
        except DataError:
            for file in some:
                try:
                    yield from model.predict([file], top=top)
                except DataError as error:
                    yield _Failure(file, str(error))


def _name(failure: _Failure) -> None:
    print("error:", in_one_line(failure.reason), file=sys.stderr)


class _Table:
    """A row per image on stdout, in columns as wide as the longest file and class."""

    def __init__(self, model: "Classifier", files: Sequence[str], top: int) -> None:
        self._file = max(len(printable(file)) for file in ["file", *files])
        self._class = max(len(printable(name)) for name in ["class", *model.classes])
        self._columns = min(top, len(model.classes))
        self._begun = False

    def row(self, prediction: "Prediction") -> None:
        """One more image."""
        if not self._begun:
            pairs = [("class", "probability")] * self._columns
            print(self._line("file", pairs))
            self._begun = True
        shares = map(percent, prediction.probabilities)
        print(self._line(prediction.path, list(zip(prediction.classes, shares, strict=True))))

    def _line(self, file: str, pairs: list[tuple[str, str]]) -> str:
        cells = [f"{printable(file):<{self._file}}"]
        cells += [f"{printable(name):<{self._class}}  {share:>11}" for name, share in pairs]
        return "  ".join(cells)


def _document(
    folder: Path,
    model: "Classifier",
    tested: "Estimate | None",
    predictions: "list[Prediction]",
    failures: list[_Failure],
) -> str:
    return json.dumps(
        {
            "model": str(folder),
            "design": str(model.architecture),
            "test_accuracy": None if tested is None else dataclasses.asdict(tested),
            "images": [
                {
                    "file": prediction.path,
                    "top": [
                        {"class": name, "probability": probability}
                        for name, probability in zip(
                            prediction.classes, prediction.probabilities, strict=True
                        )
                    ],
                }
                for prediction in predictions
            ],
            "failures": [{"file": f.file, "reason": f.reason} for f in failures],
        },
        indent=2,
    )
