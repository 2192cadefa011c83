"""Decoded images on disk: used, damaged, from earlier versions, and where nothing can be kept."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nas.data.loading import load_dataset
from tests.kits.datasets import same
from tests.kits.images import noise, write_pairs


def write_bitmaps(root: Path) -> Path:
    image = Image.fromarray(noise(0, 6, 6, 3))
    return write_pairs(root, [image], ".bmp")


def test_a_second_load_does_not_decode(tmp_path: Path) -> None:
    first = load_dataset("folder", write_bitmaps(tmp_path))
    paths = sorted(tmp_path.glob("train/*/*.bmp"))
    for path in paths:
        times = path.stat()
        Image.fromarray(noise(1, 6, 6, 3)).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert same(first, load_dataset("folder", tmp_path))
    os.utime(paths[0], ns=(0, 0))
    assert not same(first, load_dataset("folder", tmp_path))
    assert len(list(tmp_path.glob(".nas-cache/*"))) == 1  # the old one is gone


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    first = load_dataset("folder", write_bitmaps(tmp_path))
    (cache,) = tmp_path.glob(".nas-cache/*.npz")
    good = cache.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 3] ^= 255
    cache.write_bytes(
        {"flipped": bytes(bad), "cut": good[:500], "empty": b"", "other": b"{}"}[damage]
    )
    assert same(first, load_dataset("folder", tmp_path))
    assert cache.read_bytes() == good


def test_a_folder_that_cannot_be_written_is_cached_elsewhere(
    tmp_path: Path, own_cache: Path
) -> None:
    write_bitmaps(tmp_path)
    (tmp_path / ".nas-cache").write_text("in the way")
    first = load_dataset("folder", tmp_path)
    assert len(list(own_cache.glob("nas/*/*.npz"))) == 1
    assert same(first, load_dataset("folder", tmp_path))
    shutil.rmtree(own_cache)
    own_cache.write_text("in the way as well")
    anew = load_dataset("folder", tmp_path)
    assert same(first, anew)
    assert [note for note in anew.notes if note not in first.notes] == [
        f"neither {tmp_path}/.nas-cache nor the user's cache folder can be written: images are "
        "decoded again at every start"
    ]


@pytest.mark.parametrize("given", [None, "", "relative"])
def test_without_a_home_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME")
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    write_bitmaps(tmp_path / "data")
    (tmp_path / "data/.nas-cache").write_text("in the way")
    notes = load_dataset("folder", tmp_path / "data").notes
    assert len([note for note in notes if "decoded again" in note]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
