"""README and docs: their commands and files do what they say, on the bundled digits."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest

import nas
from nas.architecture import ImageInput
from nas.commands import main
from nas.final.records import FinalDesign, FinalRecord
from nas.space import load_space
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.text import duration, millions, points
from tests.kits import warm
from tests.kits.documents import blocks_of, tables
from tests.kits.places import ROOT, STUDIES
from tests.kits.waiting import PATIENCE

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
PAGES = {"README.md": README, **{f"docs/{name}": page for name, page in DOCS.items()}}


def commands(page: str) -> list[str]:
    """Every ``python -m nas.…`` that a page shows to be run, in order."""
    lines = "\n".join(blocks_of("sh", page)).replace("&&", "\n").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python -m nas.")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120
    prose = re.sub(r"^```.*?^```$|^\|.*?$", "", README, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n|\n[-*] ", prose):
        assert len(paragraph.split()) <= 60, paragraph


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, part = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), target


def test_make_has_the_checks_of_ci_and_the_commands_that_there_are() -> None:
    targets: dict[str, list[str]] = {}
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if line.startswith("\t"):
            targets[next(reversed(targets))].append(line.strip())
        elif re.match(r"\w+:", line):
            targets[line.partition(":")[0]] = []
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert set(targets["check"]) <= set(ci)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f"| `make {target}` |" in contributing for target in targets)
    for command in (command for recipe in targets.values() for command in recipe):
        program, *words = command.split()
        assert program in ("ruff", "mypy", "pytest", "python"), command
        if program == "python":
            assert find_spec(words[1]) is not None, command


def in_words(design: FinalDesign) -> tuple[str, str]:
    """The accuracy and the size of a tested design, as README's table has them."""
    assert design.test is not None
    mean, mult_adds = design.test.mean, millions(design.mult_adds)
    size = f"{design.parameters:,} parameters, {mult_adds} mult-adds"
    return f"{mean.value:.2%} ({mean.low:.2%} to {mean.high:.2%})", size


@pytest.mark.parametrize(
    "name",
    [
        "cifar10-h200",
        "cifar10-resnet20-cpu",
        "cifar10-100k-arduino",
        "cifar10-80k-stm32l4r5",
        "cifar10-5M-700M",
        "digits-example",
    ],
)
def test_what_comes_out_is_what_the_studies_say(name: str) -> None:
    (row,) = (
        row
        for rows in tables(README)
        for row in rows
        if f"(studies/{name}.db)" in row.get("search", "")
    )
    study = read_study(StudyLocation.at(name, studies_dir=STUDIES))
    final = FinalRecord.from_dict(study.readings[-1].result)
    limits = study.settings.limits
    assert f"at most {limits.max_parameters:,} parameters" in row["search"]
    if limits.max_mult_adds:
        assert f" and {limits.max_mult_adds / 1e6:.0f} M mult-adds" in row["search"]
    times = [time for t in study.trials for time in (t.started, t.finished) if time is not None]
    assert row["its runs"] == (
        f"{study.settings.epochs} epochs: {study.outcomes[Outcome.TRAINED]} trained to the end, "
        f"{study.outcomes[Outcome.STOPPED_EARLY]} stopped early; "
        f"{duration((max(times) - min(times)).total_seconds())}"
    )
    assert f"{final.test_images:,}" in README
    accuracy, size = in_words(final.chosen)
    seeds = "one seed" if len(final.seeds) == 1 else f"{len(final.seeds)} seeds"
    found = f"{accuracy}, {seeds}, {final.recipe['epochs']} epochs; {size}"
    assert row["network found"].replace("**", "") == found
    known = [(d.name, *in_words(d)) for d in final.references]
    if known:
        said = ". ".join(f"`{name}`: {accuracy}; {size}" for name, accuracy, size in known)
        assert row["made by hand, trained alike"].replace("**", "") == said
    for gain in final.gains:
        assert re.search(rf"{re.escape(points(gain.architecture.value))}[ ,]", README)
    if name == "cifar10-h200":
        one, other = (final.chosen.mult_adds / d.mult_adds for d in final.references)
        assert f"{one:.1f} and {other:.1f} times the mult-adds" in re.sub(r"\s+", " ", README)


