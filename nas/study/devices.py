"""Which device a search trains on, what it is called, and when its memory is full."""

import gc

import torch

from nas.study.request import RequestError


def device_name(device: torch.device) -> str:
    """The device in words, such as ``cpu (2 threads)`` or ``NVIDIA H200``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({threads} thread{'' if threads == 1 else 's'})"


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Raises:
        RequestError: this machine has no such device.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if devices else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= devices:
        raise RequestError(
            f"--device: expected auto, cpu or a CUDA device of this machine, which has {devices}, "
            f"got {name!r}"
        )
    return device


def is_out_of_memory(error: Exception) -> bool:
    """Whether a design needed more memory than there is, on a GPU or in the main memory."""
    return isinstance(
        error, (torch.OutOfMemoryError, MemoryError)
    ) or "can't allocate memory" in str(error)


def free_memory(device: torch.device) -> None:
    """Gives a GPU's memory back that no tensor holds any more."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
