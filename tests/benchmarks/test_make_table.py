"""The table of recorded learning curves: restartable, and of weights and averages alike."""

import csv
import json
from pathlib import Path

import pytest

import make_table

SPACE = "stages = 1\nblocks = [1, 2]\nchannels = [4, 8]\nkernels = 3\npool = 4\n"
CURVES = ("raw_1", "raw_2", "ema_1", "ema_2")


def made(out: Path, designs: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    space = out.with_suffix(".toml")
    space.write_text(SPACE)
    words = f"--dataset digits --designs {designs} --epochs 2 --subset 0.3 --ema 0.9 --device cpu"
    given = ["make_table.py", *words.split(), "--space", str(space), "--out", str(out)]
    monkeypatch.setattr("sys.argv", given)
    assert make_table.main() == 0
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_is_made_longer_and_then_is_as_one_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = made(tmp_path / "parts.csv", 2, monkeypatch)
    sidecar = tmp_path / "parts.json"
    older = json.loads(sidecar.read_text())
    del older["settings"]["recipe"]["ema_at_end"]  # as tables were before it was a setting
    sidecar.write_text(json.dumps(older))
    longer = made(tmp_path / "parts.csv", 3, monkeypatch)
    whole = made(tmp_path / "whole.csv", 3, monkeypatch)
    assert longer[:2] == parts
    assert [{**row, "seconds": ""} for row in longer] == [{**row, "seconds": ""} for row in whole]
    assert len({tuple(row.values())[:5] for row in whole}) == 3
    assert all(0 <= float(row[name]) <= 1 for row in whole for name in CURVES)
    assert any(row["ema_loss_2"] != row["raw_loss_2"] for row in whole)
