"""What int8 costs and brings: size, accuracy on the validation images, and latency.

The example on the digits: `model.int8.onnx` has 0.28 of the size of `model.onnx` and takes 0.42 of
its time on one core of an AMD EPYC (Zen 4, with VNNI, idle; 59 instead of 141 microseconds), 0.80
on one without VNNI that was busy with other work (load 14); it lost 0.00 points (95% interval -0.68
to 0.68). onnxruntime 1.32.0.

Each network in MODEL_DIR is made int8 as `nas export` does it. Latency is that of ONNX Runtime with
one image and one thread; float32 and int8 take turns, so that other load touches both. No test
image is read. Run::

    python benchmarks/int8.py studies/digits-example/final --data-dir data

Exit status 1 when `model.int8.onnx` has more than 0.35 of the size in float32, loses more than a
point, or on a processor with VNNI takes more than 0.7 of the time.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from machine import load as busy
from machine import processor, software
from nas.data.loading import load_dataset
from nas.export.graph import onnx_model
from nas.export.loading import load
from nas.final import words
from nas.final.int8 import calibration_images, make_int8
from nas.final.records import FinalRecord

MOST_SIZE, MOST_TIME, MOST_POINTS = 0.35, 0.7, 1.0
ROUNDS = 30
CALLS = 20  # timed together


def has_vnni() -> bool:
    """Whether the processor multiplies int8 in one instruction, as far as the system tells."""
    return any(on for name, on in torch.cpu.get_capabilities().items() if "vnni" in name)


def latencies(*models: bytes, image: NDArray[np.uint8]) -> list[float]:
    """Seconds per image of each, the median over rounds in which they take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(model, options) for model in models]
    taken: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for session, seconds in zip(sessions, taken, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                session.run(["logits"], {"images": image})
            seconds.append((time.perf_counter() - start) / CALLS)
    return [median(seconds[1:]) for seconds in taken]  # the first round warms up


def measure(folder: Path, data_dir: Path) -> bool:
    """Prints a row per file; whether all bounds hold."""
    model = load(folder)
    record = FinalRecord.from_dict(model.metrics)
    dataset = load_dataset(record.dataset, data_dir, subset=record.subset)
    in_float = onnx_model(model.network, model.spec)
    names = ["tflite", "int8.onnx"]
    int8 = make_int8(
        names, model.network, model.spec, dataset, on=record.on, limits=record.limits, most=100
    )
    content = int8.contents["model.int8.onnx"]
    image = calibration_images(dataset)[:1].numpy()
    before, after = latencies(in_float, content, image=image)
    print(f"\n{folder}: {model.architecture.brief}, {len(dataset.validation):,} validation images")
    print(f"{'model.onnx':<16}{len(in_float):>12,} bytes{1e6 * before:>10.0f} us")
    holds = True
    for file in (file for accepted in int8.accepted for file in accepted.records()):
        size = file.bytes / len(in_float)
        row = f"{file.file:<16}{file.bytes:>12,} bytes"
        if file.file == "model.int8.onnx":
            ratio = after / before
            row += f"{1e6 * after:>10.0f} us, {ratio:.2f} of the time, {size:.2f} of the size"
            holds = size <= MOST_SIZE and 100 * file.validation.lost.value <= MOST_POINTS
            holds = holds and (ratio <= MOST_TIME or not has_vnni())
        accuracy = file.validation.accuracy
        print(f"{row}; {accuracy.value:.2%}, {words.lost(file.validation)}")
    return holds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    options = parser.parse_args(arguments)
    print(f"{processor()}, {'with' if has_vnni() else 'without'} VNNI, {busy()}")
    print(software("onnxruntime", "torch"))
    held = [measure(folder, options.data_dir) for folder in options.models]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
