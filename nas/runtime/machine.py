"""What this machine has for us: cores and memory."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from nas.architecture import ImageInput
from nas.runtime.precision import AUTO

_SMALL = 64  # pixels of a side up to which one thread per process is the fastest use of cores
_MEMORY = 10**9  # bytes that a worker may take beside its images: half is torch, half the training
CGROUP = Path("/sys/fs/cgroup")  # where a container sees its own limits


@dataclass(frozen=True, slots=True)
class Share:
    """How many processes compute at the same time, each on how many of the CPU's threads."""

    workers: int
    threads: int  # at least 1, also where there are more workers than cores

    def computing(self, device: torch.device) -> int:
        """Threads of the CPU that they keep busy; one of each worker where a GPU computes."""
        return self.workers * (self.threads if device.type == "cpu" else 1)


def workers_for(
    workers: int | str,
    threads: int | None,
    *,
    device: torch.device,
    input: ImageInput,
    images: int,
    useful: int,
    cores: int,
    free: int,
) -> Share:
    """How many processes are to compute, where that is left open, and on how many threads each.

    `auto` is a process for each core, or for each `threads` of them, on small images: one thread
    per process wastes nothing on waiting for another. It is 1 on large images, whose work several
    threads can share, and on a GPU.

    Args:
        workers: how many are asked for, or auto.
        threads: of each, if that is asked for; else the cores are shared out.
        device: that they compute on.
        input: each of the images.
        images: how many each process holds.
        useful: more than so many would not help.
        cores: of the CPU, that may be used.
        free: bytes of memory.
    """
    if workers == AUTO:
        side = max(input.height, input.width)
        many = device.type == "cpu" and side <= _SMALL
        each = _MEMORY + images * input.channels * input.height * input.width
        most = (cores // (threads or 1), useful, free // each) if many else (1,)
        workers = max(1, min(most))
    workers = int(workers)
    return Share(workers, threads or max(1, cores // workers))


def usable_cores() -> int:
    """Cores that this process may use: those of the machine, its affinity and its container.

    Two hardware threads of a core count once, as in torch, and `OMP_NUM_THREADS` is a limit, too.
    Torch's own number changes with what was set for a training.
    """
    quota, _, period = _limit("cpu.max").partition(" ")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = [
        psutil.cpu_count(logical=False),
        len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        int(asked) if asked.isdecimal() else None,
        max(1, int(quota) // int(period)) if quota.isdecimal() and period.isdecimal() else None,
    ]
    return min(filter(None, most), default=1)


def processor_name() -> str:
    """The processor's name, as Linux or Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    about = {name.strip(): value.strip() for name, _, value in (li.partition(":") for li in lines)}
    name = about.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{part} {about[part]}" for part in ("cpu family", "model") if part in about]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def free_bytes() -> int:
    """Memory that processes can still have, on this machine and in its container."""
    free, most = int(psutil.virtual_memory().available), _limit("memory.max")
    if not most.isdecimal():
        return free
    stat = dict(line.split() for line in _limit("memory.stat").splitlines())
    cache = int(stat.get("inactive_file", 0))  # of files that were read; given up when needed
    taken = int(_limit("memory.current") or 0) - cache
    return min(free, max(0, int(most) - taken))


def _limit(name: str) -> str:
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
