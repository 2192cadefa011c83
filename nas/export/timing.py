"""How long layers and whole designs take in ONNX Runtime, on the processor of this machine.

Of many runs the one counts that a tenth of them do not exceed: what else a machine does adds to a
run, and by how much changes from second to second. The shortest one would not do: on a busy virtual
machine the clock of a thread may stand still. With one thread it is the thread's own time, which
does not run while others have the core.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nas.architecture import Architecture, ImageInput
from nas.export.graph import onnx_file, onnx_model
from nas.export.int8_onnx import quantized
from nas.export.spec import ModelSpec
from nas.latency import INT8, LatencyLimit, TimedLayer
from nas.model import build
from nas.runtime import signals
from nas.runtime.machine import processor_name

_COPIES = 4  # of a layer in a run: the weights of all layers of a network do not fit into a cache
_FASTEST = 0.1  # of the runs
_RUNS = 20  # at least
_UNBEATEN = {"layer": 0.03, "design": 0.2}  # seconds without a shorter run, after which it is over
_LONGEST = 3.0  # seconds of a measurement
_SHORTER = 0.99  # times the shortest run so far


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Measures latencies of one kind, in milliseconds for one image."""

    limit: LatencyLimit

    @property
    def machine(self) -> dict[str, object]:
        """What a latency depends on beside the network."""
        return {
            "processor": processor_name(),
            "runtime": f"ONNX Runtime {onnxruntime.__version__}",
            "threads": self.limit.threads,
            "of": self.limit.of,
        }

    def layer(self, layer: TimedLayer) -> float:
        """Of one layer, measured with others like it.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        images = np.random.default_rng(0).standard_normal(
            (1, layer.inputs, layer.height, layer.width), np.float32
        )
        return self._time(_layer_model(layer), images, "layer") / _COPIES

    def design(self, architecture: Architecture, input: ImageInput) -> float:
        """Of a whole network as it is exported, from pixels to logits.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        network = build(architecture, input, generator=torch.Generator().manual_seed(0)).eval()
        spec = ModelSpec(
            architecture=architecture,
            input=input,
            classes=tuple(map(str, range(input.classes))),
            mean=(0.5,) * input.channels,
            std=(0.25,) * input.channels,
        )
        shape = (1, input.channels, input.height, input.width)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return self._time(onnx_model(network, spec), images, "design")

    def _time(self, model: bytes, images: NDArray[np.generic], kind: str) -> float:
        if self.limit.of == INT8:
            model = quantized(model, torch.from_numpy(images))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.limit.threads
        options.inter_op_num_threads = 1
        clock = time.thread_time if self.limit.threads == 1 else time.perf_counter
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: images}
        shortest, runs = float("inf"), list[float]()
        begun = beaten = now = time.perf_counter()
        while len(runs) < _RUNS or (now - beaten < _UNBEATEN[kind] and now - begun < _LONGEST):
            signals.check()
            before = clock()
            session.run(None, inputs)
            run, now = clock() - before, time.perf_counter()
            if run < _SHORTER * shortest:
                beaten = now
            shortest = min(shortest, run)
            runs.append(run)
        return 1000 * float(np.quantile(runs, _FASTEST))


def _layer_model(layer: TimedLayer) -> bytes:
    """A graph of `_COPIES` of a layer; of a convolution it gives back a pixel per channel."""
    rng, weights, nodes = np.random.default_rng(0), [], []

    def drawn(name: str, *shape: int) -> str:
        values = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    kernel, stride, answer = [layer.kernel] * 2, [layer.stride] * 2, [1, layer.outputs]
    for i in range(_COPIES):
        if layer.kind == "head":
            pooled = (layer.height // layer.kernel) * (layer.width // layer.kernel)
            x = node("AveragePool", f"pooled{i}", "images", kernel_shape=kernel, strides=stride)
            x = node("Flatten", f"flat{i}", x)
            weight = drawn(f"weight{i}", layer.outputs, layer.inputs * pooled)
            node("Gemm", f"out{i}", x, weight, drawn(f"bias{i}", layer.outputs), transB=1)
            continue
        x = node(
            "Conv",
            f"maps{i}",
            "images",
            drawn(f"weight{i}", layer.outputs, layer.inputs, *kernel),
            drawn(f"bias{i}", layer.outputs),
            kernel_shape=kernel,
            strides=stride,
            pads=[layer.kernel // 2] * 4,
        )
        if layer.kind == "sum":
            x = node("Add", f"sum{i}", x, "images")  # whose shape is the same
        x = node("Relu", f"relu{i}", x)
        sides = [-(-side // layer.stride) for side in (layer.height, layer.width)]
        node("MaxPool", f"out{i}", x, kernel_shape=[1, 1], strides=sides)
    if layer.kind != "head":
        answer += [1, 1]
    shape = [1, layer.inputs, layer.height, layer.width]
    graph = helper.make_graph(
        nodes,
        layer.kind,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, answer)
            for i in range(_COPIES)
        ],
        weights,
    )
    return onnx_file(graph)
