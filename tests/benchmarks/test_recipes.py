"""The benchmark of recipes: runs are done once, and one file holds runs of one kind."""

import dataclasses
import json
from pathlib import Path

import pytest

import recipes
from nas.data.loading import load_dataset
from nas.runtime.devices import open_device
from nas.runtime.precision import Precision
from nas.search.request import SPLIT_SEED
from nas.training.plan import RunPlan


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


def test_a_run_that_was_cut_off_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ("--precision", "float32", "--epochs", "2", "--threads", "1")
    assert compare(tmp_path / "whole.jsonl", monkeypatch, *two) == 0
    assert not (tmp_path / "whole.pt").exists()
    assert "resumes" not in capsys.readouterr().err

    dataset = load_dataset("digits", Path("data"), split_seed=SPLIT_SEED, subset=0.1)
    device = open_device("cpu", 1)
    config = dataclasses.replace(
        recipes.variation("fast", dataset, device), epochs=2, precision=Precision.FLOAT32
    )
    design = recipes.design("B1:C4:P8")
    plan = RunPlan(architecture=design, dataset=dataset, config=config, seed=0)
    run = plan.begin(device)
    run.train_epoch()
    plan.checkpoint(tmp_path / "cut.pt", device).save(run, at_once=True)
    assert compare(tmp_path / "cut.jsonl", monkeypatch, *two) == 0
    assert "resumes after epoch 1" in capsys.readouterr().err
    whole, cut = (
        json.loads((tmp_path / f"{name}.jsonl").read_text(encoding="utf-8"))["accuracies"]
        for name in ("whole", "cut")
    )
    assert whole == cut
