"""`nas final --teacher`: the chosen design once more, from a teacher."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from nas.architecture import Architecture
from nas.commands import main
from nas.errors import RequestError
from nas.final import distilling, words
from nas.final.choosing import ranked
from nas.final.events import DesignChosen
from nas.final.final import FinalFailed, run_final
from nas.final.records import FinalDesign, FinalRecord
from nas.final.request import ALL
from nas.final.runs import RunEnded, RunEpochEnded, RunStarted
from nas.report.page import render
from nas.runtime.precision import Precision
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.training.loop import Run
from nas.training.plan import RunPlan
from tests.kits.commands import error_line
from tests.kits.events import each, on
from tests.kits.finals import STUDY, fast_before, request_of
from tests.kits.records import final_record

ENSEMBLE = {"top": 1, "teacher": "ensemble"}


def location() -> StudyLocation:
    return StudyLocation.at(STUDY, studies_dir=Path("studies"))


def known(architecture: Architecture | None) -> Architecture:
    assert architecture is not None
    return architecture


def pair(record: FinalRecord) -> tuple[FinalDesign, FinalDesign]:
    """The design without a teacher and with one."""
    by_name = {design.name: design for design in record.finalists}
    (name,) = (name for name in by_name if name.endswith(" distilled"))
    return by_name[name.removesuffix(" distilled")], by_name[name]


@pytest.fixture
def distilled_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the distilled design were surely the best, whatever a moment's training gives."""

    def first(*arguments: object) -> list[FinalDesign]:
        found = ranked(*arguments)  # type: ignore[arg-type]
        if not any(design.distilled for design in found):
            return found
        found.sort(key=lambda design: design.distilled is None)
        return [dataclasses.replace(d, may_be_best=d.distilled is not None) for d in found]

    monkeypatch.setattr("nas.final.final.ranked", first)


def test_the_better_of_both_is_chosen_before_the_one_reading(
    folder: Path, readings: list[str]
) -> None:
    ended: list[str] = []
    read_before: list[int] = []
    listen = each(
        on(RunEnded, lambda event: ended.append(event.run.name)),
        on(DesignChosen, lambda event: read_before.append(len(readings))),
    )
    result = run_final(request_of(**ENSEMBLE), listen)
    plain, distilled = pair(result.record)
    assert ended == [plain.name] * 2 + [distilled.name] * 2
    assert (read_before, readings) == ([0], ["digits"])
    assert plain.distilled is None
    assert (plain.architecture, plain.trial) == (distilled.architecture, distilled.trial)
    assert plain.validation is not None
    assert distilled.validation is not None
    assert distilled.distilled is not None
    assert distilled.distilled.teacher == f"2 networks of {plain.name}"
    assert distilled.distilled.gain is not None
    gain = distilled.validation.mean.value - plain.validation.mean.value
    assert distilled.distilled.gain.value == pytest.approx(gain)
    assert (result.record.chosen is distilled) == (gain > 0)
    assert [d.test is not None for d in result.record.finalists] == [True, False]


