"""docs/results.md and the CIFAR-10 results in this repository: figures are those of the files."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

import nas
from nas.architecture import PRESETS, ImageInput
from nas.counting import count
from nas.final.records import FinalDesign, FinalRecord
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome, StudyRecord
from nas.text import millions, percent, percent_range, points, times
from recipes import accuracy_on_test, design
from tests.kits.documents import blocks_of, tables
from tests.kits.places import ROOT, STUDIES

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
AT_RESNET20S_SIZE = "cifar10-resnet20-size"
NAMES = (
    "cifar10-100k-arduino",
    "cifar10-resnet20-cpu",
    "cifar10-resnet20-12-epochs",
    AT_RESNET20S_SIZE,
    "cifar10-80k-stm32l4r5",
    "cifar10-5M-700M",
    "cifar10-h200",
    "digits-example",
)
(ROWS,) = tables(PAGE)
(COMMANDS,) = blocks_of("text", PAGE)
ENTRIES = [entry.splitlines() for entry in COMMANDS.strip().split("\n\n")]
FOLDERS = ("--data-dir", "--studies-dir", "--reports-dir")


def study_of(name: str) -> StudyRecord:
    return read_study(StudyLocation.at(name, studies_dir=STUDIES))


def finals_of(study: StudyRecord) -> list[FinalRecord]:
    """Of each reading of the test images, oldest first."""
    return [FinalRecord.from_dict(reading.result) for reading in study.readings]


def final_of(study: StudyRecord) -> FinalRecord:
    return finals_of(study)[-1]


def row_of(study: str, name: str, final: FinalRecord) -> dict[str, str]:
    starts = (f"[`{study}`](../studies/{study}.db), {name}", f"`{study}`, `{name}`")
    day = final.read[:10]
    (row,) = (row for row in ROWS if row["what"].startswith(starts) and row["date"] == day)
    return row


def designs_tested(final: FinalRecord) -> Iterator[FinalDesign]:
    return (one for one in (*final.finalists, *final.references) if one.test is not None)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_what_is_in_the_studies(name: str) -> None:
    study = study_of(name)
    moments = [moment for t in study.trials for moment in (t.started, t.finished) if moment]
    searched = (max(moments) - min(moments)).total_seconds()
    for number, final in enumerate(finals_of(study), start=1):
        assert final.readings == number
        for tested in designs_tested(final):
            assert tested.test is not None
            row = row_of(name, tested.name, final)
            size = f": {tested.parameters:,} parameters, {millions(tested.mult_adds)} mult-adds, "
            assert size + f"`{tested.architecture.brief}`" in row["what"]
            assert row["seeds"] == str(len(final.seeds))
            assert row["mean"] == percent(tested.test.mean.value)
            assert row["95% interval"] == percent_range(tested.test.mean.low, tested.test.mean.high)
            read = row["test images, how often read"]
            assert read.startswith(f"{final.test_images:,}, {times(number)}")
            took = f"{searched:.0f} + {final.seconds:.0f}"
            seconds = row["seconds of search and training"]
            assert seconds == ("in the row above" if tested.is_reference else took)
            if tested.published is not None:
                reported = f"{percent(tested.published)}: {tested.source}"
                assert row["reported by others"].startswith(reported)
        for gain in final.gains:
            found = gain.architecture
            said = f"{points(found.value)} points (95% interval {points(found.low)} to "
            goal = row_of(name, final.chosen.name, final)["goal"]
            assert f"{said}{points(found.high)})" in goal
        for record in (record for record in final.int8 if record.file.endswith(".tflite")):
            assert record.test is not None
            accuracy = record.test.accuracy
            interval = percent_range(accuracy.low, accuracy.high)
            goal = row_of(name, final.chosen.name, final)["goal"]
            assert f"{percent(accuracy.value)} ({interval})" in goal


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_are_those_of_the_studies(name: str) -> None:
    study = study_of(name)
    for final in finals_of(study):
        commands = [without_folders(str(command)) for command in (study.command, final.command)]
        number, entry = next((i, e) for i, e in enumerate(ENTRIES, start=1) if e[1:] == commands)
        assert entry[0].startswith(f"# {number}: ")
        machine = ENTRIES[number - 2] if "the same machine" in entry[0] else entry
        measured = (t for t in study.trials if t.outcome is not Outcome.FAILED)
        for device in (*final.devices, *{str(t.device) for t in measured}):
            assert device.partition(" (")[0] in machine[0]  # without the number of threads
        for program in ("torch", "python"):
            assert f"{program} {final.versions[program]}" in machine[0].lower()
        for tested in designs_tested(final):
            row = row_of(name, tested.name, final)
            assert row["commands, machine, commit"] == f"[{number}](#commands)"


def without_folders(command: str) -> str:
    words = iter(shlex.split(command))
    return shlex.join(word for word in words if word not in FOLDERS or not next(words))


def runs_of_recipes() -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """What benchmarks/recipes.py wrote of runs with a test, by design, variation and epochs."""
    lines = (ROOT / "benchmarks" / "recipes.jsonl").read_text(encoding="utf-8").splitlines()
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for run in (run for run in map(json.loads, lines) if "test_right" in run):
        groups.setdefault((run["design"], run["variation"], run["epochs"]), []).append(run)
    return groups


@pytest.mark.parametrize(("key", "runs"), runs_of_recipes().items())
def test_the_table_has_the_runs_of_recipes(
    key: tuple[str, str, int], runs: list[dict[str, Any]]
) -> None:
    name, recipe, epochs = key
    architecture = design(name)
    start = f"`{name if name in PRESETS else architecture.brief}`, `{recipe}`, {epochs} epochs: "
    (row,) = (row for row in ROWS if row["what"].startswith(start))
    cost = count(architecture, ImageInput(channels=3, height=32, width=32, classes=10))
    assert f"{cost.parameters:,} parameters, {millions(cost.mult_adds)} mult-adds" in row["what"]
    test = accuracy_on_test(runs)
    assert test is not None
    assert row["mean"] == percent(test.value)
    assert row["95% interval"] == percent_range(test.low, test.high)
    assert row["seeds"] == str(len({run["seed"] for run in runs})) == str(len(runs))
    assert row["test images, how often read"] == f"{runs[0]['test_images']:,}, once per run"
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    assert row["seconds of search and training"] == f"{seconds:.0f} per run"
    (number,) = re.findall(r"\d+", row["commands, machine, commit"])
    said, command = ENTRIES[int(number) - 1]
    assert said.startswith(f"# {number}: ")
    options = dict(re.findall(r"--(\w+) ([^-]\S*)", command))
    assert (options["designs"], options["variations"]) == (name, recipe)
    assert (options["epochs"], options.get("seeds", "1")) == (str(epochs), row["seeds"])


def test_the_newest_results_are_first_and_all_are_from_files() -> None:
    dates = [row["date"] for row in ROWS]
    assert dates == sorted(dates, reverse=True)
    finals = [final for name in NAMES for final in finals_of(study_of(name))]
    tested = sum(len(list(designs_tested(final))) for final in finals)
    assert len(dates) == tested + len(runs_of_recipes())


def test_the_model_at_resnet20s_size_and_its_report_are_here() -> None:
    final = final_of(study_of(AT_RESNET20S_SIZE))
    model = nas.load(STUDIES / AT_RESNET20S_SIZE / "final")
    assert model.architecture == final.chosen.architecture
    page = (ROOT / "reports" / f"{AT_RESNET20S_SIZE}.html").read_text(encoding="utf-8")
    (gain,) = final.gains
    for said in (percent(final.exported.accuracy.value), points(gain.architecture.value)):
        assert said in page


def test_no_image_of_cifar10_is_here() -> None:
    """Its authors state no licence."""
    for name in (name for name in NAMES if name.startswith("cifar10")):
        assert not (STUDIES / name / "final" / "mistakes").exists()
        page = ROOT / "reports" / f"{name}.html"
        if page.exists():
            assert not re.search(r"<img|data:image/(?!svg)", page.read_text(encoding="utf-8"))


def test_what_is_kept_of_results_is_small() -> None:
    files = [
        path
        for name in NAMES
        for pattern in (f"studies/{name}.db", f"studies/{name}/final/*.*", f"reports/{name}.html")
        for path in ROOT.glob(pattern)
    ]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
