"""Images whose pixels are equal.

Shapes: N images, C channels, H x W pixels.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def digests_of(pixels_NHWC: NDArray[np.uint8]) -> list[bytes]:
    """One of each image: equal for equal pixels, and different for others."""
    return [hashlib.sha256(image.data).digest() for image in np.ascontiguousarray(pixels_NHWC)]


def first_of_each(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """For each image the number of the first one that equals it, which may be itself; (N,)."""
    first: dict[bytes, int] = {}
    numbers = [first.setdefault(digest, i) for i, digest in enumerate(digests)]
    return np.array(numbers, dtype=np.int64)


def of_two_classes(first_N: NDArray[np.int64], labels_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images equal one of another class, so that nobody knows which class is right; (N,)."""
    differs_N = labels_N != labels_N[first_N]
    return np.isin(first_N, first_N[differs_N])