def test_a_distilled_network_says_so_everywhere(
    folder: Path,
    distilled_wins: None,
    readings: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--recipe", "fast", "--epochs", "2", "--subset", "0.2", "--top", "1"]
    assert main(["final", "--study", STUDY, *options, "--teacher", "ensemble"]) == 0
    printed = capsys.readouterr().out
    folder = Path("studies", STUDY, "final")
    record = FinalRecord.from_dict(json.loads((folder / "metrics.json").read_text()))
    assert record.chosen.name.endswith(" distilled")
    said = f"{record.chosen.name} learned from 3 networks of trial {record.chosen.trial}"
    assert f"teacher {said}" in printed
    assert f"{record.chosen.name}, chosen:" in printed
    card = (folder / "README.md").read_text()
    page = render(read_study(location()), final_folder=folder)
    for text in (printed, card, page):  # one statistic of the two, the gain with its interval
        assert said in text
        assert "No other design of the search was trained in full." in text
        assert "with 95% confidence" not in text
    assert "the same design, " in page

    # Its files can be lost and are made again, without a look at test images: also in a version
    # where the recipe's name means another recipe.
    monkeypatch.setattr("nas.final.workers.RECIPES", {"fast": fast_before})
    model = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    assert main(["final", "--study", STUDY, *options, "--teacher", "ensemble"]) == 0
    assert (folder / "model.safetensors").read_bytes() == model
    assert readings == ["digits"]


def test_how_sure_the_choice_is_says_nothing_of_one_design_with_and_without_a_teacher() -> None:
    (plain,) = final_record().finalists
    distilled = dataclasses.replace(plain, name="trial 4 distilled", may_be_best=True)
    other = dataclasses.replace(plain, name="trial 7", trial=7)
    for seventh_too, said in (
        (False, "The other designs trained in full are worse with 95% confidence."),
        (True, "Whether trial 4 distilled is better than trial 7 is open at 95% confidence."),
    ):
        for plain_too in (False, True):
            finalists = (
                distilled,
                dataclasses.replace(plain, may_be_best=plain_too),
                dataclasses.replace(other, may_be_best=seventh_too),
            )
            assert words.choice(final_record(finalists=finalists)) == said


def test_another_teacher_is_another_final_training(folder: Path) -> None:
    plain = request_of()
    digest = plain.digest(
        ["B1 C4 F3 K1 P4"], images="0123", precision=Precision.FLOAT32, drop_duplicates=False
    )
    assert digest == "35d3ea9100f9c95c"  # of earlier versions
    run_final(request_of(top=1))
    trained: list[str] = []
    listen = on(RunEnded, lambda event: trained.append(event.run.name))
    for teacher in ("ensemble", "larger"):
        with pytest.raises(StudyError, match=r"which the report will state: --again$"):
            run_final(request_of(top=1, teacher=teacher))
        trained.clear()
        result = run_final(request_of(top=1, teacher=teacher, again=True), listen)
        plain_name = pair(result.record)[0].name
        more = [] if teacher == "ensemble" else [f"teacher {plain_name} widened"]
        assert trained == more + [f"{plain_name} distilled"] * 2  # the runs without one are done


def test_references_learn_from_the_same_teacher(
    folder: Path, distilled_wins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(location())
    other = study.ranking[-1].architecture  # no known design fits images of 8x8 pixels
    presets = {"resnet20": other, "resnet18": distilling.widened(known(other))}
    for module in ("request", "choosing", "distilling"):
        monkeypatch.setattr(f"nas.final.{module}.PRESETS", presets)
    request = request_of(top=1, seeds=1, baselines=("resnet20",), teacher="resnet18", on=ALL)
    taught: dict[str, set[str]] = {}

    def listen(event: RunEnded) -> None:
        names = {run.name for run in event.run.teacher}
        taught.setdefault(event.run.name, set()).update(names)

    record = run_final(request, on(RunEnded, listen)).record
    plain, distilled = pair(record)
    assert record.chosen is distilled
    assert [d.name for d in record.references] == ["resnet20", "resnet20 distilled"]
    assert all(d.test for d in record.references)
    assert [gain.reference for gain in record.gains] == ["resnet20 distilled"]
    teacher = {"teacher resnet18"}
    assert taught == {
        plain.name: set(),
        "teacher resnet18": set(),
        distilled.name: teacher,
        "resnet20": set(),
        "resnet20 distilled": teacher,
    }


def test_cut_off_it_goes_on_with_the_same_teacher(folder: Path) -> None:
    request = request_of(**ENSEMBLE, epochs=3)
    shutil.copytree("studies", "others")

    def cut_off(event: RunEpochEnded) -> None:
        if event.run.teacher and (event.run.seed, event.result.epoch) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_final(request, on(RunEpochEnded, cut_off))
    told: list[tuple[bool, int, int]] = []

    def listen(event: RunStarted) -> None:
        told.append((bool(event.run.teacher), event.run.seed, event.epochs_done))

    continued = run_final(request, on(RunStarted, listen))
    assert told == [(True, 2, 2)]
    whole = run_final(dataclasses.replace(request, studies_dir=Path("others")))
    assert continued.record.finalists == whole.record.finalists
    assert continued.record.exported == whole.record.exported


def test_with_workers_it_gives_the_same(folder: Path) -> None:
    shutil.copytree("studies", "others")
    alone = run_final(request_of(**ENSEMBLE))
    others = Path("others")
    ended = []
    shared = run_final(
        request_of(**ENSEMBLE, workers=2, threads=1, studies_dir=others),
        on(RunEnded, lambda event: ended.append(event.run)),
    )
    assert len(ended) == len(set(ended)) == 4  # of the design, and of the same from its teacher
    assert pair(shared.record)[1].distilled is not None
    assert pair(shared.record) == pair(alone.record)


def test_damaged_weights_of_a_teacher_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def before_students(event: RunStarted) -> None:
        if event.run.teacher:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_final(request_of(**ENSEMBLE), on(RunStarted, before_students))
    path = next(Path().glob("studies/*/final/runs/*-seed2-*/weights.pt"))
    path.write_bytes(path.read_bytes()[:-100])
    options = ["--recipe", "fast", "--epochs", "2", "--subset", "0.2", "--seeds", "2", "--top", "1"]
    status = main(["final", "--study", STUDY, *options, "--teacher", "ensemble"])
    assert "weights.pt: expected the weights of a finished run" in error_line(capsys, status)
    assert read_study(location()).readings == ()


def test_a_teacher_that_fails_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = RunPlan.begin
    study = read_study(location())
    large = distilling.widened(known(study.ranking[0].architecture))

    def begin_if_it_fits(plan: RunPlan, device: torch.device) -> Run:
        if plan.architecture == large:
            raise MemoryError
        return begin(plan, device)

    monkeypatch.setattr(RunPlan, "begin", begin_if_it_fits)
    with pytest.raises(FinalFailed, match=r"^teacher trial \d+ widened failed: out of memory on"):
        run_final(request_of(top=1, teacher="larger"))
    assert read_study(location()).readings == ()


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("resnet18", r"--teacher: expected designs that can read 1x8x8, 10 classes, got resnet18"),
        ("ensembel", r"teacher must be .*did you mean ensemble"),
    ],
)
def test_a_teacher_that_cannot_be(teacher: str, said: str, folder: Path) -> None:
    with pytest.raises(RequestError, match=said):
        run_final(request_of(teacher=teacher))
