"""`nas export`: int8 files of a network that `nas final` has exported."""

import argparse
import sys

from nas.commands import arguments
from nas.commands.loading import loading
from nas.export.formats import FORMATS
from nas.final.request import FinalRequest, checked_formats, model_folder
from nas.runtime import signals
from nas.text import in_one_line

SUMMARY = "make int8 files of an exported model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas export`."""
    parser.epilog = (
        "The ranges of int8 are found on training images, and what it loses is measured on the "
        "validation images. No test image is read."
    )
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL_DIR",
        help="folder of an exported model in the folder of its study, or that of the study",
    )
    parser.add_argument(
        "--export",
        type=arguments.names,
        default="tflite",
        metavar="LIST",
        help=f"files to make; comma-separated: {', '.join(FORMATS)}",
    )
    arguments.add_options(parser, FinalRequest, "max_int8_loss")
    parser.add_argument(
        "--data-dir",
        type=arguments.path,
        metavar="DIR",
        help="folder of the images (default: where the last search of the study read them)",
    )
    arguments.add_options(parser, FinalRequest, "storage")


def run(options: argparse.Namespace) -> int:
    """Makes the files and prints what each is worth; 1 when one loses too much."""
    folder = model_folder(options.model)
    formats = checked_formats(options.export)
    with loading("making int8 files"):
        from nas.final import words
        from nas.final.folder import export_int8

        signals.check()  # one that came while these were loaded
        result = export_int8(
            folder,
            formats,
            most=options.max_int8_loss,
            storage=options.storage,
            data_dir=options.data_dir,
        )
    for file in result.record.int8:
        print(words.int8_file(file, result.record))
    print(f"in {result.folder}")
    for reason in result.refused:
        print("error:", in_one_line(reason), file=sys.stderr)
    return 1 if result.refused else 0
