"""Image files to pixels of one shape.

Shapes: N images, C channels, H x W pixels.
"""

import errno
import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.data.catalogue import DataError
from nas.runtime import signals

LARGEST_SIDE = 64  # pixels; larger images are made smaller
EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 are the sideways ones
_CHUNK = 64  # files per task of the thread pool
_NAMED = 3  # broken files in a message

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


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pixels of a list of files, in the order of the list, without those of broken files."""

    pixels_NCHW: NDArray[np.uint8]
    notes: tuple[str, ...] = ()  # what was done to the images
    broken: Mapping[int, str] = field(default_factory=dict)  # index in the list -> reason, sorted


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    width: int
    gray: bool


class _Unreadable(Exception):
    """A file is no readable image; the message is the reason."""


def decode(paths: Sequence[str | os.PathLike[str]], shape: Shape) -> NDArray[np.uint8]:
    """The pixels of the files in that order, as NCHW, made as those of training images are.

    Orientation tags are applied and transparent images laid over white; of several frames the first
    counts. An image of another size is resized to cover the shape and centre-cropped.

    Raises:
        DataError: files are no readable images; all such files are counted, the first ones named.
    """
    decoded = decode_readable(paths, shape)
    if len(paths) == len(decoded.broken) == 1:
        raise DataError(
            f"{plain(paths[0])}: expected a readable image, got: {decoded.broken[0]}: repair it, "
            "or save it as JPEG or PNG"
        )
    if decoded.broken:
        raise DataError(
            f"expected images, got {broken_in_words(paths, decoded.broken)}: "
            "repair them, or save them as JPEG or PNG"
        )
    return decoded.pixels_NCHW


def decode_readable(
    paths: Sequence[str | os.PathLike[str]], shape: Shape, *, exact: bool = False
) -> Decoded:
    """As `decode`, without the broken files; with `exact` an image of another size is an error.

    Raises:
        DataError: a file cannot be opened, or with `exact` has another size.
    """
    pixels_NCHW = np.empty((len(paths), shape.channels, shape.height, shape.width), dtype=np.uint8)

    def fill(index: int) -> None:
        with _open(paths[index]) as image:
            if not exact:  # a JPEG can be decoded at a fraction of its size
                image.draft(None, (2 * max(shape.height, shape.width),) * 2)
            fitted = _converted(_upright(image), shape.channels)
            if fitted.size != (shape.width, shape.height):
                if exact:
                    raise DataError(
                        f"{plain(paths[index])}: expected an image of {shape.height}x{shape.width} "
                        f"pixels, got {fitted.height}x{fitted.width}: use --dataset folder "
                        "for images of other sizes"
                    )
                size = (shape.width, shape.height)
                fitted = ImageOps.fit(fitted, size, Image.Resampling.BICUBIC)
            pixels = np.asarray(fitted).reshape(shape.height, shape.width, shape.channels)
            pixels_NCHW[index] = pixels.transpose(2, 0, 1)

    _, broken = _map_files(fill, range(len(paths)))
    if broken:
        pixels_NCHW = np.delete(pixels_NCHW, list(broken), axis=0)
    return Decoded(pixels_NCHW, (), broken)


def decode_suited(paths: Sequence[str]) -> Decoded:
    """As `decode_readable`, in the shape that suits the readable files.

    One size with a side of at most 64 pixels is kept. Otherwise the images become squares, as wide
    as the median of the shorter sides but at most 64 pixels. All gray gives one channel, else RGB.

    Raises:
        DataError: a file cannot be opened.
    """
    headers, unknown = _map_files(_header, paths)
    broken = dict(unknown)
    pixels_NCHW = np.empty((0, 1, 1, 1), dtype=np.uint8)
    while good := [i for i in range(len(paths)) if i not in broken]:
        shape, notes = _suited([headers[i] for i in good])
        if len(pixels_NCHW) and pixels_NCHW.shape[1:] == astuple(shape):
            return Decoded(pixels_NCHW, notes, dict(sorted(broken.items())))
        # Many a broken file has a whole header, which must not have a say in the shape.
        found = decode_readable([paths[i] for i in good], shape)
        pixels_NCHW = found.pixels_NCHW
        broken |= {good[i]: reason for i, reason in found.broken.items()}
    return Decoded(pixels_NCHW, (), dict(sorted(broken.items())))


def broken_in_words(
    paths: Sequence[str | os.PathLike[str]], broken: Mapping[int, str], called: str = "files"
) -> str:
    """``2 of 90 files that are no readable images: a.jpg (truncated), b.png (empty)``."""
    named = [f"{plain(paths[i])} ({reason})" for i, reason in list(broken.items())[:_NAMED]]
    more = len(broken) - len(named)
    return (
        f"{len(broken):,} of {len(paths):,} {called} that are no readable images: "
        f"{', '.join(named)}{f' and {more:,} more' if more else ''}"
    )


def plain(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed anywhere, in one line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in os.fspath(path)
    )


def _map_files(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> tuple[dict[int, Result], dict[int, str]]:
    """By index what `function` returns, and why where the item is unreadable; both in order.

    PIL decodes outside the interpreter lock.

    Raises:
        KeyboardInterrupt: a signal came.
    """

    def run(start: int) -> list[Result | _Unreadable]:
        return [attempt(item) for item in items[start : start + _CHUNK]]

    def attempt(item: Item) -> Result | _Unreadable:
        try:
            return function(item)
        except _Unreadable as error:
            return error

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images and odd metadata
        chunks = [pool.submit(run, start) for start in range(0, len(items), _CHUNK)]
        try:
            results = dict(enumerate(r for chunk in chunks for r in signals.result(chunk)))
        finally:  # a file that hangs must not hold a signal up
            pool.shutdown(wait=False, cancel_futures=True)
    return (
        {i: result for i, result in results.items() if not isinstance(result, _Unreadable)},
        {i: str(result) for i, result in results.items() if isinstance(result, _Unreadable)},
    )


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0
        raise _Unreadable("empty" if empty else "of no known image format") from error
    except Exception as error:  # PIL raises errors of a dozen kinds for broken files
        number = getattr(error, "errno", None)  # of the system; a broken file's offsets are EINVAL
        if isinstance(error, MemoryError) or number not in (None, errno.EINVAL):
            reason = getattr(error, "strerror", None) or "out of memory"
            raise DataError(
                f"{plain(path)}: expected to be able to read it, got: {reason}: "
                "check the path and its permissions"
            ) from error
        reason = plain(" ".join(str(error).split())) or type(error).__name__
        if reason.startswith("image file is truncated"):  # and so many bytes
            reason = "truncated"
        raise _Unreadable(reason) from error


def _header(path: str) -> _Header:
    with _open(path) as image:
        width, height = image.size
        # Asking a PNG without an EXIF chunk up front for one would decode all of it.
        if (image.format != "PNG" or "exif" in image.info) and _sideways(image):
            width, height = height, width
        return _Header(height, width, image.mode in _GRAY_MODES)


def _suited(headers: Sequence[_Header]) -> tuple[Shape, tuple[str, ...]]:
    """The shape for these images, and a note if it is not that of every one."""
    sizes = {(header.height, header.width) for header in headers}
    channels = 1 if all(header.gray for header in headers) else 3
    height, width = next(iter(sizes))
    if len(sizes) == 1 and max(height, width) <= LARGEST_SIDE:
        return Shape(channels, height, width), ()
    shorter = statistics.median_low([min(header.height, header.width) for header in headers])
    side = min(LARGEST_SIDE, shorter)
    came = f"{height}x{width} pixels" if len(sizes) == 1 else f"of {len(sizes):,} sizes"
    note = f"the images are {came}: resized and centre-cropped to {side}x{side} pixels"
    return Shape(channels, side, side), (note,)


def _sideways(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # damaged metadata of an image that may be whole
        return False


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata of a whole image
        return image


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
