"""Device-specific choices of a run, made before its loop begins."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas.model import FusedNorm
from nas.runtime import signals
from nas.runtime.devices import is_out_of_memory
from nas.training.graphs import CudaGraphs, cuda_graphs, is_set, reason_of, torch_version
from nas.training.optimizers import Optimizer, fused_on

_VALUES_AT_ONCE = 4096 * 3 * 32 * 32  # of pixels, augmented together on a GPU: 50 MB in float32

PLAIN_NORMS = "NAS_PLAIN_NORMS"
"""The environment variable that leaves norms to torch's own kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """How a run uses its device. The defaults are those of a CPU."""

    graphs: CudaGraphs | None = None  # of this run; None: every step runs kernel after kernel
    values_at_once: int = 0  # pixel values augmented together; a CPU keeps one batch in its cache
    fixed_shapes: bool = False  # evaluate in batches of the training's shape, and in no other
    fused: frozenset[Optimizer] = fused_on("cpu", torch_version())  # others have several kernels
    fused_norm: FusedNorm | None = None  # norm, addition and ReLU at once; None: one by one
    step_begun: Callable[[], None] = lambda: None  # after each step; may wait for earlier ones


class HostThrottle:
    """Keeps the host a few steps ahead of a CUDA device, not an epoch.

    Steps are only queued by the host, which would then wait for a whole epoch without a look for
    signals.
    """

    _STEPS = 8  # between two marks in the queue; the host waits for the mark before the last

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps = 0
        self._marks: deque[torch.cuda.Event] = deque()

    def step_begun(self) -> None:
        """Waits until the device is near; looks for signals meanwhile."""
        self._steps += 1
        if self._steps % self._STEPS:
            return
        mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self._device))
        self._marks.append(mark)
        if len(self._marks) > 2:
            reached = self._marks.popleft()
            while not reached.query():  # type: ignore[no-untyped-call]
                signals.sleep(0.001)


def backend_for(device: torch.device, *, heed_verdict: bool = True) -> Backend:
    """How a new run uses this device.

    On CUDA the kernels of every new shape are searched for, so that evaluation has that of
    training; what fits there then fits here, too.

    Args:
        device: with its index, open.
        heed_verdict: see `cuda_graphs`.
    """
    if device.type != "cuda":
        return Backend()
    fused_norm = fused_norm_on(device)
    return Backend(
        graphs=cuda_graphs(device, heed_verdict=heed_verdict),
        values_at_once=_VALUES_AT_ONCE,
        fixed_shapes=True,
        fused=fused_on("cuda", torch_version()),
        fused_norm=None if isinstance(fused_norm, str) else fused_norm,
        step_begun=HostThrottle(device).step_begun,
    )


_tried: dict[torch.device, FusedNorm | str] = {}


def fused_norm_on(device: torch.device) -> FusedNorm | str:
    """Norms fused with what follows them, or why torch's own kernels are taken in their place.

    They are taken where they compile and give what torch's give. They need Triton, which comes
    with torch for Linux, and that a C compiler.
    """
    if is_set(PLAIN_NORMS):
        return f"{PLAIN_NORMS} is set"
    if device not in _tried:
        try:
            from nas.training.fused_norms import check_on, fused_norm

            check_on(device)
            _tried[device] = fused_norm
        except Exception as error:  # of many kinds; torch's own kernels are always there
            if is_out_of_memory(error):  # which passes
                return reason_of(error)
            _tried[device] = reason_of(error)
    return _tried[device]
