"""Images of more than 8 bits, of which not all are in use, and images that show nothing."""

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nas
from nas.commands import main
from nas.data.catalogue import DataError
from nas.data.decode import Shape, decode
from nas.data.loading import load_dataset, load_test
from nas.export.spec import ModelSpec
from tests.kits.exports import make_spec, write_network
from tests.kits.images import noise, write_parts


def deep(seed: int, bits: int) -> NDArray[np.uint16]:
    """Pixels of so many bits, with the darkest and the brightest of them."""
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, (6, 5)).astype(np.uint16)
    pixels[0, :2] = 0, (1 << bits) - 1
    return pixels


def write_deep(bits: int, ending: str = ".png") -> dict[str, NDArray[np.uint16]]:
    """Class folders in `photos`; the pixels of each file by its path."""
    written: dict[str, NDArray[np.uint16]] = {}
    for part, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            Path("photos", part, name).mkdir(parents=True)
            for i in range(count):
                path = f"photos/{part}/{name}/{i}{ending}"
                written[path] = deep(len(written), bits)
                Image.fromarray(written[path]).save(path)
    return written


def deep_png(pixels_HWC: NDArray[np.uint16]) -> bytes:
    """An RGB or RGBA file of 16 bits a channel, which Pillow reads but does not write."""
    height, width, channels = pixels_HWC.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "depth"), [(8, 8), (9, 10), (12, 12), (14, 14), (16, 16)])
def test_as_many_bits_count_as_are_in_use(bits: int, depth: int, ending: str) -> None:
    written = write_deep(bits, ending)
    data = load_dataset("folder", Path("photos"))
    assert data.bits == depth
    said = [note for note in data.notes if "of 16 bits" in note]
    assert len(said) == (depth < 16)
    assert all(
        f"no level above {(1 << bits) - 1:,}, so that {depth} bits are enough" in n for n in said
    )
    scaled = {path: (pixels >> (depth - 8)).astype(np.uint8) for path, pixels in written.items()}
    known = {
        bytes(image.numpy().tobytes())
        for part in (data.train, data.validation)
        for image in part.pixels_NHWC
    }
    assert known == {p.tobytes() for path, p in scaled.items() if "/train/" in path}
    tested = load_test("folder", Path("photos")).images.pixels_NHWC.numpy()[..., 0]
    assert [p.tobytes() for p in tested] == [
        p.tobytes() for path, p in sorted(scaled.items()) if "/test/" in path
    ]
    assert load_dataset("folder", Path("photos")).bits == depth  # from the cache


def test_a_test_image_has_no_say_in_the_bits() -> None:
    write_deep(12)
    Image.fromarray(deep(0, 16)).save("photos/test/cat/0.png")
    assert load_dataset("folder", Path("photos")).bits == 12
    assert load_test("folder", Path("photos")).images.pixels_NHWC.max() == 255  # cut, not wrapped


def test_a_model_scales_as_its_training_did() -> None:
    spec = dataclasses.replace(make_spec(shape=(1, 8, 10)), bits=12)
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert "pixel / 16" in spec.preparation
    write_network(Path("model"), spec)
    pixels = np.random.default_rng(0).integers(0, 4096, (spec.input.height, spec.input.width))
    Image.fromarray(pixels.astype(np.uint16)).save("deep.png")
    Image.fromarray((pixels >> 4).astype(np.uint8)).save("eight.png")
    model = nas.load("model")
    (of_12_bits, of_8_bits) = model.predict(["deep.png", "eight.png"])
    assert of_12_bits.probabilities == pytest.approx(of_8_bits.probabilities)
    document = spec.to_dict()
    del document["preparation"]["bits"]  # as a version before wrote it
    assert ModelSpec.from_dict(document).bits == 16


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_that_uses_some_of_its_16_bits_is_refused(channels: int) -> None:
    for bits, root in ((12, Path("dark")), (16, Path("whole"))):
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 1 << bits, (6, 5, channels))
            pixels[..., 3:] = 65535  # opaque
            path = root / f"train/{'ab'[i % 2]}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(deep_png(pixels.astype(np.uint16)))
    with pytest.raises(
        DataError, match=r"for which 12 bits are enough, such as dark/.*: multiply.* by 16"
    ):
        load_dataset("folder", Path("dark"))
    assert not any("bits" in note for note in load_dataset("folder", Path("whole")).notes)


