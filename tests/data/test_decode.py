"""Image files to pixels: kinds of photos, sizes, colours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nas.data.decode import Shape, decode
from nas.data.loading import load_dataset, load_test
from tests.kits.datasets import data_error, rows
from tests.kits.images import noise, photo, write_pairs, write_parts


def test_orientation_is_applied(tmp_path: Path) -> None:
    upright = Image.fromarray(noise(0, 4, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    root = write_pairs(tmp_path, [upright.transpose(Image.Transpose.ROTATE_90)])
    for path in root.glob("*/*/*.png"):
        with Image.open(path) as image:
            image.load()
        image.save(path.with_suffix(".webp"), exif=exif, lossless=True)
        path.unlink()
    data = load_dataset("folder", root)
    assert (data.input.height, data.input.width) == (4, 7)
    assert not any("resized" in note for note in data.notes)
    assert torch.equal(data.train.pixels_NHWC[0], torch.tensor(noise(0, 4, 7, 3)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 3, 6))
    data = load_dataset("folder", write_pairs(tmp_path, [image.convert(mode)]))
    assert data.input.channels == (1 if mode == "LA" else 3)
    row = data.train.pixels_NHWC[0, 0, :, 0]
    assert row.tolist() == [0, 0, 0, 255, 255, 255]


def test_palettes_become_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (6, 6), (255, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE)
    data = load_dataset("folder", write_pairs(tmp_path, [red], ".gif"))
    assert data.train.pixels_NHWC[0, 0, 0].tolist() == [255, 0, 0]
    assert data.mean == pytest.approx((1.0, 0.0, 0.0))
    assert data.std == (1.0, 1.0, 1.0)


def test_gray_images_have_one_channel_unless_one_is_in_colour(tmp_path: Path) -> None:
    gray = Image.fromarray(noise(0, 6, 6))
    sixteen_bits = Image.fromarray(noise(0, 6, 6).astype(np.uint16) * 257)
    data = load_dataset("folder", write_pairs(tmp_path / "gray", [gray, sixteen_bits]))
    assert data.input.channels == 1
    assert rows(data.train) == {noise(0, 6, 6).tobytes()}
    colour = Image.fromarray(noise(0, 6, 6, 3))
    assert load_dataset("folder", write_pairs(tmp_path / "b", [gray, colour])).input.channels == 3


def test_images_of_many_sizes_become_squares(tmp_path: Path) -> None:
    wide, tall = Image.fromarray(noise(0, 20, 30, 3)), Image.fromarray(noise(1, 50, 40, 3))
    data = load_dataset("folder", write_pairs(tmp_path, [wide, wide, tall], ".bmp"))
    assert (data.input.height, data.input.width) == (20, 20)
    assert "of 2 sizes: resized and centre-cropped to 20x20" in data.notes[0]
    middle = noise(0, 20, 30, 3)[:, 5:25].transpose(2, 0, 1)
    assert middle.tobytes() in rows(data.train)
    assert load_test("folder", tmp_path).images.pixels_NHWC.shape == (2, 20, 20, 3)
    assert load_dataset("folder", tmp_path).notes == data.notes  # from the cache too


def test_large_photographs_are_made_smaller(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 900).astype(np.uint8)
    photo = Image.fromarray(np.broadcast_to(ramp[None, :, None], (600, 900, 3)).copy())
    data = load_dataset("folder", write_pairs(tmp_path, [photo], ".jpg"))
    assert (data.input.height, data.input.width) == (64, 64)
    expected = np.asarray(ImageOps.fit(photo, (64, 64)), dtype=np.int64)
    came = data.train.pixels_NHWC[0].numpy()
    assert np.abs(came - expected).max() <= 4


def test_a_file_that_cannot_be_opened_is_not_called_broken() -> None:
    photo(0).save("whole.png")
    assert "No such file" in data_error(decode, ["whole.png", "missing.png"], Shape(3, 8, 8))


def first_row(image: Image.Image, name: str, **options: Any) -> list[list[int]]:
    """What the first row's pixels become, each red, green and blue."""
    image.save(name, **options)
    (height, width) = image.size[::-1]
    pixels: list[list[int]] = decode([name], Shape(3, height, width))[0, 0].tolist()
    return pixels


def test_kinds_of_photos() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    near = np.array([255, 0, 0])
    cmyk = first_row(red.convert("CMYK"), "cmyk.JPG", quality=100)
    assert np.abs(np.array(cmyk) - near).max() <= 3
    green = Image.new("RGB", red.size, (0, 255, 0))
    for name in ("frames.gif", "frames.webp", "pages.tiff"):
        options = {"lossless": True} if name.endswith("webp") else {}
        row = first_row(red, name, save_all=True, append_images=[green], **options)
        assert row == [[255, 0, 0]] * 4
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    row = first_row(palette, "palette.png", transparency=bytes([255, 255, 0]))
    assert row == [[255, 0, 0], [0, 0, 255], [255, 255, 255]]
    sixteen_bits = Image.fromarray(np.array([[0, 128 * 257, 65535]], dtype=np.uint16))
    assert first_row(sixteen_bits, "deep.png") == [[0] * 3, [128] * 3, [255] * 3]
    assert first_row(red, "exif.png", exif=b"Exif\0\0damaged") == [[255, 0, 0]] * 4
    assert first_row(Image.new("1", (1, 1), 1), "Möwe ☃.png") == [[255] * 3]


def test_huge_and_thin_images() -> None:
    huge = Image.new("1", (9500, 9500), 1)  # from 90 million pixels on Pillow warns
    huge.save("huge.png")
    Image.new("RGB", (1, 300), "white").save("thin.png")
    assert decode(["huge.png", "thin.png"], Shape(1, 8, 5)).tolist() == [[[[255]] * 5] * 8] * 2


@pytest.mark.parametrize(("height", "width"), [(12, 10), (70, 90)])
def test_decode_makes_the_pixels_that_were_trained_on(height: int, width: int) -> None:
    root = write_parts()
    exif = Image.Exif()
    exif[0x0112] = 8
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        photo(i, width, height).save(path, exif=exif)
    data = load_dataset("folder", root)
    assert (data.input.height, data.input.width) == ((12, 10) if height == 12 else (64, 64))
    shape = Shape(data.input.channels, data.input.height, data.input.width)
    known = {
        row.numpy().tobytes() for part in (data.train, data.validation) for row in part.pixels_NHWC
    }
    assert known == {row.tobytes() for row in decode(sorted(root.glob("train/*/*")), shape)}
    assert np.array_equal(
        load_test("folder", root).images.pixels_NHWC, decode(sorted(root.glob("test/*/*")), shape)
    )


def test_digits_saved_as_images_decode_to_themselves() -> None:
    images = load_test("digits", Path("nowhere")).images.pixels_NHWC[:5].numpy()
    for i, pixels in enumerate(images):
        Image.fromarray(pixels[..., 0]).save(f"{i}.png")
    assert np.array_equal(decode([f"{i}.png" for i in range(5)], Shape(1, 8, 8)), images)
