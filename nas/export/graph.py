"""The network as an ONNX graph, written from its modules one node after another.

The graph reads uint8 images as they come from a decoder and normalizes them itself.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from nas.export.spec import ModelSpec
from nas.model import BasicBlock, ConvNorm, ResNet

_OPSET = 17  # of 2022: ONNX Runtime 1.12 and later
_IR_VERSION = 8  # likewise


def onnx_model(network: ResNet, spec: ModelSpec) -> bytes:
    """The ONNX file of a network in evaluation: `images` (N, C, H, W) uint8 -> `logits` (N, K).

    N is free. Classes and preparation are in the metadata.
    """
    input = spec.input
    images = helper.make_tensor_value_info(
        "images", TensorProto.UINT8, ["N", input.channels, input.height, input.width]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", input.classes])
    nodes = _Nodes()
    nodes.network(network, spec)
    graph = helper.make_graph(
        nodes.nodes,
        "resnet",
        [images],
        [logits],
        nodes.values,
        doc_string=str(spec.architecture),
    )
    return onnx_file(
        graph,
        about=(
            "images: uint8, N x channels x height x width. Prepare a file so: "
            f"{spec.preparation}. Division by 255, mean and std are part of this graph. "
            "logits: one per class, in the order of the metadata property classes."
        ),
        metadata={"classes": json.dumps(spec.classes), "preparation": spec.preparation},
    )


def onnx_file(
    graph: onnx.GraphProto, *, about: str = "", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The file of a graph, once ONNX's checker has found nothing wrong with it."""
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="nas",
        doc_string=about,
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


class _Nodes:
    """A graph that grows; every method adds nodes and returns the name of what they compute."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[TensorProto] = []  # constants, weights and norm statistics

    def network(self, network: ResNet, spec: ModelSpec) -> None:
        """The nodes of `ResNet.forward`, from `images` to `logits`."""
        pixels = self._node("Cast", "pixels", "images", to=TensorProto.FLOAT)
        scaled = self._node("Div", "scaled", pixels, self._constant("largest_pixel", 255.0))
        centred = self._node("Sub", "centred", scaled, self._per_channel("mean", spec.mean))
        x = self._node("Div", "normalized", centred, self._per_channel("std", spec.std))
        x = self._node("Relu", "stem", self._conv_norm("stem", network.stem, x))
        for name, module in network.named_modules():
            if isinstance(module, BasicBlock):
                x = self._block(name, module, x)
        pool = [network.architecture.pool] * 2
        x = self._node("AveragePool", "pooled", x, kernel_shape=pool, strides=pool)
        x = self._node("Flatten", "flat", x)
        weight = self._tensor("head.weight", network.head.weight)
        bias = self._tensor("head.bias", network.head.bias)
        self._node("Gemm", "logits", x, weight, bias, transB=1)

    def _block(self, name: str, block: BasicBlock, x: str) -> str:
        out = self._norm(f"{name}.norm1", block.norm1, self._conv(f"{name}.conv1", block.conv1, x))
        out = self._node("Relu", f"{name}.relu", out)
        out = self._norm(
            f"{name}.norm2", block.norm2, self._conv(f"{name}.conv2", block.conv2, out)
        )
        if isinstance(block.shortcut, ConvNorm):
            x = self._conv_norm(f"{name}.shortcut", block.shortcut, x)
        return self._node("Relu", name, self._node("Add", f"{name}.sum", out, x))

    def _conv_norm(self, name: str, module: ConvNorm, x: str) -> str:
        x = self._conv(f"{name}.conv", module.conv, x)
        return x if module.norm is None else self._norm(f"{name}.norm", module.norm, x)

    def _conv(self, name: str, conv: nn.Conv2d, x: str) -> str:
        weights = [self._tensor(f"{name}.weight", conv.weight)]
        if conv.bias is not None:
            weights.append(self._tensor(f"{name}.bias", conv.bias))
        height, width = (int(side) for side in conv.padding)
        return self._node(
            "Conv",
            name,
            x,
            *weights,
            kernel_shape=conv.kernel_size,
            strides=conv.stride,
            pads=[height, width, height, width],
        )

    def _norm(self, name: str, norm: nn.BatchNorm2d, x: str) -> str:
        state = norm.state_dict()
        names = ("weight", "bias", "running_mean", "running_var")
        weights = [self._tensor(f"{name}.{part}", state[part]) for part in names]
        return self._node("BatchNormalization", name, x, *weights, epsilon=norm.eps)

    def _per_channel(self, name: str, values: tuple[float, ...]) -> str:
        return self._constant(name, np.array(values).reshape(-1, 1, 1))

    def _constant(self, name: str, value: object) -> str:
        self.values.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def _tensor(self, name: str, tensor: Tensor) -> str:
        return self._constant(name, tensor.detach().cpu().float().numpy())

    def _node(self, kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
