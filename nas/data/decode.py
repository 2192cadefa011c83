"""Image files to pixels of one shape.

Shapes: N images, C channels, H x W pixels.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.data.catalogue import DataError

LARGEST_SIDE = 64  # pixels; larger images are made smaller
EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 are the sideways ones
_CHUNK = 64  # files per task of the thread pool

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape that files are decoded to."""

    channels: int  # 1 or 3
    height: int  # pixels
    width: int  # pixels

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class Survey:
    """The shape that suits a list of files, and a note if it is not that of every file."""

    shape: Shape
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    width: int
    gray: bool


def survey(paths: Sequence[str]) -> Survey:
    """The shape for these files, from their headers alone.

    One size with a side of at most 64 pixels is kept. Otherwise the images become squares, as wide
    as the median of the shorter sides but at most 64 pixels. All gray gives one channel, else RGB.

    Raises:
        DataError: a file is no readable image.
    """
    headers = _map_files(_header, paths)
    sizes = {(header.height, header.width) for header in headers}
    channels = 1 if all(header.gray for header in headers) else 3
    height, width = next(iter(sizes))
    if len(sizes) == 1 and max(height, width) <= LARGEST_SIDE:
        return Survey(Shape(channels, height, width), ())
    shorter = statistics.median_low([min(header.height, header.width) for header in headers])
    side = min(LARGEST_SIDE, shorter)
    came = f"{height}x{width} pixels" if len(sizes) == 1 else f"of {len(sizes)} sizes"
    note = f"the images are {came}: resized and centre-cropped to {side}x{side} pixels"
    return Survey(Shape(channels, side, side), (note,))


def decode(paths: Sequence[str], shape: Shape, *, exact: bool = False) -> NDArray[np.uint8]:
    """The pixels of the files in that order, as NCHW.

    Orientation tags are applied and transparent images laid over white. An image of another size is
    resized to cover the shape and centre-cropped; with `exact` it is an error.

    Raises:
        DataError: a file is no readable image, or with `exact` has another size.
    """
    pixels_NCHW = np.empty((len(paths), shape.channels, shape.height, shape.width), dtype=np.uint8)

    def fill(index: int) -> None:
        with _open(paths[index]) as image:
            if not exact:  # a JPEG can be decoded at a fraction of its size
                image.draft(None, (2 * max(shape.height, shape.width),) * 2)
            fitted = _converted(ImageOps.exif_transpose(image), shape.channels)
            if fitted.size != (shape.width, shape.height):
                if exact:
                    raise DataError(
                        f"{paths[index]}: expected an image of {shape.height}x{shape.width} "
                        f"pixels, got {fitted.height}x{fitted.width}: use --dataset folder "
                        "for images of other sizes"
                    )
                size = (shape.width, shape.height)
                fitted = ImageOps.fit(fitted, size, Image.Resampling.BICUBIC)
            pixels = np.asarray(fitted).reshape(shape.height, shape.width, shape.channels)
            pixels_NCHW[index] = pixels.transpose(2, 0, 1)

    _map_files(fill, range(len(paths)))
    return pixels_NCHW


def _map_files(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of every item, in order; PIL decodes outside the interpreter lock."""

    def run(start: int) -> list[Result]:
        return [function(item) for item in items[start : start + _CHUNK]]

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        chunks = pool.map(run, range(0, len(items), _CHUNK))
        return [result for chunk in chunks for result in chunk]


@contextmanager
def _open(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # PIL raises errors of a dozen kinds for broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: expected a readable image, got: {reason}: repair or remove the file"
        ) from error


def _header(path: str) -> _Header:
    with _open(path) as image:
        width, height = image.size
        # Asking a PNG without an EXIF chunk up front for one would decode all of it.
        if (image.format != "PNG" or "exif" in image.info) and (
            image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        ):
            width, height = height, width
        return _Header(height, width, image.mode in _GRAY_MODES)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits; convert() would clip
        high_bytes = np.asarray(image).astype(np.int64) // 256
        image = Image.fromarray(high_bytes.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers, not 8 or 16 bits")
    elif image.mode in _ALPHA_MODES or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert(mode)
