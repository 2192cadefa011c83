"""How threads wait for each other, which is read once, as torch loads its OpenMP."""

import os
from collections.abc import Mapping

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def passive_waiting() -> Mapping[str, str]:
    """Variables that have a thread which waits for another one sleep; none where one is set.

    By themselves OpenMP's threads turn in a loop, which keeps the one that is waited for from its
    core where anything else runs: two threads are then many times slower than one
    (benchmarks/threads.py).
    """
    if any(name in os.environ for name in _VARIABLES):
        return {}
    return {"OMP_WAIT_POLICY": "PASSIVE"}