def ppm(pixels_HWC: NDArray[np.uint16], highest: int, *, plain: bool) -> bytes:
    """An RGB file whose header says that `highest` is white, in digits or in binary."""
    height, width, _ = pixels_HWC.shape
    header = f"{'P3' if plain else 'P6'}\n{width} {height}\n{highest}\n".encode()
    digits = " ".join(map(str, pixels_HWC.ravel().tolist())).encode()
    return header + (digits if plain else pixels_HWC.astype(">u2").tobytes())


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("bits", "highest", "good"),
    [
        (10, 65535, False),
        (12, 65535, False),
        (14, 65535, False),
        (12, 4095, True),
        (16, 65535, True),
    ],
)
def test_colour_of_a_ppm_file_must_reach_the_level_that_it_names(
    bits: int, highest: int, good: bool, plain: bool
) -> None:
    for i in range(10):
        path = Path(f"photos/train/{'ab'[i % 2]}/{i}.ppm")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.stack([deep(3 * i + channel, bits) for channel in range(3)], axis=2)
        path.write_bytes(ppm(pixels, highest, plain=plain))
    if good:
        data = load_dataset("folder", Path("photos"))
        assert data.train.pixels_NHWC.max() == 255
    else:
        with pytest.raises(
            DataError, match=rf"for which {bits} bits are enough.*by {1 << (16 - bits)},"
        ):
            load_dataset("folder", Path("photos"))


@pytest.mark.parametrize(("low", "high"), [(0, 70_000), (-5, 200)])
def test_integers_that_are_no_16_bits_are_refused(
    capsys: pytest.CaptureFixture[str], low: int, high: int
) -> None:
    root = write_parts(".tif")
    pixels = np.array([[low, 100, high]], dtype=np.int32)
    Image.fromarray(pixels).save(root / "train/cat/00.tif")
    search = ["search", "--budget", "1M", "--dataset", "folder", "--data-dir", "photos"]
    assert main(search) == 2
    (line,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("error: ")]
    assert f"cat/00.tif (pixels of {low:,} to {high:,}, not of 0 to 65,535)" in line
    assert len(load_dataset("folder", root, skip_broken=True).train) == 15
    Image.fromarray(pixels.astype(np.float32)).save("float.tif")
    with pytest.raises(DataError, match="floating-point"):
        decode(["float.tif"], Shape(1, 4, 4))


def test_images_that_show_nothing_are_counted() -> None:
    root = write_parts()
    assert load_dataset("folder", root).notes == ()
    Image.new("RGB", (10, 12), (255, 0, 0)).save(root / "train/cat/00.png")  # but colours differ
    Image.fromarray(noise(0, 12, 10, 3) // 64).save(root / "train/cat/01.png")
    (note,) = load_dataset("folder", root).notes
    assert note.startswith("2 of 20 training images are of one colour, or within 8 of 256 levels")


def test_a_bright_pixel_does_not_hide_that_all_others_are_dark() -> None:
    write_deep(12)
    assert not any(
        "nearly constant" in note for note in load_dataset("folder", Path("photos")).notes
    )
    for i, path in enumerate(sorted(Path("photos").rglob("*.png"))):
        pixels = np.random.default_rng(i).integers(0, 1 << 12, (20, 20)).astype(np.uint16)
        pixels[0, 0] = 65535
        Image.fromarray(pixels).save(path)
    (note,) = load_dataset("folder", Path("photos")).notes
    assert note.startswith("the training images are nearly constant: 99.75% of their pixels")
    assert "within 32 of 256 levels (0 to 31)" in note
    for i, path in enumerate(sorted(Path("photos").rglob("*.png"))):
        Image.fromarray(np.random.default_rng(i).integers(200, 233, (20, 20), np.uint8)).save(path)
    assert load_dataset("folder", Path("photos")).notes == ()  # 33 levels
    for path in Path("photos").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).clip(201, 232)).save(path)
    (note,) = load_dataset("folder", Path("photos")).notes
    assert "100.00% of their pixels lie within 32 of 256 levels (201 to 232)" in note
