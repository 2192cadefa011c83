"""The benchmark of teachers runs, and continues where it was."""

from pathlib import Path

import pytest

import distillation

WAYS = ["plain", "longer", "ensemble, T 1, weight 0.9", "larger, T 1, weight 0.9"]


def test_all_ways_are_compared_and_trained_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["--dataset", "digits", "--data-dir", str(tmp_path), "--subset", "0.1"]
    design = ["--blocks", "1", "--channels", "4", "--pool", "8"]
    runs = ["--epochs", "1", "--seeds", "1,2", "--device", "cpu", "--out", str(tmp_path / "runs")]
    assert distillation.main([*images, *design, *runs]) == 0
    first = capsys.readouterr()
    rows = [line.split(" | ") for line in first.out.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows] == ["way", *WAYS]
    assert len(first.err.splitlines()) == 4 * 2 + 1  # one run of the larger design
    assert distillation.main([*images, *design, *runs]) == 0
    assert capsys.readouterr() == (first.out, "")