def test_gains_of_other_searches_are_those_of_the_studies() -> None:
    gains = []
    for name in ("cifar10-resnet20-12-epochs", "cifar10-resnet20-size"):
        study = read_study(StudyLocation.at(name, studies_dir=STUDIES))
        (gain,) = FinalRecord.from_dict(study.readings[-1].result).gains
        gains.append(points(gain.architecture.value))
    assert f" {' and '.join(gains)} in earlier searches at" in README


def test_the_example_is_what_the_readme_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(StudyLocation.at("digits-example", studies_dir=STUDIES))
    (reading,) = study.readings
    final = FinalRecord.from_dict(reading.result)
    model = nas.load(STUDIES / "digits-example" / "final")
    assert model.architecture == final.chosen.architecture
    page = (ROOT / "reports" / "digits-example.html").read_text(encoding="utf-8")
    assert f"{final.exported.accuracy.value:.2%}" in page
    shutil.copytree(STUDIES, tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--study", "digits-example", "--workers", "1"]) == 0  # nothing is left
    printed = capsys.readouterr().out
    (shown,) = (block for block in blocks_of("text", README) if block.startswith("rank"))
    for part in shown.strip().split("\n\n"):
        assert part in printed
    (final_again,) = commands(DOCS["final.md"])  # it has been done, and prints its result
    assert main(shlex.split(final_again.replace("python -m nas.", ""))) == 0
    assert capsys.readouterr().out in blocks_of("text", DOCS["final.md"])


def run(command: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *shlex.split(command)[1:]]
    return warm.run(words, cwd=directory, text=True, timeout=PATIENCE)


def test_the_two_commands_are_there() -> None:
    assert "pip install -e . && python -m nas.search --budget 5e6 --trials 50" in README
    assert "pip install -e '.[test]' && pytest" in README


@pytest.mark.slow
def test_the_commands_do_what_readme_and_docs_say(tmp_path: Path) -> None:
    (search,) = commands(README)
    count, count_fields = commands(DOCS["counting.md"])
    (more,) = commands(DOCS["search.md"])
    report, dashboard = commands(DOCS["report.md"])
    (train,) = commands(DOCS["training.md"])
    (final,) = commands(DOCS["final.md"])
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
    shown = blocks_of("text", DOCS["counting.md"])
    assert any(block.strip() in counted.stdout for block in shown)
    assert "parameters   4,977,226" in run(count_fields, tmp_path).stdout
    assert run(report, tmp_path).stdout == "reports/digits-5M.html\n"
    check_dashboard(dashboard, tmp_path)
    trained_again = run(train, tmp_path)
    assert trained_again.returncode == 0, trained_again.stderr
    assert "best    " in trained_again.stdout
    final = final.replace("digits-example", "digits-5M")
    in_short = run(f"{final} --top 1 --seeds 1 --epochs 1", tmp_path)
    assert in_short.returncode == 0, in_short.stderr
    assert "test    images read once in this study" in in_short.stdout
    assert "next    python -m nas.predict studies/digits-5M/final IMAGE..." in in_short.stdout


def check_dashboard(command: str, directory: Path) -> None:
    words = [sys.executable, *shlex.split(command)[1:]]
    process = warm.Popen[str](words, cwd=directory, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.match(r"http://127\.0\.0\.1:\d+/report/", address)
        with urllib.request.urlopen(address, timeout=PATIENCE) as page:
            assert b"in Optuna Dashboard</a>" in page.read()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


def test_the_example_space_can_be_used(tmp_path: Path) -> None:
    (example,) = blocks_of("toml", DOCS["search.md"])
    path = tmp_path / "space.toml"
    path.write_text(example)
    space = load_space(path, ImageInput(channels=3, height=32, width=32, classes=10))
    assert space.kernels == ((5,), (3, 5), (3,), (3,))
    assert space.stages == (3, 4)


@pytest.mark.slow
def test_the_example_program_runs(tmp_path: Path) -> None:
    (example,) = blocks_of("python", DOCS["python.md"])
    done = warm.run([sys.executable, "-c", example], cwd=tmp_path, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"B[\d,]+ C[\d,]+ F[\d,]+ K[\d,]+ P\d+ 0\.\d+ \d+\nEstimate\(.*\)\n", done.stdout
    )
    assert "Final training" in (tmp_path / "reports/from-python.html").read_text()
    assert (tmp_path / "studies/from-python/final/model.onnx").is_file()
