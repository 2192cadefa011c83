"""CUDA graphs of training steps: recorded once, then replayed without time between kernels."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch

from nas.runtime.verdicts import read_verdict

OFF = "NAS_NO_GRAPH"
"""The environment variable that turns graphs off."""

# A graph has once more the memory that a step was seen to take; and the validation images, batches
# that are prepared and cuDNN's search need some beside it.
_SPARE, _BESIDE = 1.5, 300e6  # times, bytes
_ALLOCATOR_RECOVERS = (2, 12)  # torch before it stays in capture mode after a failure (#180395)


class CaptureError(RuntimeError):
    """A step could not be recorded; the message says why. It can still be run as it is."""


class CudaGraphs:
    """Records steps on a CUDA device and replays them; one for each run.

    All are on one stream, which the runs of a process share.

    Args:
        device: with its index; the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._needed = 0  # bytes

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A block whose work is in the order in which steps are recorded and replayed."""
        inside, outside = _stream_of(self._device), torch.cuda.current_stream(self._device)
        inside.wait_stream(outside)
        try:
            with torch.cuda.stream(inside):
                yield
        finally:
            outside.wait_stream(inside)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """A step that runs as it is, whose use of memory says what recording it would take."""
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self._needed = torch.cuda.max_memory_allocated(self._device) - before

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Captures a step without running it; returns a function that replays it.

        Every call reads and writes the same memory.

        Raises:
            CaptureError: it cannot be recorded.
        """
        needed, free = self._needed * _SPARE + _BESIDE, self._free_memory()
        if needed > free:
            raise CaptureError(f"it needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} are free")
        current = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize(self._device)
            with torch.cuda.graph(graph, stream=_stream_of(self._device)):
                step()
        except Exception as error:  # of many kinds; a step that runs as it is shows what matters
            torch.cuda.set_stream(current)  # which torch does not do when a capture fails
            reason = reason_of(error)
            if torch_version() < _ALLOCATOR_RECOVERS:
                _given_up.append(reason)
            raise CaptureError(reason) from error
        return graph.replay

    def _free_memory(self) -> int:
        """Bytes that no tensor holds."""
        cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(
            self._device
        )
        return torch.cuda.mem_get_info(self._device)[0] + cached


@lru_cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """The stream of all runs on a device: libraries keep memory for every stream they see."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


_given_up: list[str] = []  # why this process does not try again, where torch cannot recover


def cuda_graphs(device: torch.device, *, heed_verdict: bool = True) -> CudaGraphs | None:
    """Graphs for a run on this device; None where they are off or known to fail.

    Args:
        device: with its index.
        heed_verdict: whether what `nas doctor` found there counts.
    """
    if is_set(OFF) or _given_up:
        return None
    verdict = read_verdict(device) if heed_verdict else None
    return None if verdict and not verdict.capture else CudaGraphs(device)


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(variable, "") not in ("", "0")


def reason_of(error: Exception) -> str:
    """The kind of an error and its first line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def torch_version() -> tuple[int, int]:
    """Of torch, as (major, minor)."""
    major, minor, *_ = torch.__version__.split(".")
    return int(major), int(minor)
