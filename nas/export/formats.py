"""The int8 files that can be made of an exported network, and the packages that make them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from nas.errors import RequestError
from nas.packages import importing

CALIBRATION = 256  # training images from which the ranges of the activations are found


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    name: str  # as `--export` takes it
    file: str  # in the model's folder
    package: str  # that makes it
    extra: str  # of nas, that brings the package


FORMATS: Mapping[str, Format] = {
    format.name: format
    for format in (
        Format("tflite", "model.tflite", "flatbuffers", "mcu"),
        Format("header", "model.h", "flatbuffers", "mcu"),
        Format("int8.onnx", "model.int8.onnx", "onnxruntime", "int8"),
    )
}
"""By name."""


def check_packages(names: Iterable[str]) -> None:
    """Imports the packages that make these formats, so that what is wrong is known at once.

    Raises:
        RequestError: one is not installed, with what to install.
        PackageError: one is broken.
    """
    for format in map(FORMATS.__getitem__, names):
        if find_spec(format.package) is None:
            raise RequestError(
                f"--export {format.name}: expected the package {format.package}, got none; "
                f"pip install 'nas[{format.extra}]', or name others with --export"
            )
        with importing():
            import_module(format.package)
