"""Which device to compute on, how it is set up, what it is called, and when its memory is full."""

import gc
import re
from collections.abc import Iterable

import torch

from nas.errors import RequestError
from nas.runtime.machine import Share, usable_cores
from nas.text import plural

# How a lack of memory is worded where torch has no exception of its own for it. Of the last one
# cuDNN's search for a kernel is the cause: each one it tried could not have its workspace.
_OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|CUDA error: out of memory"
    r"|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED|FIND was unable to find an engine",
    re.IGNORECASE,
)


def device_name(device: torch.device) -> str:
    """The device in words, such as ``cpu (2 threads)`` or ``NVIDIA H200``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({plural(torch.get_num_threads(), 'thread')})"


def in_words(device: torch.device, share: Share) -> str:
    """What so many workers train on, in words."""
    workers, threads = plural(share.workers, "worker"), plural(share.threads, "thread")
    if device.type == "cpu":
        return f"cpu ({threads})" if share.workers == 1 else f"cpu, {workers} of {threads}"
    return device_name(device) if share.workers == 1 else f"{device_name(device)}, {workers}"


def find_device(name: str) -> torch.device:
    """The device of that name, a GPU always with its index; `auto` is the first GPU, if any.

    Raises:
        RequestError: this machine has no such device.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if devices else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    index = device.index or 0  # without one, torch takes the current device here, an error there
    if index >= devices:
        raise RequestError(
            f"--device: expected auto, cpu or a CUDA device of this machine, which has {devices}, "
            f"got {name!r}"
        )
    return torch.device("cuda", index)


def open_device(name: str, threads: int | None = None) -> torch.device:
    """`find_device`, set up for training in this process.

    Args:
        name: as of `find_device`.
        threads: of the CPU; None leaves as many as torch has, without more than there are cores to
            use.

    Raises:
        RequestError: this machine has no such device.
    """
    device = find_device(name)
    if threads is None and device.type == "cpu":
        threads = min(torch.get_num_threads(), usable_cores())  # torch knows no container's limit
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs are captured on the current one
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 is that, in the backward pass, too
        # The search for kernels empties the allocator's cache after each of a design's many shapes.
        empties_cache = getattr(torch._C, "_cudnn_set_conv_benchmark_empty_cache", None)
        if empties_cache is not None:
            empties_cache(False)
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a design needed more memory than there is, on a GPU or in the main memory.

    Looks at what caused the error, too. An end by Ctrl-C is none, whatever it came upon.
    """
    return isinstance(error, Exception) and any(
        isinstance(one, (torch.OutOfMemoryError, MemoryError))
        or (isinstance(one, RuntimeError) and _OUT_OF_MEMORY.search(str(one)) is not None)
        for one in with_causes(error)
    )


def with_causes(error: BaseException) -> Iterable[BaseException]:
    """An error, what caused it or was being handled when it came, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def free_memory(device: torch.device) -> None:
    """Gives a GPU's memory back that no tensor holds any more."""
    if device.type == "cuda":
        gc.collect()
        clear_workspaces = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        if clear_workspaces is not None:  # cuBLAS keeps one for each stream it was used on
            clear_workspaces()
        torch.cuda.empty_cache()
