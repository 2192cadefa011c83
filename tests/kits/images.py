"""Photos in class folders, for tests of what real folders hold."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(seed: int, height: int = 12, width: int = 10) -> Image.Image:
    return Image.fromarray(noise(seed, height, width, 3))


def write(part: str, counts: dict[str, int], ending: str = ".png") -> Path:
    """Photos of 12x10 pixels in class folders, each photo another one; returns the data folder."""
    root = Path("photos")
    for label, (name, count) in enumerate(counts.items()):
        folder = root / part / name
        folder.mkdir(parents=True)
        for i in range(count):
            photo(1000 * label + i + 100_000 * (part == "test")).save(folder / f"{i:02}{ending}")
    return root


def write_parts(ending: str = ".png") -> Path:
    write("test", {"cat": 3, "dog": 3}, ending)
    return write("train", {"cat": 10, "dog": 10}, ending)
