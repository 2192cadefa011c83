"""What a `.tflite` file says beside its network, read without the package that wrote it."""

import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TfliteFile:
    version: str  # of nas
    classes: tuple[str, ...]
    table_CV: NDArray[np.int8]  # what the network reads for each of the 256 values of a pixel


def read_tflite(content: bytes) -> TfliteFile:
    metadata = _metadata(content)
    own = json.loads(metadata["nas"])
    table_CV = np.frombuffer(metadata["nas_input_table"], np.int8).reshape(-1, 256)
    return TfliteFile(own["version"], tuple(own["classes"]), table_CV)


def _metadata(content: bytes) -> dict[str, bytes]:
    """The contents of a file's metadata, by their names."""

    def number(at: int) -> int:
        return int(struct.unpack_from("<I", content, at)[0])

    def followed(at: int) -> int:
        return at + number(at)

    def field(table: int, slot: int) -> int:
        vtable = table - int(struct.unpack_from("<i", content, table)[0])
        return table + int(struct.unpack_from("<H", content, vtable + 4 + 2 * slot)[0])

    def vector(at: int) -> range:
        start = followed(at)
        return range(start + 4, start + 4 + 4 * number(start), 4)

    def held(at: int) -> bytes:
        start = followed(at)
        return content[start + 4 : start + 4 + number(start)]

    model = followed(0)
    buffers = vector(field(model, 4))
    entries = [followed(at) for at in vector(field(model, 6))]
    return {
        held(field(entry, 0)).decode(): held(field(followed(buffers[number(field(entry, 1))]), 0))
        for entry in entries
    }
