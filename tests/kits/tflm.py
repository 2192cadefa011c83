"""TensorFlow Lite Micro, in a process that cannot import nas."""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kits.waiting import PATIENCE

needs_tflm = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="tflite-micro is not installed; there is one for Linux on x86-64",
)

_PROGRAM = """
import os, re, sys
sys.modules["nas"] = None  # importing it fails
import numpy as np
from tflite_micro.python.tflite_micro import runtime

os.dup2(os.open("log", os.O_CREAT | os.O_RDWR), 2)  # where the runtime writes, too

def interpreter(arena):
    return runtime.Interpreter.from_file("model.tflite", arena_size=arena)

runs = interpreter(1 << 26)
runs.print_allocations()
used = dict(re.findall(r"Arena allocation (\\w+) (\\d+)", open("log").read()))
too_small, enough = int(used["total"]) - 16, int(used["total"]) + (1 << 16)
while enough - too_small > 16:  # planning may need more than running
    tried = (too_small + enough) // 32 * 16
    try:
        interpreter(tried)
        enough = tried
    except RuntimeError:
        too_small = tried
runs = interpreter(enough)
logits = []
for image in np.load("images.npy"):
    runs.set_input(image[None], 0)
    runs.invoke()
    logits.append(runs.get_output(0)[0].copy())
np.savez("found.npz", logits=np.array(logits), arena=enough, tensors=int(used["head"]))
"""


@dataclass(frozen=True)
class Ran:
    """What TensorFlow Lite Micro made of a file."""

    logits_NK: NDArray[np.int8]
    arena: int  # bytes: the smallest in which it runs
    tensors: int  # bytes of it that tensors take


def run_tflm(content: bytes, images_NHWC: NDArray[np.int8]) -> Ran:
    """The logits of images, in the smallest arena that will do."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.tflite").write_bytes(content)
        np.save(Path(folder, "images.npy"), images_NHWC)
        done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=folder, timeout=PATIENCE)
        assert done.returncode == 0, Path(folder, "log").read_text()
        with np.load(Path(folder, "found.npz")) as found:
            return Ran(found["logits"], int(found["arena"]), int(found["tensors"]))
