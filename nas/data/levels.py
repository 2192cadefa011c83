"""Images of more than 8 bits: how many of their bits are in use."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from nas.data.catalogue import DataError
from nas.data.opening import map_files, open_image
from nas.text import plural, printable

DEEPEST = 16  # bits of a channel
DEEP_GRAY = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})  # Pillow's modes
_DEPTHS = (8, 10, 12, 14, DEEPEST)  # bits that cameras and scanners have
_COLOUR = frozenset({"RGB", "RGBA", "LA"})


def has_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow reads 16 bits a channel into 8 of them; to be asked before it is decoded."""
    if image.mode not in _COLOUR or not image.tile:
        return False
    args = image.tile[0].args
    if image.format == "PPM":  # the level of white is beside the mode, unless it is 255
        return isinstance(args, tuple) and int(args[1]) > 255
    return ";16" in str(args)


def levels_of(image: Image.Image) -> NDArray[np.int64]:
    """The pixels of an image of a mode in `DEEP_GRAY`.

    Raises:
        ValueError: they are not 0..65535.
    """
    levels = np.asarray(image).astype(np.int64)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high >= 1 << DEEPEST:
        raise ValueError(f"pixels of {low:,} to {high:,}, not of 0 to {(1 << DEEPEST) - 1:,}")
    return levels


def bits_in_use(gray: Sequence[str], colour: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """How many bits the gray images need, and a note where these are fewer than 16.

    Cameras of 12 bits write files of 16, whose upper bits are all 0.

    Args:
        gray: files of a mode in `DEEP_GRAY`; those that cannot be read have no say.
        colour: files with 16 bits a channel.

    Raises:
        DataError: those in colour need fewer than 16, of which Pillow drops the lower 8.
    """
    level = _highest_level(colour)
    bits = _bits(level)
    if bits < DEEPEST:
        raise DataError(
            f"expected 16-bit images in colour that use 16 bits, got {len(colour):,} with no "
            f"level above {level:,}, for which {bits} bits are enough, such as "
            f"{printable(colour[0])}: multiply their pixels by {1 << (DEEPEST - bits)}, or save "
            "them with 8 bits"
        )
    level = _highest_level(gray)
    bits = _bits(level)
    if bits == DEEPEST:
        return bits, ()
    done = f"divided by {1 << (bits - 8)}" if bits > 8 else "used unchanged"
    note = (
        f"{plural(len(gray), 'image')} of 16 bits with no level above {level:,}, so that {bits} "
        f"bits are enough: the pixels are {done} to get 8 bits"
    )
    return bits, (note,)


def _bits(level: int) -> int:
    """The depth that holds this level."""
    return next(bits for bits in _DEPTHS if level < 1 << bits)


def _highest_level(paths: Sequence[str]) -> int:
    """The highest in any of the files, 0..65535; the last of these where none can be read."""
    highest, _ = map_files(_highest, paths)
    return max(highest.values(), default=(1 << DEEPEST) - 1)


def _highest(path: str) -> int:
    with open_image(path) as image:
        if image.mode in DEEP_GRAY:
            return int(levels_of(image).max())
        without_alpha = image.convert("L" if image.mode == "LA" else "RGB")
        upper = int(np.asarray(without_alpha).max())
        if image.format == "PPM":  # rounded, so that 4095 of 65535 has become 16
            return max((upper << 8) - 1, 0)
        return upper << 8 | 0xFF  # the upper 8 bits
