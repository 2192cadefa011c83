"""A C header with all that a sketch for TensorFlow Lite Micro needs; C11 and C++11 read it."""

from collections.abc import Iterable, Mapping

from nas import packages
from nas.export.int8 import Int8Network
from nas.export.operators import Add, Conv, Linear, Operator, Pad, Pool

_PER_LINE = 24  # numbers
_RESOLVED: Mapping[type[Operator], str] = {  # methods of tflite::MicroMutableOpResolver
    Pad: "AddPad",
    Conv: "AddConv2D",
    Add: "AddAdd",
    Pool: "AddAveragePool2D",
    Linear: "AddFullyConnected",
}

_HEADER = """\
/* An image classifier for TensorFlow Lite Micro, made by nas {version}.
   Design: {design}

   Input: int8, MODEL_HEIGHT x MODEL_WIDTH pixels of MODEL_CHANNELS channels{order}, row by row;
   each is model_input_table[channel][pixel] of a pixel of 0..255.
   Output: int8, MODEL_CLASSES logits, each
   (output - MODEL_OUTPUT_ZERO_POINT) * MODEL_OUTPUT_SCALE; the largest one is the class. */

#ifndef NAS_MODEL_H
#define NAS_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
#define MODEL_ALIGNED alignas(16)
#else
#define MODEL_ALIGNED _Alignas(16)
#endif

#define MODEL_HEIGHT {input.height}
#define MODEL_WIDTH {input.width}
#define MODEL_CHANNELS {input.channels}
#define MODEL_CLASSES {input.classes}
#define MODEL_OUTPUT_SCALE {output.scale:.8e}f
#define MODEL_OUTPUT_ZERO_POINT ({output.zero_point})
#define MODEL_ARENA_SIZE {arena} /* bytes, aligned to 16 */
#define MODEL_SIZE {size} /* bytes */

/* For tflite::MicroMutableOpResolver<MODEL_OPERATORS>. */
#define MODEL_OPERATORS {operators}
#define MODEL_ADD_OPERATORS(resolver) \\
    do {{ \\
{resolved}
    }} while (0)

static const char *const model_classes[MODEL_CLASSES] = {{
{classes}
}};

static const int8_t model_input_table[MODEL_CHANNELS][256] = {{
{table}
}};

MODEL_ALIGNED static const uint8_t model_tflite[MODEL_SIZE] = {{
{model}
}};

#endif
"""


def header(network: Int8Network, content: bytes, *, arena: int) -> str:
    """The header: the `.tflite` file as an array, and what it reads, answers and needs.

    Args:
        network: what is deployed.
        content: its file, as `tflite` makes it.
        arena: bytes that TensorFlow Lite Micro needs for it beside the file.
    """
    used = {type(operator) for operator in network.operators}
    methods = [method for kind, method in _RESOLVED.items() if kind in used]
    return _HEADER.format(
        version=packages.version(),
        design=network.spec.architecture,
        order=" (red, green, blue)" if network.spec.input.channels == 3 else " (gray)",
        input=network.spec.input,
        output=network.output,
        arena=arena,
        size=len(content),
        operators=len(methods),
        resolved="\n".join(f"        (resolver).{method}(); \\" for method in methods),
        classes=",\n".join(f"    {_string(name)}" for name in network.spec.classes),
        table=",\n".join(f"    {{\n{_numbers(row)}\n    }}" for row in network.table_CV.tolist()),
        model=_numbers(content),
    )


def _numbers(numbers: Iterable[int]) -> str:
    written = [str(number) for number in numbers]
    lines = [written[i : i + _PER_LINE] for i in range(0, len(written), _PER_LINE)]
    return ",\n".join(f"    {', '.join(line)}" for line in lines)


def _string(text: str) -> str:
    """A C string of a text's UTF-8, with octal escapes for all but plain ASCII."""
    plain = set(range(32, 127)) - set(b'"\\?')  # ?: of trigraphs
    content = text.encode("utf-8", "backslashreplace")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in content) + '"'
