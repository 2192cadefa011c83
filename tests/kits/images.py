"""Small images in class folders, each another one."""

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


def write_class(
    folder: Path, count: int, seed: int = 0, shape: tuple[int, ...] = (6, 5, 3)
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise(1000 * seed + i, *shape)).save(folder / f"{i:03}.png")


def write_pairs(root: Path, images: list[Image.Image], suffix: str = ".png") -> Path:
    """The same images in two classes, three times each, so that every split has all of them."""
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True)
        (root / "test" / name).mkdir(parents=True)
        for i in range(3):
            for j, image in enumerate(images):
                image.save(root / "train" / name / f"{i}-{j}{suffix}")
        images[0].save(root / "test" / name / f"0{suffix}")
    return root


def write_ants_and_bees(root: Path, train: int = 10) -> Path:
    """Images of 6x5 pixels: that many of each class to train on, and three to test."""
    for i, name in enumerate(("ant", "bee")):
        write_class(root / "train" / name, train, seed=i)
        write_class(root / "test" / name, 3, seed=100 + i)
    return root
