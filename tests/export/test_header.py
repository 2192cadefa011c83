"""The C header, as compilers read it."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nas.export.header import header
from nas.export.int8 import Int8Network
from nas.export.tflite import tflite
from tests.kits.exports import SMALL, make_int8, make_spec
from tests.kits.waiting import PATIENCE

CLASSES = ("cat", 'a "dog"??/\\n', "Schiff ⛵ 7")
PROGRAM = """
#include "model.h"
#include <stdio.h>
#ifdef __cplusplus
struct Resolver {
    int added = 0;
    void AddConv2D() { ++added; }
    void AddAdd() { ++added; }
    void AddAveragePool2D() { ++added; }
    void AddFullyConnected() { ++added; }
    void AddPad() { ++added; }
};
#endif
int main(void) {
    int i, k, added = MODEL_OPERATORS;
#ifdef __cplusplus
    Resolver resolver;
    MODEL_ADD_OPERATORS(resolver);
    added = resolver.added;
#endif
    printf("[%d, %d, %d, %d, %.9g, %d, %d, %d, %d, %d", MODEL_HEIGHT, MODEL_WIDTH,
           MODEL_CHANNELS, MODEL_CLASSES, MODEL_OUTPUT_SCALE, MODEL_OUTPUT_ZERO_POINT,
           MODEL_ARENA_SIZE, added, MODEL_OPERATORS, (int)((uintptr_t)model_tflite % 16));
    printf(", [");
    for (i = 0; i < MODEL_SIZE; ++i) printf("%s%d", i ? ", " : "", model_tflite[i]);
    printf("], [");
    for (i = 0; i < MODEL_CHANNELS; ++i)
        for (k = 0; k < 256; ++k) printf("%s%d", i + k ? ", " : "", model_input_table[i][k]);
    printf("], [");
    for (i = 0; i < MODEL_CLASSES; ++i) {
        const char *c;
        for (c = model_classes[i]; *c; ++c) printf("%s%d", i || c != model_classes[0] ? ", " : "",
                                                   (unsigned char)*c);
        printf(", 0");
    }
    printf("]]");
    return 0;
}
"""


@pytest.fixture(scope="module")
def network() -> Int8Network:
    return make_int8(make_spec(classes=CLASSES))


@pytest.mark.parametrize(
    ("compiler", "file"), [(["gcc", "-std=c11"], "main.c"), (["g++", "-std=c++11"], "main.cpp")]
)
def test_compilers_read_what_python_has(
    compiler: list[str], file: str, network: Int8Network, tmp_path: Path
) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    (tmp_path / "model.h").write_text(header(network, tflite(network), arena=4321))
    (tmp_path / file).write_text(PROGRAM)
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(
        [*compiler, *strict, file, "-o", "main"], cwd=tmp_path, check=True, timeout=PATIENCE
    )
    done = subprocess.run(
        [tmp_path / "main"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    *numbers, model, table, names = json.loads(done.stdout)
    output = network.output
    assert numbers[:4] == [8, 10, 3, 3]
    assert np.float32(numbers[4]) == np.float32(output.scale)
    assert numbers[5:] == [output.zero_point, 4321, 5, 5, 0]
    assert bytes(model) == tflite(network)
    assert table == network.table_CV.ravel().tolist()
    assert bytes(names).decode().split("\0")[:-1] == list(CLASSES)


def test_a_header_names_the_operators_that_are_there() -> None:
    gray = make_int8(make_spec(SMALL, shape=(1, 9, 9)))
    odd = header(gray, tflite(gray), arena=1)
    assert "#define MODEL_OPERATORS 4\n" in odd
    assert "AddPad" not in odd  # its strides meet the last pixel
