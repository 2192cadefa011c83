"""What a figure was measured on, in words, for every benchmark."""

import importlib.metadata
import os
import platform

import torch

from nas.runtime.machine import processor_name


def processor() -> str:
    """The model of the processor and the number of its logical cores."""
    return f"{processor_name()}, {os.cpu_count()} logical cores"


def hardware(device: torch.device | None = None) -> str:
    """The processor, torch's threads and, for a device that is one, the GPU."""
    cpu = f"{processor()}, torch on {torch.get_num_threads()} threads"
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {cpu}"
    return cpu


def load() -> str:
    """How many processes wanted a core in the last minute, where that is known."""
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


def software(*packages: str) -> str:
    """Versions of the system, of Python and of these packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{system}, {versions}" if versions else system
