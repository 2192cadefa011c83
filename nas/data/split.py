"""Stratified draws that depend on nothing but the labels and a seed."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

LARGE = 20_000  # training images from which a tenth is enough to validate on
TEST_SHARE = 0.2  # of the images, where a dataset has no test part of its own


class Purpose(IntEnum):
    """What a draw is for; each has random numbers of its own."""

    TEST = 0
    VALIDATION = 1
    SUBSET = 2


def validation_share(images: int) -> float:
    """The share of so many training images that is held back to validate on."""
    return 0.1 if images >= LARGE else 0.2


def draw(
    labels_N: NDArray[np.int64], share: float, *, seed: int, purpose: Purpose
) -> NDArray[np.bool_]:
    """Which images are drawn: that share of each class, rounded, and at least one of each.

    The same on every machine and with every version of NumPy.
    """
    # Raw bits: unlike NumPy's permutations, these are promised never to change.
    bits = np.random.PCG64([seed, int(purpose)]).random_raw(len(labels_N))
    order = np.argsort(bits, kind="stable")
    by_class = order[np.argsort(labels_N[order], kind="stable")]
    drawn = np.zeros(len(labels_N), dtype=np.bool_)
    counts = np.bincount(labels_N)
    for start, count in zip(np.cumsum(counts) - counts, counts, strict=True):
        wanted = max(1, int(share * count + 0.5))
        drawn[by_class[start : start + min(wanted, count)]] = True
    return drawn
