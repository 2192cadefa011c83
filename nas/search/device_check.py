"""What `nas doctor --device` says of a device: one line per experiment of `Checkup`."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import NamedTuple

import torch

from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.devices import device_name, is_out_of_memory
from nas.runtime.precision import Precision
from nas.runtime.verdicts import Verdict, read_verdict, write_verdict
from nas.search.environment import Finding
from nas.study.storage import first_line
from nas.training.backend import PLAIN_NORMS
from nas.training.checkup import Checkup, Compared
from nas.training.graphs import OFF

_NO_MEMORY_LEFT = 64e6  # bytes that a few small tensors and workspaces may hold
_ON_A_CPU = ("losses", "resume", "precision")
_SAME_RUN = 0.2  # of the way the weights went: two runs of a GPU differ by the order of sums


class _Result(NamedTuple):
    """What an experiment found."""

    good: bool
    verdict: str  # one line


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

    def _captured(checkup: Checkup) -> _Result:
        nonlocal capture
        found = checkup.captured()
        if found.reason is None:  # else nothing is known that was not known before
            capture = found.agree
        return _of_captured(found)

    experiments: dict[str, Callable[[Checkup], _Result]] = {
        "losses": _losses,
        "graph": _captured,
        "norms": _norms,
        "resume": _continued,
        "memory": _memory,
        "new design": _new_design,
        "speed": _speed,
        "precision": _precisions,
    }
    yield Finding("hardware", True, _hardware(device))
    for name, experiment in experiments.items():
        if not is_gpu and name not in _ON_A_CPU:
            continue
        signals.check()
        try:
            found = experiment(checkup)
        except (RuntimeError, MemoryError, ArithmeticError, RequestError) as error:
            why = "out of memory" if is_out_of_memory(error) else first_line(error)
            found = _Result(False, f"failed: {why}")
        good = good and found.good
        yield Finding(name, found.good, found.verdict)
    if is_gpu:
        yield _kept(device, before, Verdict(good, capture, date.today().isoformat()))


def _hardware(device: torch.device) -> str:
    if device.type != "cuda":
        flags = torch.backends.cpu.get_cpu_capability()
        return f"{device_name(device)}, vector instructions {flags}"
    about = torch.cuda.get_device_properties(device)
    return (
        f"{about.name}, capability {about.major}.{about.minor}, {about.multi_processor_count} "
        f"multiprocessors, {about.total_memory / 2**30:.0f} GiB"
    )


def _losses(checkup: Checkup) -> _Result:
    found = checkup.losses()
    half = "" if found.bfloat16 is None else f", {found.bfloat16:.4f} in bfloat16"
    values = f"first loss {found.cpu:.4f} on the CPU, {found.float32:.4f} here in float32{half}"
    wrong = "" if found.agree else "; these differ: do not train on this device"
    return _Result(found.agree, values + wrong)


def _of_captured(found: Compared) -> _Result:
    if found.reason is not None:
        return _Result(True, f"steps are not captured: {found.reason}")
    if not found.agree:
        return _Result(
            False,
            f"8 captured steps end {found.difference:.0%} away from plain ones",
        )
    return _Result(
        True,
        f"8 steps captured and plain agree (weights differ by {found.difference:.1e}); resnet20 "
        f"{found.plain_rate:,.0f} images/s plain, {found.rate:,.0f} captured, "
        f"{found.gain:.2f} times",
    )


def _norms(checkup: Checkup) -> _Result:
    found = checkup.fused()
    if found.reason is not None:
        return _Result(True, f"torch's own kernels: {found.reason}")
    if not found.agree:
        return _Result(
            False,
            f"8 steps with fused norms end {found.difference:.0%} away from torch's own: set "
            f"{PLAIN_NORMS}=1",
        )
    return _Result(
        True,
        f"fused with addition and ReLU (weights differ by {found.difference:.1e}); flexres22-2 "
        f"trains {found.gain:.2f} times as fast",
    )


def _continued(checkup: Checkup) -> _Result:
    difference = checkup.continued()
    good = difference < _SAME_RUN
    verdict = (
        f"a run that was saved and resumed ends {difference:.1e} away from an uninterrupted one"
    )
    return _Result(good, verdict + ("" if good else "; do not train on this device"))


def _memory(checkup: Checkup) -> _Result:
    recognised, left = checkup.memory()
    if not recognised:
        return _Result(False, "an allocation that is too large was not recognized as such")
    good = left < _NO_MEMORY_LEFT
    return _Result(
        good, f"an allocation that is too large is recognized; {left / 1e6:.0f} MB stay in use"
    )


def _new_design(checkup: Checkup) -> _Result:
    first, again = checkup.new_design()
    return _Result(True, f"its first 8 steps take {first:.2f} s, the same again {again:.2f} s")


def _speed(checkup: Checkup) -> _Result:
    found = checkup.speed()
    return _Result(
        True,
        f"flexres22-2 {found.images_per_second:,.0f} images/s, {found.share:.0%} of a matrix "
        "product's multiplications per second",
    )


def _precisions(checkup: Checkup) -> _Result:
    rates = checkup.rates()
    ratio = rates[Precision.BFLOAT16] / rates[Precision.FLOAT32]
    if ratio >= 1:
        return _Result(True, f"bfloat16 is {ratio:.2f} times as fast as float32")
    return _Result(True, f"float32 is {1 / ratio:.2f} times as fast as bfloat16")


def _kept(device: torch.device, before: Verdict | None, verdict: Verdict) -> Finding:
    try:
        write_verdict(device, verdict)
    except OSError as error:
        safe = verdict.capture or (before is not None and not before.capture)
        asked = "" if safe else f"; set {OFF}=1, or searches capture steps all the same"
        return Finding("verdict", safe, f"not kept: {error}{asked}")
    then = "" if verdict.capture else ", which capture no steps"
    return Finding("verdict", True, f"kept for searches with this GPU, driver and torch{then}")
