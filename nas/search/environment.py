"""Whether a search could run here: packages, devices and data.

Each is looked at by what it needs itself, so that a broken package keeps no other one from view.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nas import packages
from nas.data.catalogue import DATASETS, DataError
from nas.runtime.load import is_busy
from nas.text import plural

OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    verdict: str  # one line: what is there, and what to do if it is not good


def look_at_versions() -> Finding:
    """Python and the packages that decide results."""
    found = [f"{name} {version}" for name, version in packages.versions().items()]
    good = sys.version_info >= OLDEST_PYTHON
    needed = "" if good else f"; needs Python {'.'.join(map(str, OLDEST_PYTHON))} or later"
    return Finding(
        "versions", good, f"Python {platform.python_version()}, {', '.join(found)}{needed}"
    )


def look_at_packages() -> Iterator[Finding]:
    """Each package that cannot be used, or all in one line; and those of extras that are there."""
    needed = [r for r in packages.requirements() if not r.optional]
    flaws = [(r.name, flaw) for r in needed if (flaw := packages.flaw(r)) is not None]
    for name, flaw in flaws:
        yield Finding(name, False, flaw)
    if not flaws:
        verdict = f"{plural(len(needed), 'package')} of the needed versions can be imported"
        yield Finding("packages", True, verdict)
    found = [(r.name, packages.installed(r.name)) for r in packages.requirements() if r.optional]
    there = ", ".join(f"{name} {version}" for name, version in found if version is not None)
    yield Finding("extras", True, there or "none of the optional packages is installed")


def look_at_load() -> Iterator[Finding]:
    """What else computes on the machine; never a fault."""
    wanted, cores = os.getloadavg()[0], os.cpu_count() or 1
    verdict = f"{wanted:.1f} processes on {plural(cores, 'core')}, on average over the last minute"
    if is_busy():
        verdict += "; NOTE: other programs keep the CPU busy, which slows training down"
    yield Finding("load", True, verdict)


def looked_at(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a look finds; or, that it cannot look since a package is broken."""
    try:
        with packages.importing():
            yield from look()
    except packages.PackageError as error:
        yield Finding(name, False, f"cannot be checked: {error}")


def look_at_devices() -> Iterator[Finding]:
    """The GPUs, each tried with a small product; or the CPU."""
    yield _devices()


def _devices() -> Finding:
    import torch

    from nas.runtime.devices import device_name, find_device, open_device

    if not torch.cuda.is_available():
        cpu = device_name(find_device("cpu"))
        if "CUDA_VISIBLE_DEVICES" in os.environ:  # by which a person hides them
            return Finding(
                "device", True, f"no GPU is visible (CUDA_VISIBLE_DEVICES); trains on {cpu}"
            )
        if shutil.which("nvidia-smi"):
            return Finding(
                "device",
                False,
                f"torch {torch.__version__} cannot use this machine's GPU and trains on {cpu}; "
                "compare the driver's CUDA version (nvidia-smi) with torch's",
            )
        return Finding("device", True, f"no GPU; trains on {cpu}")
    names = []
    for i in range(torch.cuda.device_count()):
        try:
            device = open_device(f"cuda:{i}")
            ones = torch.ones(16, 16, device=device)
            works = bool(((ones @ ones) == 16).all())
            free = torch.cuda.mem_get_info(device)[0]
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            return Finding("device", False, f"cuda:{i} does not work: {reason}")
        if not works:
            return Finding("device", False, f"cuda:{i} computes wrong results; do not use it")
        names.append(f"{device_name(device)} ({free / 2**30:.0f} GiB free)")
    return Finding("device", True, ", ".join(names))


def look_at_data(dataset: str, data_dir: Path) -> Finding:
    """Whether a dataset can be had; reads no image and downloads nothing."""
    from nas.data.download import lies_in
    from nas.data.sources import open_source

    name = "cifar10" if dataset == "auto" else dataset
    if name == "digits":
        return Finding("data", True, "the digits come with scikit-learn")
    if name in DATASETS and not lies_in(name, data_dir):
        otherwise = ", or uses the digits if that fails" if dataset == "auto" else ""
        return Finding(
            "data", True, f"{name} is not in {data_dir}; a search downloads it{otherwise}"
        )
    try:
        source = open_source(name, data_dir, split_seed=0)
    except DataError as error:
        return Finding("data", False, str(error))
    classes = plural(len(source.classes), "class", "classes")
    return Finding("data", True, f"{source.name} in {data_dir}, {classes}")
