"""Image files to pixels of one shape.

Shapes: N images, C channels, H x W pixels.
"""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.data.catalogue import DataError
from nas.data.levels import DEEP_GRAY, DEEPEST, bits_in_use, has_deep_colour, levels_of
from nas.data.opening import map_files, open_image
from nas.text import plural, printable

LARGEST_SIDE = 64  # pixels; larger images are made smaller
_GRAY_MODES = frozenset({"1", "L", "LA", "La"}) | DEEP_GRAY
_ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 are the sideways ones
_NAMED = 3  # broken files in a message


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape that files are decoded to."""

    channels: int  # 1 or 3
    height: int  # pixels
    width: int  # pixels
    bits: int = DEEPEST  # 8 to 16: those in use in gray images of more than 8

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pixels of a list of files, in the order of the list, without those of broken files."""

    pixels_NHWC: NDArray[np.uint8]
    notes: tuple[str, ...] = ()  # what was done to the images
    broken: Mapping[int, str] = field(default_factory=dict)  # index in the list -> reason, sorted
    bits: int = DEEPEST  # of `Shape`


@dataclass(frozen=True, slots=True)
class _Header:
    height: int
    width: int
    gray: bool
    deep_gray: bool  # more than 8 bits a pixel
    deep_colour: bool  # more than 8 bits a channel, of which Pillow gives the upper 8


def decode(paths: Sequence[str | os.PathLike[str]], shape: Shape) -> NDArray[np.uint8]:
    """The pixels of the files in that order, as NHWC, made as those of training images are.

    Orientation tags are applied and transparent images laid over white; of several frames the first
    counts. An image of another size is resized to cover the shape and centre-cropped.

    Raises:
        DataError: files are no readable images; all such files are counted, the first ones named.
    """
    decoded = decode_readable(paths, shape)
    if len(paths) == len(decoded.broken) == 1:
        raise DataError(
            f"{printable(paths[0])}: expected a readable image, got a broken file "
            f"({decoded.broken[0]}): repair it, or save it as JPEG or PNG"
        )
    if decoded.broken:
        raise DataError(
            f"expected images, got {broken_in_words(paths, decoded.broken)}: "
            "repair them, or save them as JPEG or PNG"
        )
    return decoded.pixels_NHWC


def decode_readable(
    paths: Sequence[str | os.PathLike[str]], shape: Shape, *, exact: bool = False
) -> Decoded:
    """As `decode`, without the broken files; with `exact` an image of another size is an error.

    Raises:
        DataError: a file cannot be opened, or with `exact` has another size.
    """
    size = (shape.width, shape.height)
    pixels_NHWC = np.empty((len(paths), shape.height, shape.width, shape.channels), dtype=np.uint8)

    def fill(index: int) -> None:
        with open_image(paths[index]) as image:
            if not exact:  # a JPEG can be decoded at a fraction of its size
                image.draft(None, (2 * max(size),) * 2)
            fitted = _converted(_upright(image), shape)
            if fitted.size != size:
                if exact:
                    raise DataError(
                        f"{printable(paths[index])}: expected an image of "
                        f"{shape.height}x{shape.width} pixels, got {fitted.height}x{fitted.width}: "
                        "use --dataset folder for images of other sizes"
                    )
                fitted = ImageOps.fit(fitted, size, Image.Resampling.BICUBIC)
            pixels_NHWC[index] = np.asarray(fitted).reshape(pixels_NHWC.shape[1:])

    _, broken = map_files(fill, range(len(paths)))
    if broken:
        pixels_NHWC = np.delete(pixels_NHWC, list(broken), axis=0)
    return Decoded(pixels_NHWC, (), broken, shape.bits)


def decode_suited(paths: Sequence[str]) -> Decoded:
    """As `decode_readable`, in the shape that suits the readable files.

    One size with a side of at most 64 pixels is kept. Otherwise the images become squares, as wide
    as the median of the shorter sides but at most 64 pixels. All gray gives one channel, else RGB.
    Gray images of more than 8 bits are scaled by the bits that the brightest of them needs.

    Raises:
        DataError: a file cannot be opened, or 16-bit images in colour use fewer bits.
    """
    headers, broken = map_files(_header, paths)
    bits, said_of_bits = bits_in_use(
        [paths[i] for i, header in headers.items() if header.deep_gray],
        [paths[i] for i, header in headers.items() if header.deep_colour],
    )
    decoded = Decoded(np.empty((0, 1, 1, 1), dtype=np.uint8))
    shape: Shape | None = None
    notes: tuple[str, ...] = ()
    while good := [i for i in range(len(paths)) if i not in broken]:
        before, (shape, notes) = shape, _suited([headers[i] for i in good], bits)
        if shape == before:
            break
        # Many a broken file has a whole header, which must not have a say in the shape.
        decoded = decode_readable([paths[i] for i in good], shape)
        broken |= {good[i]: reason for i, reason in decoded.broken.items()}
    return replace(decoded, notes=notes + said_of_bits, broken=dict(sorted(broken.items())))


def broken_in_words(
    paths: Sequence[str | os.PathLike[str]], broken: Mapping[int, str], of: str | None = None
) -> str:
    """``2 of 90 files that are not readable images: a.jpg (truncated), b.png (empty)``.

    `of` is what takes the place of `90 files`.
    """
    of = of or plural(len(paths), "file")
    what = "that are not readable images" if len(paths) > 1 else "that is not a readable image"
    named = [f"{printable(paths[i])} ({reason})" for i, reason in list(broken.items())[:_NAMED]]
    more = len(broken) - len(named)
    return (
        f"{len(broken):,} of {of} {what}: {', '.join(named)}{f' and {more:,} more' if more else ''}"
    )


def _header(path: str) -> _Header:
    with open_image(path) as image:
        width, height = image.size
        # Asking a PNG without an EXIF chunk up front for one would decode all of it.
        if (image.format != "PNG" or "exif" in image.info) and _sideways(image):
            width, height = height, width
        return _Header(
            height,
            width,
            gray=image.mode in _GRAY_MODES,
            deep_gray=image.mode in DEEP_GRAY,
            deep_colour=has_deep_colour(image),
        )


def _suited(headers: Sequence[_Header], bits: int) -> tuple[Shape, tuple[str, ...]]:
    """The shape for these images, and a note if it is not that of every one."""
    sizes = {(header.height, header.width) for header in headers}
    channels = 1 if all(header.gray for header in headers) else 3
    height, width = next(iter(sizes))
    if len(sizes) == 1 and max(height, width) <= LARGEST_SIDE:
        return Shape(channels, height, width, bits), ()
    shorter = statistics.median_low([min(header.height, header.width) for header in headers])
    side = min(LARGEST_SIDE, shorter)
    came = f"{height}x{width} pixels" if len(sizes) == 1 else f"of {len(sizes):,} sizes"
    note = f"the images are {came}: resized and centre-cropped to {side}x{side} pixels"
    return Shape(channels, side, side, bits), (note,)


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


def _converted(image: Image.Image, shape: Shape) -> Image.Image:
    mode = "L" if shape.channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in DEEP_GRAY:  # convert() would clip
        upper_bits = levels_of(image) >> (shape.bits - 8)
        image = Image.fromarray(upper_bits.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers, not 8 or 16 bits")
    elif image.mode in _ALPHA_MODES or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert(mode)
