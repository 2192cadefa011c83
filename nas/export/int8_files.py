"""The int8 files of a network, and what computes as whoever runs them does.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nas.counting import count
from nas.export.formats import Format
from nas.export.header import header
from nas.export.int8 import quantize
from nas.export.spec import ModelSpec
from nas.export.tflite import tflite
from nas.model import ResNet


class Quantized(Protocol):
    """A network in int8."""

    def logits(self, images: Tensor, /) -> Tensor:
        """Logits of uint8 images (N, C, H, W): (N, K), float32."""
        ...


@dataclass(frozen=True, slots=True)
class Int8Files:
    """One int8 network, and the files that hold it."""

    network: Quantized
    contents: Mapping[str, bytes]  # by the names of the files
    flash: int | None = None  # bytes on a microcontroller; None: the files are not for one


def int8_files(
    formats: Sequence[Format], network: ResNet, spec: ModelSpec, images_NCHW: Tensor
) -> Int8Files:
    """The files of formats that one package makes; the same from the same images.

    Args:
        formats: one or more.
        network: trained; it is not changed.
        spec: what it reads and answers.
        images_NCHW: uint8, one or more of the training part, to find the ranges of the activations.

    Raises:
        ModelError: int8 cannot hold the network.
    """
    if formats[0].package == "onnxruntime":  # imported late: of an extra
        from nas.export.int8_onnx import quantize_onnx

        graph = quantize_onnx(network, spec, images_NCHW)
        return Int8Files(graph, {format.file: graph.content for format in formats})
    integers = quantize(network, spec, images_NCHW)
    arena = count(spec.architecture, spec.input).arena  # what a search compares with its limit
    content = tflite(integers)
    contents = {
        format.file: header(integers, content, arena=arena).encode()
        if format.name == "header"
        else content
        for format in formats
    }
    return Int8Files(integers, contents, flash=len(content))
