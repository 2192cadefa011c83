"""The README's commands and files do what it says, on the bundled digits."""

import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import optuna
import pytest

import nas
from nas.architecture import ImageInput
from nas.final.records import FinalRecord
from nas.space import load_space
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome
from tests.kits import warm
from tests.kits.documents import blocks_of
from tests.kits.places import ROOT, STUDIES
from tests.kits.waiting import PATIENCE

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every ``python -m nas.…`` of the README, in order."""
    lines = "\n".join(blocks_of("sh", README)).replace("&&", "\n").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python -m nas.")]


def test_the_example_is_what_the_readme_shows() -> None:
    location = StudyLocation.at("digits-example", studies_dir=STUDIES)
    study = read_study(location)
    shown = re.findall(r"^ +\d+ +(\d+)  (B.*?) {2,}([\d,]+) .* ([\d.]+)%$", README, re.MULTILINE)
    assert shown == [
        (str(t.number), str(t.architecture), f"{t.parameters:,}", f"{100 * t.val_accuracy:.2f}")
        for t in study.ranking[:10]
        if t.val_accuracy is not None
    ]
    (reading,) = study.readings
    final = FinalRecord.from_dict(reading.result)
    model = nas.load(STUDIES / "digits-example" / "final")
    assert model.architecture == final.chosen.architecture
    page = (ROOT / "reports" / "digits-example.html").read_text(encoding="utf-8")
    for accuracy in (study.ranking[0].val_accuracy, final.exported.accuracy.value):
        assert f"{accuracy:.2%}" in README
        assert f"{accuracy:.2%}" in page


def test_the_search_on_a_gpu_is_what_the_readme_says() -> None:
    study = read_study(StudyLocation.at("cifar10-h200", studies_dir=STUDIES))
    (reading,) = study.readings
    final = FinalRecord.from_dict(reading.result)
    tested, (baseline,) = final.exported.accuracy, final.references
    assert baseline.name == "flexres22-2"
    assert baseline.test is not None
    for shown in (
        f"{study.outcomes[Outcome.TRAINED]} designs trained to the end",
        f"**{tested.value:.2%}**",
        f"(95% interval {tested.low:.2%} to {tested.high:.2%})",
        f"{final.chosen.name} with {final.chosen.parameters:,} parameters",
        f"{baseline.test.mean.value:.2%} in the same training",
    ):
        assert shown in README.replace("\n", " ")


def run(command: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *shlex.split(command)[1:]]
    return warm.run(words, cwd=directory, text=True, timeout=PATIENCE)


def test_the_two_commands_are_there() -> None:
    assert "pip install -e . && python -m nas.search --budget 5e6 --trials 50" in README
    assert "pip install -e '.[test]' && pytest" in README


@pytest.mark.slow
def test_the_commands_do_what_the_readme_says(tmp_path: Path) -> None:
    search, count, count_fields, more, report, dashboard, train, final = commands()
    # Two epochs of a quarter of the images instead of 18 of all: the example is tested above.
    on_digits = f"{search} --dataset digits --epochs 2 --subset 0.25"
    first = run(on_digits, tmp_path)
    assert first.returncode == 0, first.stderr
    study = optuna.load_study(
        study_name="digits-5M", storage=f"sqlite:///{tmp_path}/studies/digits-5M.db"
    )
    trained = [t for t in study.trials if t.user_attrs["outcome"] in ("trained", "stopped_early")]
    assert len(trained) == len({t.user_attrs["key"] for t in trained}) == 50
    assert all(t.user_attrs["parameters"] <= 5_000_000 for t in trained)
    assert study.best_value >= 0.5

    again = run(f"{on_digits} --json", tmp_path)
    assert json.loads(again.stdout)["newly_trained"] == 0
    longer = run(f"{more} --epochs 2 --json", tmp_path)
    document = json.loads(longer.stdout)
    assert (document["trained"], document["newly_trained"]) == (60, 10)

    counted = run(count, tmp_path)
    assert counted.returncode == 0
    assert any(block.strip() in counted.stdout for block in blocks_of("text", README))
    assert "parameters  4,977,226" in run(count_fields, tmp_path).stdout
    assert run(report, tmp_path).stdout == "reports/digits-5M.html\n"
    check_dashboard(dashboard, tmp_path)
    trained_again = run(train, tmp_path)
    assert trained_again.returncode == 0, trained_again.stderr
    assert "best    " in trained_again.stdout
    in_short = run(f"{final} --top 1 --seeds 1 --epochs 1", tmp_path)
    assert in_short.returncode == 0, in_short.stderr
    assert "test    images read once in this study" in in_short.stdout
    assert "next    python -m nas.predict studies/digits-5M/final IMAGE..." in in_short.stdout


def check_dashboard(command: str, directory: Path) -> None:
    words = [sys.executable, *shlex.split(command)[1:]]
    process = warm.Popen[str](words, cwd=directory, text=True, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split()[0]
        assert re.match(r"http://127\.0\.0\.1:\d+/dashboard/studies/", address)
        with urllib.request.urlopen(address, timeout=PATIENCE) as page:
            assert b"Optuna Dashboard" in page.read()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


def test_the_example_space_can_be_used(tmp_path: Path) -> None:
    (example,) = blocks_of("toml", README)
    path = tmp_path / "space.toml"
    path.write_text(example)
    space = load_space(path, ImageInput(channels=3, height=32, width=32, classes=10))
    assert space.kernels == ((5,), (3, 5), (3,), (3,))
    assert space.stages == (3, 4)


@pytest.mark.slow
def test_the_example_program_runs(tmp_path: Path) -> None:
    (example,) = blocks_of("python", README)
    done = warm.run([sys.executable, "-c", example], cwd=tmp_path, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"B[\d,]+ C[\d,]+ F[\d,]+ K[\d,]+ P\d+ 0\.\d+ \d+\nEstimate\(.*\)\n", done.stdout
    )
    assert "Final training" in (tmp_path / "reports/from-python.html").read_text()
    assert (tmp_path / "studies/from-python/final/model.onnx").is_file()
