"""What is said of images that are few or of unbalanced classes."""

from pathlib import Path

from nas.data.loading import load_dataset
from tests.kits.images import photo, write


def test_unbalanced_classes_are_said() -> None:
    write("test", {"cat": 1, "dog": 1, "emu": 1})
    root = write("train", {"cat": 45, "dog": 15, "emu": 20})
    (note,) = [n for n in load_dataset("folder", root).notes if "unbalanced" in n]
    assert "36 training images of cat, 12 of dog" in note
    assert "cat would reach 56.25% validation accuracy" in note  # 9 of 16
    photo(1).save(root / "train/dog/more.png")
    photo(2).save(root / "train/dog/most.png")
    assert not any("unbalanced" in n for n in load_dataset("folder", root).notes)


def test_a_subset_that_leaves_almost_nothing_is_said() -> None:
    tiny = load_dataset("digits", Path("nowhere"), subset=0.01)
    assert "leaves 10 training images for 10 classes" in tiny.notes[-1]
    assert load_dataset("digits", Path("nowhere"), subset=0.1).notes == ()
