"""Waiting for states: how long one takes says nothing, since machines differ and are shared."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 600.0  # seconds: ends a test that hangs, and says nothing of how long one may take

_Result = TypeVar("_Result")


def wait_until(
    condition: Callable[[], _Result], process: "subprocess.Popen[str] | None" = None
) -> _Result:
    """What a condition gives as soon as that is true.

    Args:
        condition: asked again and again.
        process: brings the state about; it failing to, and ending, is told at once.
    """
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
    return result
