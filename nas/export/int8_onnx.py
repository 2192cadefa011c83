"""The network as an ONNX graph in int8, quantized by ONNX Runtime.

Weights are int8 with a scale per output channel, activations uint8 with one per tensor, which is
what x86 processors with VNNI multiply fastest; the graph holds pairs of QuantizeLinear and
DequantizeLinear (QDQ). Shapes: N images, C channels, H x W pixels, K classes.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from nas.export.graph import onnx_model
from nas.export.spec import ModelSpec
from nas.model import ResNet
from nas.runtime import signals

_BATCH = 64  # images in the network at a time


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """A network as a file of ONNX, and what ONNX Runtime answers with it."""

    content: bytes

    def logits(self, images_NCHW: Tensor) -> Tensor:
        """Logits of uint8 images, (N, K), float32."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            self.content, options, providers=["CPUExecutionProvider"]
        )
        answers = []
        for part in torch.split(images_NCHW, _BATCH):
            signals.check()
            answers += session.run(["logits"], {"images": part.numpy()})
        return torch.from_numpy(np.concatenate(answers))


def quantize_onnx(network: ResNet, spec: ModelSpec, images_NCHW: Tensor) -> OnnxNetwork:
    """The int8 network; the same from the same images.

    Args:
        network: trained; it is not changed.
        spec: what it reads and answers.
        images_NCHW: uint8, on which the smallest and largest activations are found.
    """
    return OnnxNetwork(quantized(onnx_model(network, spec), images_NCHW))


def quantized(content: bytes, images_NCHW: Tensor) -> bytes:
    """The file of an int8 graph, of one that reads `images`; otherwise as `quantize_onnx`."""
    with tempfile.TemporaryDirectory() as folder, _silent():
        float32, prepared, int8 = (Path(folder, f"{name}.onnx") for name in ("float", "pre", "int"))
        float32.write_bytes(content)
        quant_pre_process(float32, prepared, skip_symbolic_shape=True)  # folds the norms
        quantize_static(
            prepared,
            int8,
            _Batches(images_NCHW),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
        return int8.read_bytes()


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """The images as ONNX Runtime asks for them."""

    def __init__(self, images_NCHW: Tensor) -> None:
        self._batches: Iterator[Tensor] = iter(torch.split(images_NCHW, _BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}


@contextmanager
def _silent() -> Iterator[None]:
    """A block in which nothing is printed of what is logged where nobody asked for a log.

    ONNX Runtime logs by functions of `logging` itself, which give the root logger a handler that
    prints if it has none. Its older versions call what is deprecated in onnx.
    """
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.root.removeHandler(handler)
