"""An int8 network as a `.tflite` file, written with flatbuffers alone.

The numbers of slots and codes are those of TensorFlow Lite's `schema.fbs`. All weights are inside
the file: TensorFlow Lite Micro reads no others.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas import packages
from nas.export import memory
from nas.export.int8 import Int8Network
from nas.export.operators import Activation, Add, Conv, Linear, Operator, Pad, Pool, Weights

if TYPE_CHECKING:
    import flatbuffers

_IDENTIFIER = b"TFL3"
_SCHEMA = 3  # its version
_INT8, _INT32 = 9, 2  # of TensorType
_RELU = 1  # of ActivationFunctionType; 0 is none
_VALID = 1  # of Padding; 0 is SAME
_KINDS: Mapping[type[Operator], tuple[int, int, int]] = {
    # BuiltinOperator, its version for int8, BuiltinOptions
    Add: (0, 2, 11),
    Pool: (1, 2, 5),
    Conv: (3, 3, 1),
    Linear: (9, 4, 8),
    Pad: (34, 2, 22),
}
_RUNTIME = "1.14.0"  # TensorFlow since which these versions are known
_PLAN = "OfflineMemoryAllocation"  # tflite-micro, docs/offline_memory_plan.md
_OWN, _TABLE = "nas", "nas_input_table"
_ALIGNMENT = 16  # bytes, of weights, as the schema asks

Field = int | np.int8 | np.int32 | None
"""Of a table: where something is that was written before, or a value; None: its default."""


def tflite(network: Int8Network) -> bytes:
    """The file of a network, the same bytes each time: (1, H, W, C) int8 -> logits (1, K) int8.

    Its metadata hold the class names, the table through which pixels go, and where in memory its
    tensors lie.
    """
    import flatbuffers  # of an extra

    return _Writer(flatbuffers.Builder(1 << 16)).file(network)


class _Writer:
    """A file that grows from its end on; methods add a part and return where it is."""

    def __init__(self, builder: "flatbuffers.Builder") -> None:
        self._builder = builder
        self._buffers = [self._table()]  # the first one is that of tensors without data
        self._tensors: list[int] = []
        self._numbers: dict[str, int] = {}  # of activations among the tensors

    def file(self, network: Int8Network) -> bytes:
        """All of it."""
        operators = network.operators
        kinds = sorted({type(operator) for operator in operators}, key=lambda kind: _KINDS[kind])
        codes = [
            self._table(np.int8(code), None, np.int32(version), np.int32(code))
            for code, version, _ in map(_KINDS.__getitem__, kinds)
        ]
        for activation in (network.image, *(operator.output for operator in operators)):
            self._activation(activation)
        written = [self._operator(operator, kinds.index(type(operator))) for operator in operators]
        subgraph = self._table(
            self._offsets(self._tensors),
            self._vector([self._numbers[network.image.name]]),
            self._vector([self._numbers[network.output.name]]),
            self._offsets(written),
        )
        own = {"version": packages.version(), "classes": network.spec.classes}
        metadata = {
            "min_runtime_version": _RUNTIME.encode().ljust(16, b"\0"),
            _PLAN: self._plan(operators),
            _TABLE: network.table_CV.tobytes(),
            _OWN: json.dumps(own, separators=(",", ":"), ensure_ascii=False).encode(
                errors="surrogatepass"
            ),
        }
        named = [
            self._table(self._string(name), np.int32(self._buffer(content)))
            for name, content in metadata.items()
        ]
        model = self._table(
            np.int32(_SCHEMA),
            self._offsets(codes),
            self._offsets([subgraph]),
            None,  # description
            self._offsets(self._buffers),
            None,  # deprecated metadata
            self._offsets(named),
        )
        self._builder.Finish(model, _IDENTIFIER)
        return bytes(self._builder.Output())

    def _operator(self, operator: Operator, kind: int) -> int:
        inputs = [self._numbers[x.name] for x in operator.inputs]
        options: list[Field]
        match operator:
            case Conv(stride=stride, weights=weights, border=border, relu=relu):
                inputs += self._weights(weights)
                padding = np.int8(0 if border else _VALID)
                options = [padding, np.int32(stride), np.int32(stride), np.int8(relu * _RELU)]
            case Add():
                options = [np.int8(_RELU)]
            case Pool(size=size):
                options = [np.int8(_VALID), *[np.int32(size)] * 4]
            case Linear(weights=weights):
                inputs += self._weights(weights)
                options = []
            case Pad(border=border):
                sides = np.array([(0, 0), (border, border), (border, border), (0, 0)], np.int32)
                inputs.append(self._tensor(sides))
                options = []
        return self._table(
            np.int32(kind),
            self._vector(inputs),
            self._vector([self._numbers[operator.output.name]]),
            np.int8(_KINDS[type(operator)][2]),
            self._table(*options),
        )

    def _activation(self, activation: Activation) -> None:
        self._numbers[activation.name] = len(self._tensors)
        self._tensors.append(
            self._table(
                self._vector([1, *activation.shape]),
                np.int8(_INT8),
                None,  # buffer
                self._string(activation.name),
                self._scales(np.array([activation.scale], np.float32), activation.zero_point),
            )
        )

    def _weights(self, weights: Weights) -> list[int]:
        """The numbers of two tensors."""
        return [
            self._tensor(weights.values, weights.scales_O),
            self._tensor(weights.bias_O, weights.bias_scales_O),
        ]

    def _tensor(
        self,
        values: NDArray[np.int8] | NDArray[np.int32],
        scales: NDArray[np.float32] | None = None,
    ) -> int:
        """The number of a new tensor with these values."""
        tensor = self._table(
            self._vector(values.shape),
            np.int8(_INT8 if values.dtype == np.int8 else _INT32),
            np.int32(self._buffer(values.tobytes())),
            None,  # name
            None if scales is None else self._scales(scales, 0),
        )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _scales(self, scales: NDArray[np.float32], zero_point: int) -> int:
        zero_points = np.full(scales.shape, zero_point, np.int64)
        vectors = [self._builder.CreateNumpyVector(array) for array in (scales, zero_points)]
        return self._table(None, None, *vectors)

    def _plan(self, operators: Sequence[Operator]) -> bytes:
        """The offset of every tensor, -1 of those whose values are in the file."""
        offsets = memory.plan(memory.lifetimes(operators)).offsets
        places = [offsets[name] for name in self._numbers] + [-1] * len(self._tensors)
        version, subgraph, tensors = 1, 0, len(self._tensors)
        return struct.pack(f"<{3 + tensors}i", version, subgraph, tensors, *places[:tensors])

    def _buffer(self, content: bytes) -> int:
        """The number of a new buffer with this content."""
        builder = self._builder
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        self._buffers.append(self._table(builder.EndVector()))
        return len(self._buffers) - 1

    def _string(self, text: str) -> int:
        return int(self._builder.CreateString(text))

    def _vector(self, numbers: Sequence[int]) -> int:
        return int(self._builder.CreateNumpyVector(np.array(numbers, np.int32)))

    def _offsets(self, places: Sequence[int]) -> int:
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return int(self._builder.EndVector())

    def _table(self, *fields: Field) -> int:
        builder = self._builder
        builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if isinstance(field, np.int8):
                builder.PrependInt8Slot(slot, int(field), 0)
            elif isinstance(field, np.int32):
                builder.PrependInt32Slot(slot, int(field), 0)
            elif field is not None:
                builder.PrependUOffsetTRelativeSlot(slot, field, 0)
        return int(builder.EndObject())
