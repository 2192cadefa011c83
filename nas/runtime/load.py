"""What else computes on this machine."""

import os

_BUSY = 0.5  # processes per core, of others


def is_busy(own: int = 0) -> bool:
    """Whether other programs compute here, on average over the last minute.

    Args:
        own: threads of ours that have computed meanwhile.
    """
    return os.getloadavg()[0] - own > _BUSY * (os.cpu_count() or 1)
