"""What this machine has for us: cores and memory."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from nas.architecture import ImageInput
from nas.runtime.devices import device_name
from nas.runtime.precision import AUTO
from nas.text import plural

_SMALL = 64  # pixels of a side up to which one thread per process is the fastest use of cores
_MEMORY = 10**9  # bytes that a worker may take beside its images: half is torch, half the training
CGROUP = Path("/sys/fs/cgroup")  # where a container sees its own limits


@dataclass(frozen=True, slots=True)
class Share:
    """How many processes compute at the same time, each on how many of the CPU's threads."""

    workers: int
    threads: int  # at least 1, also where there are more workers than cores


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


def in_words(device: torch.device, share: Share) -> str:
    """What so many workers train on, in words."""
    if share.workers == 1:
        return device_name(device)
    workers = plural(share.workers, "worker")
    if device.type == "cpu":
        return f"cpu, {workers} of {plural(share.threads, 'thread')}"
    return f"{device_name(device)}, {workers}"


def usable_cores() -> int:
    """Cores that torch takes, by `OMP_NUM_THREADS` and the process's affinity; or its container's.

    A container's limit counts time on the cores, not the cores themselves, so torch cannot know it.
    """
    cores = torch.get_num_threads()
    quota, _, period = _limit("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def free_bytes() -> int:
    """Memory that processes can still have, on this machine and in its container."""
    free, most = int(psutil.virtual_memory().available), _limit("memory.max")
    return min(free, int(most)) if most.isdigit() else free


def _limit(name: str) -> str:
    try:
        return (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
