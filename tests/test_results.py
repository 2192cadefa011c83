"""docs/results.md and the CIFAR-10 results in this repository: figures are those of the files."""

import re
import shlex
from collections.abc import Iterator

import pytest

import nas
from nas.final.records import FinalDesign, FinalRecord
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.text import millions, percent, percent_range, points
from tests.kits.documents import blocks_of, tables
from tests.kits.places import ROOT, STUDIES

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
AT_RESNET20S_SIZE = "cifar10-resnet20-size"
NAMES = (
    "cifar10-80k-stm32l4r5",
    "cifar10-5M-700M",
    AT_RESNET20S_SIZE,
    "cifar10-h200",
    "digits-example",
)
(ROWS,) = tables(PAGE)
FOLDERS = ("--data-dir", "--studies-dir", "--reports-dir")


def study_of(name: str) -> StudyRecord:
    return read_study(StudyLocation.at(name, studies_dir=STUDIES))


def final_of(study: StudyRecord) -> FinalRecord:
    (reading,) = study.readings
    return FinalRecord.from_dict(reading.result)


def row_of(study: str, design: str) -> dict[str, str]:
    starts = (f"[`{study}`](../studies/{study}.db), {design}", f"`{study}`, `{design}`")
    (row,) = (row for row in ROWS if row["what"].startswith(starts))
    return row


def designs_tested(final: FinalRecord) -> Iterator[FinalDesign]:
    return (one for one in (*final.finalists, *final.references) if one.test is not None)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_what_is_in_the_studies(name: str) -> None:
    study = study_of(name)
    final = final_of(study)
    times = [time for t in study.trials for time in (t.started, t.finished) if time is not None]
    searched = (max(times) - min(times)).total_seconds()
    for design in designs_tested(final):
        assert design.test is not None
        row = row_of(name, design.name)
        size = f": {design.parameters:,} parameters, {millions(design.mult_adds)} mult-adds, "
        assert size + f"`{design.architecture.brief}`" in row["what"]
        assert row["date"] == final.read[:10]
        assert row["seeds"] == str(len(final.seeds))
        assert row["mean"] == percent(design.test.mean.value)
        assert row["95% interval"] == percent_range(design.test.mean.low, design.test.mean.high)
        assert final.readings == 1
        assert row["test images, how often read"].startswith(f"{final.test_images:,}, once")
        took = f"{searched:.0f} + {final.seconds:.0f}"
        seconds = row["seconds of search and training"]
        assert seconds == ("in the row above" if design.is_reference else took)
        if design.published is not None:
            reported = f"{percent(design.published)}: {design.source}"
            assert row["reported by others"].startswith(reported)
    for gain in final.gains:
        found = gain.architecture
        said = f"{points(found.value)} points (95% interval {points(found.low)} to "
        assert f"{said}{points(found.high)})" in row_of(name, final.chosen.name)["goal"]


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_are_those_of_the_studies(name: str) -> None:
    study = study_of(name)
    final = final_of(study)
    (shown,) = blocks_of("text", PAGE)
    entries = [entry.splitlines() for entry in shown.strip().split("\n\n")]
    commands = [without_folders(str(command)) for command in (study.command, final.command)]
    number, entry = next((i, e) for i, e in enumerate(entries, start=1) if e[1:] == commands)
    assert entry[0].startswith(f"# {number}: ")
    machine = entries[number - 2] if "the same machine" in entry[0] else entry
    for device in (*final.devices, *{str(t.device) for t in study.trials}):
        assert device.partition(" (")[0] in machine[0]  # without the number of threads
    for program in ("torch", "python"):
        assert f"{program} {final.versions[program]}" in machine[0].lower()
    for design in designs_tested(final):
        assert row_of(name, design.name)["commands, machine, commit"] == f"[{number}](#commands)"


def without_folders(command: str) -> str:
    words = iter(shlex.split(command))
    return shlex.join(word for word in words if word not in FOLDERS or not next(words))


def test_the_newest_results_are_first_and_all_are_from_studies() -> None:
    dates = [row["date"] for row in ROWS]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == sum(len(list(designs_tested(final_of(study_of(name))))) for name in NAMES)


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
