"""What `nas doctor --device` says of a device: one line per experiment of `Checkup`."""

from collections.abc import Iterator
from datetime import date

import torch

from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.devices import device_name, is_out_of_memory
from nas.runtime.precision import Precision
from nas.runtime.verdicts import Verdict, read_verdict, write_verdict
from nas.study.storage import first_line
from nas.study.surroundings import Finding
from nas.training.backend import PLAIN_NORMS
from nas.training.checkup import Captured, Checkup

_NO_MEMORY_LEFT = 64e6  # bytes that a few small tensors and workspaces may hold
_SAME_RUN = 0.2  # of the way the weights went: two runs of a GPU differ by the order of sums


def check_device(device: torch.device, checkup: Checkup | None = None) -> Iterator[Finding]:
    """Trains a little on the device and says what came of it; keeps the verdict on a GPU.

    Args:
        device: open.
        checkup: of that device; None: one in large batches on a GPU, in small ones on a CPU.
    """
    checkup = checkup or Checkup(device, batch_size=512 if device.type == "cuda" else 32)
    is_gpu = device.type == "cuda"
    before = read_verdict(device) if is_gpu else None
    good, capture = True, before is None or before.capture

    def _captured(checkup: Checkup) -> Finding:
        nonlocal capture
        found = checkup.captured()
        if found.reason is None:  # else nothing is known that was not known before
            capture = found.agree
        return _of_captured(found)

    experiments = (
        (_losses, _captured, _norms, _continued, _memory) if is_gpu else (_losses, _continued)
    )
    speeds = (_new_design, _speed, _precisions) if is_gpu else (_precisions,)
    yield Finding("hardware", True, _hardware(device))
    for experiment in (*experiments, *speeds):
        signals.check()
        try:
            finding = experiment(checkup)
        except (RuntimeError, MemoryError, ArithmeticError, RequestError) as error:
            why = "out of memory" if is_out_of_memory(error) else first_line(error)
            finding = Finding(experiment.__name__.strip("_"), False, f"failed: {why}")
        good = good and finding.good
        yield finding
    if is_gpu:
        yield _kept(device, Verdict(good, capture, date.today().isoformat()))


def _hardware(device: torch.device) -> str:
    if device.type != "cuda":
        flags = torch.backends.cpu.get_cpu_capability()
        return f"{device_name(device)}, vector instructions {flags}"
    about = torch.cuda.get_device_properties(device)
    return (
        f"{about.name}, capability {about.major}.{about.minor}, {about.multi_processor_count} "
        f"multiprocessors, {about.total_memory / 2**30:.0f} GiB"
    )


def _losses(checkup: Checkup) -> Finding:
    found = checkup.losses()
    half = "" if found.bfloat16 is None else f", {found.bfloat16:.4f} in bfloat16"
    values = f"first loss {found.cpu:.4f} on the CPU, {found.float32:.4f} here in float32{half}"
    wrong = "" if found.agree else "; these differ: do not train on this device"
    return Finding("losses", found.agree, values + wrong)


def _of_captured(found: Captured) -> Finding:
    if found.reason is not None:
        return Finding("graph", True, f"steps are not captured: {found.reason}")
    ratio = found.captured_rate / found.plain_rate
    if not found.agree:
        return Finding(
            "graph",
            False,
            f"8 captured steps end {found.difference:.0%} away from plain ones: steps are not "
            "captured here any more",
        )
    return Finding(
        "graph",
        True,
        f"8 steps captured and plain agree (weights differ by {found.difference:.1e}); resnet20 "
        f"{found.plain_rate:,.0f} images/s plain, {found.captured_rate:,.0f} captured, "
        f"{ratio:.2f} times",
    )


def _norms(checkup: Checkup) -> Finding:
    found = checkup.fused()
    if found.reason is not None:
        return Finding("norms", True, f"torch's own kernels: {found.reason}")
    if not found.agree:
        return Finding(
            "norms",
            False,
            f"8 steps with fused norms end {found.difference:.0%} away from torch's own: set "
            f"{PLAIN_NORMS}=1",
        )
    return Finding(
        "norms",
        True,
        f"fused with addition and ReLU (weights differ by {found.difference:.1e}); flexres22-2 "
        f"trains {found.gain:.2f} times as fast",
    )


def _continued(checkup: Checkup) -> Finding:
    difference = checkup.continued()
    good = difference < _SAME_RUN
    verdict = f"a run that was stored and continued ends {difference:.1e} away from one that ran on"
    return Finding("resume", good, verdict + ("" if good else "; do not train on this device"))


def _memory(checkup: Checkup) -> Finding:
    recognised, left = checkup.memory()
    if not recognised:
        return Finding("memory", False, "an allocation that is too large was not known as such")
    good = left < _NO_MEMORY_LEFT
    return Finding(
        "memory", good, f"too large an allocation is recognised; {left / 1e6:.0f} MB stay in use"
    )


def _new_design(checkup: Checkup) -> Finding:
    first, again = checkup.new_design()
    return Finding(
        "new design", True, f"its first 8 steps take {first:.2f} s, the same again {again:.2f} s"
    )


def _speed(checkup: Checkup) -> Finding:
    found = checkup.speed()
    return Finding(
        "speed",
        True,
        f"flexres22-2 {found.images_per_second:,.0f} images/s, {found.share:.0%} of a matrix "
        "product's multiplications per second",
    )


def _precisions(checkup: Checkup) -> Finding:
    rates = checkup.rates()
    ratio = rates[Precision.BFLOAT16] / rates[Precision.FLOAT32]
    words = f"{ratio:.2f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"
    return Finding("precision", True, f"bfloat16 is {words} than float32")


def _kept(device: torch.device, verdict: Verdict) -> Finding:
    try:
        write_verdict(device, verdict)
    except OSError as error:
        return Finding("verdict", True, f"not kept: {error}")
    return Finding("verdict", True, "kept for searches with this GPU, driver and torch")
