"""The benchmark of recipes: runs are done once, and one file holds runs of one kind."""

import json
from pathlib import Path

import pytest

import recipes


def compare(out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    words = "--dataset digits --subset 0.1 --epochs 1 --device cpu --designs B1:C4:P8"
    given = [*words.split(), "--variations", "fast", "--out", str(out), *more]
    monkeypatch.setattr("sys.argv", ["recipes.py", *given])
    return recipes.main()


def test_runs_are_done_once_and_not_mixed_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs.jsonl"
    assert compare(out, monkeypatch, "--precision", "float32") == 0
    lines = out.read_text(encoding="utf-8")
    (run,) = map(json.loads, lines.splitlines())
    assert run["recipe"]["precision"] == "float32"
    first = capsys.readouterr().out
    assert compare(out, monkeypatch, "--precision", "float32") == 0
    assert capsys.readouterr().out == first
    for more in (("--precision", "bfloat16"), ("--precision", "float32", "--test")):
        with pytest.raises(SystemExit) as refused:
            compare(out, monkeypatch, *more)
        assert refused.value.code == 2
        assert "choose another --out" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == lines
