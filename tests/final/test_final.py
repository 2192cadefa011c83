"""`nas final`: from a study to one tested network."""

import dataclasses
import io
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from rich.console import Console

import nas
from nas.architecture import PRESETS
from nas.commands import main
from nas.commands.final_progress import FinalProgress
from nas.data.loading import load_dataset, load_test
from nas.errors import RequestError
from nas.final.choosing import designs_of, entries_of, left_out, ranked, seeds_of
from nas.final.events import DesignChosen, Event, Opened, ReadingTestImages
from nas.final.final import FinalFailed, FinalResult, run_final
from nas.final.records import BY_EXPECTATION, BY_SCORE, FinalRecord
from nas.final.request import ALL, TRAIN, FinalRequest
from nas.final.runs import Run, RunResult, RunStarted
from nas.report.page import render
from nas.runtime.precision import Precision
from nas.search.events import Loading
from nas.space import Limits
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.study.settings import settings_from_json, settings_to_json
from nas.training.checkpoint import load_checkpoint
from nas.training.loop import Run as TrainingRun
from nas.training.plan import RunPlan
from tests.kits import warm
from tests.kits.commands import error_line
from tests.kits.events import each, on
from tests.kits.finals import STUDY, fast_before, request_of
from tests.kits.records import final_record, study_of_widths, trial
from tests.kits.studies import TINY_SPACE
from tests.kits.training import channels_first
from tests.kits.waiting import PATIENCE, wait_until
from tests.kits.writers import killed_writer, living_writer, unfinished

FAST = ["final", "--study", STUDY, "--recipe", "fast", "--epochs", "2", "--subset", "0.2"]


def stored() -> FinalRecord:
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    return FinalRecord.from_dict(study.readings[-1].result)


def test_trains_chooses_tests_once_and_exports(folder: Path, readings: list[str]) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        match event:
            case DesignChosen():
                told.append(f"chosen, {len(readings)} read")
            case ReadingTestImages(images):
                told.append(f"testing {images}")

    result = run_final(request_of(), listen, command="nas final ...")
    record = result.record
    assert told == ["chosen, 0 read", "testing 359"]
    assert readings == ["digits"]
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    assert {d.trial for d in record.finalists} == {t.number for t in study.ranking[:2]}
    assert record.seeds == (1, 2)  # the search used 0
    means = [d.validation.mean.value for d in record.finalists if d.validation]
    assert means == sorted(means, reverse=True)
    assert [d.test is not None for d in record.finalists] == [True, False]
    assert stored() == record  # through the database
    (reading,) = study.readings
    assert (reading.command, bool(reading.ended)) == ("nas final ...", True)
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert FinalRecord.from_dict(metrics) == record

    # The numbers are those of the exported network, measured anew.
    model = nas.load(result.folder)
    dataset = load_dataset("digits", Path("data"))
    images = load_test("digits", Path("data")).images
    predicted = model.logits(channels_first(images.pixels_NHWC)).argmax(dim=1)
    right = predicted == images.labels_N
    exported = record.exported
    assert exported.accuracy.value == pytest.approx(right.float().mean().item())
    assert record.chosen.test is not None
    assert exported.accuracy.value in record.chosen.test.accuracies
    assert sum(c.images for c in exported.per_class) == 359
    confusion = np.array(exported.confusion)
    assert confusion.sum() == 359
    assert np.trace(confusion) == right.sum()
    assert [c.correct for c in exported.per_class] == np.diag(confusion).tolist()
    validation = (
        (
            model.logits(channels_first(dataset.validation.pixels_NHWC)).argmax(1)
            == dataset.validation.labels_N
        )
        .float()
        .mean()
        .item()
    )
    assert record.chosen.validation is not None
    assert validation == pytest.approx(max(record.chosen.validation.accuracies))
    assert len(exported.mistakes) == min(24, int((~right).sum()))
    for mistake in exported.mistakes:
        assert mistake.label != mistake.predicted
        assert (result.folder / mistake.file).is_file()
    card = (result.folder / "README.md").read_text()
    assert f"**Test accuracy {exported.accuracy.value:.2%}**" in card
    assert "test images were read once" in card


def test_the_same_again_stands_and_another_choice_is_refused(
    folder: Path, readings: list[str]
) -> None:
    first = run_final(request_of())
    again = run_final(request_of())
    assert (again.record, again.tested_now) == (first.record, False)
    with pytest.raises(
        StudyError, match=r"got one that read them once, .*, which the report will state: --again$"
    ):
        run_final(request_of(top=1))
    assert readings == ["digits"]
    assert "were read once" in report()
    more = run_final(request_of(top=1, again=True))
    assert (more.record.readings, len(readings)) == (2, 2)
    assert "were read twice" in report()
    assert "test images were read twice" in (more.folder / "README.md").read_text()
    before = run_final(request_of())  # its result stands, too, and so does its model
    assert (before.record, len(readings)) == (first.record, 2)
    assert "test images were read once" in (before.folder / "README.md").read_text()


def report() -> str:
    page = render(read_study(StudyLocation.at(STUDY, studies_dir=Path("studies"))))
    return re.sub(r"<[^>]*>", " ", page[page.index("Final training") :])


def test_searching_training_and_reporting_read_no_test_image(
    folder: Path, readings: list[str]
) -> None:
    search = ["--budget", "5M", "--dataset", "digits", "--space", "tiny.toml"]
    settings = ["--epochs", "1", "--subset", "0.2", "--trials", "5", "--pruner", "none"]
    assert main(["search", *search, *settings]) == 0
    assert main(["train", "--study", STUDY, "--epochs", "1"]) == 0
    assert main(["report", "--study", STUDY]) == 0
    assert readings == []


def test_a_cut_off_reading_counts_and_is_gone_on_with(
    folder: Path, readings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerFailure(Exception):
        pass

    def fails(*arguments: object, **named: object) -> None:
        raise PowerFailure

    with monkeypatch.context() as patch:
        patch.setattr("nas.final.folder.write_model", fails)
        with pytest.raises(PowerFailure):
            run_final(request_of())
    assert "were read once" in report()
    assert "cut off" in report()
    with pytest.raises(StudyError, match="read them once"):
        run_final(request_of(seeds=1))
    record = run_final(request_of()).record
    assert record.readings == 1  # the same networks, the same reading
    assert len(readings) == 2


def test_a_model_that_is_gone_or_another_is_exported_again_without_a_reading(
    folder: Path, readings: list[str]
) -> None:
    first = run_final(request_of())
    before = weights(first)
    for name in ("model.safetensors", "model.onnx", "README.md"):
        (first.folder / name).unlink()
    again = run_final(request_of())
    assert (again.record, weights(again), len(readings)) == (first.record, before, 1)
    assert nas.load(again.folder).architecture == first.record.chosen.architecture
    assert (again.folder / "model.onnx").is_file()
    other = f"sqlite:///{copied(folder)}/{STUDY}.db"  # the same folder of files
    run_final(request_of(top=3, seeds=1, storage=other))
    assert run_final(request_of()).record == first.record
    assert json.loads((first.folder / "metrics.json").read_text())["seeds"] == [1, 2]
    shutil.rmtree(first.folder)
    with pytest.raises(RequestError, match=r"weights\.pt: expected the weights of a finished run"):
        run_final(request_of())
    assert len(readings) == 2


def test_one_process_at_a_time_makes_a_model_again(folder: Path) -> None:
    first = run_final(request_of(top=1, seeds=1))
    (first.folder / "model.onnx").unlink()
    seen: list[bool] = []

    def look(event: Loading) -> None:
        with pytest.raises(Timeout):
            FileLock(first.folder / ".lock").acquire(timeout=0)
        seen.append(True)

    assert run_final(request_of(top=1, seeds=1), on(Loading, look)).record == first.record
    assert seen == [True]
    shutil.rmtree(first.folder)
    with pytest.raises(RequestError, match="weights"):
        run_final(request_of(top=1, seeds=1))
    assert not first.folder.exists()


def test_runs_that_another_process_trains_end_here_too(folder: Path) -> None:
    progress = FinalProgress(Console(file=io.StringIO()))
    elsewhere = on(Opened, lambda event: run_final(request_of()))
    result = run_final(request_of(), each(elsewhere, progress))
    assert not result.tested_now
    assert progress.summary() == "4 of 4 runs"
    assert progress.left() is None


def test_a_model_that_is_gone_is_exported_again_from_runs_of_an_earlier_recipe(
    folder: Path, readings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(top=1, seeds=1, on=ALL)
    with monkeypatch.context() as patch:
        patch.setattr("nas.final.workers.RECIPES", {"fast": fast_before})
        first = run_final(request)
    before = weights(first)
    (first.folder / "model.safetensors").unlink()
    again = run_final(request)
    assert (again.record, weights(again), len(readings)) == (first.record, before, 1)


def test_nobody_else_may_read_meanwhile(folder: Path, readings: list[str]) -> None:
    said: list[str] = []
    database = f"sqlite:///{folder}/studies/{STUDY}.db"

    def second(event: ReadingTestImages) -> None:
        with pytest.raises(StudyError, match="wait for it") as refusal:
            run_final(request_of(studies_dir=folder / "elsewhere", storage=database))
        said.append(str(refusal.value))

    # No file lock is between the two: the other's folder lies elsewhere, as on another machine.
    first = run_final(request_of(), on(ReadingTestImages, second))
    assert len(said) == len(readings) == first.record.readings == 1


def test_a_result_of_another_version_is_one_line(folder: Path) -> None:
    run_final(request_of())
    with sqlite3.connect(folder / "studies" / f"{STUDY}.db") as database:
        database.execute(
            "UPDATE study_user_attributes SET value_json = "
            "replace(value_json, '\"devices\"', '\"machines\"') WHERE key = 'test_readings'"
        )
    with pytest.raises(StudyError, match="this version of nas can read"):
        run_final(request_of())
    assert "written by another version" in report()


def test_the_limits_of_a_result_stand_among_its_other_values() -> None:
    record = final_record()
    values = record.to_dict()
    assert next(iter(values)) == "study"
    assert values["max_parameters"] == record.limits["parameters"]
    assert FinalRecord.from_dict(values) == record


def test_settings_without_a_limit_are_refused(folder: Path) -> None:
    settings = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies"))).settings
    values = settings_to_json(dataclasses.replace(settings, limits=Limits()))
    with pytest.raises(ValueError, match="another version: expected a limit, got none"):
        settings_from_json(values)


def test_equal_designs_are_one_finalist(folder: Path) -> None:
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    best, second = study.ranking[:2]
    twice = dataclasses.replace(second, architecture=best.architecture)  # tuned otherwise, say
    trials = tuple(twice if t.number == second.number else t for t in study.trials)
    entries = entries_of(dataclasses.replace(study, trials=trials), request_of(top=3))
    assert [e.name for e in entries] == [f"trial {t.number}" for t in (best, *study.ranking[2:4])]


WIDER_IS_BETTER = {width: 0.5 + 0.02 * (width // 8) for width in range(8, 136, 8)}


def finalists(study: StudyRecord, top: int, *, by: str = BY_EXPECTATION) -> list[int]:
    entries = entries_of(study, request_of(top=top), by=by)
    return [entry.trial.number for entry in entries if entry.trial]


def test_finalists_are_those_expected_to_be_the_best() -> None:
    lucky = study_of_widths({**WIDER_IS_BETTER, 24: 0.85})
    assert finalists(lucky, 1, by=BY_SCORE) == [2]
    assert 2 not in finalists(lucky, 3)
    assert min(finalists(lucky, 3)) >= 12
    assert left_out(lucky, entries_of(lucky, request_of(top=3))) == ["trial 2"]
    ranks = [t.number for t in lucky.ranking]
    assert finalists(lucky, len(ranks)) == ranks
    assert left_out(lucky, entries_of(lucky, request_of(top=len(ranks)))) == []
    few = study_of_widths({**dict(list(WIDER_IS_BETTER.items())[:9]), 24: 0.85})
    assert finalists(few, 1) == [2]


def test_a_design_of_several_trials_is_that_of_the_best_one() -> None:
    study = study_of_widths(WIDER_IS_BETTER)
    best, last = study.ranking[0], len(study.trials)
    worse = [  # tuned otherwise, say
        dataclasses.replace(best, number=last + n, val_accuracy=0.6) for n in range(3)
    ]
    again = dataclasses.replace(study, trials=(*study.trials, *worse))
    assert set(finalists(again, 16)) == {t.number for t in study.trials}


@pytest.mark.parametrize(("accuracy", "place"), [(0.9, 0), (0.81, 1), (0.1, 16)])
def test_a_finalist_outside_the_space_has_the_place_of_its_score(
    accuracy: float, place: int
) -> None:
    study = study_of_widths(WIDER_IS_BETTER)
    foreign = dataclasses.replace(trial(99, accuracy=accuracy), architecture=PRESETS["resnet20"])
    with_it = dataclasses.replace(study, trials=(*study.trials, foreign))
    for top in (1, 2, 16, 17):
        assert (99 in finalists(with_it, top)) is (place < top)


def test_a_result_stands_whatever_precision_this_device_would_choose(
    folder: Path, readings: list[str]
) -> None:
    result = run_final(request_of(top=1, seeds=1, precision="bfloat16"))
    again = run_final(request_of(top=1, seeds=1))  # auto: float32 on a CPU
    assert (again.record, again.tested_now) == (result.record, False)
    with pytest.raises(StudyError, match="for another choice of designs or training"):
        run_final(request_of(top=1, seeds=1, precision="float32"))
    once_more = run_final(request_of(top=1, seeds=1, again=True)).record
    assert (once_more.precision, once_more.readings) == (Precision.FLOAT32, 2)
    assert run_final(request_of(top=1, seeds=1, precision="float32")).record == once_more


def cut_off_while_reading(request: FinalRequest) -> None:
    """Ends a final training by a signal as it is about to read the test images."""

    def interrupt(event: ReadingTestImages) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_final(request, on(ReadingTestImages, interrupt))


def test_a_reading_that_was_cut_off_in_another_precision_is_refused_at_once(
    folder: Path, readings: list[str]
) -> None:
    cut_off_while_reading(request_of(top=1, seeds=1, precision="bfloat16"))
    trained: list[str] = []
    with pytest.raises(StudyError, match="for another choice of designs or training"):
        run_final(request_of(top=1, seeds=1), on(RunStarted, lambda e: trained.append(e.run.name)))
    assert trained == []


def test_a_signal_ends_the_test_and_the_reading_is_gone_on_with(
    folder: Path, readings: list[str]
) -> None:
    cut_off_while_reading(request_of())
    assert readings == []
    assert run_final(request_of()).record.readings == 1


def test_too_little_memory_for_one_design_is_told_and_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    large = study.ranking[0].architecture

    begin = RunPlan.begin

    def begin_if_it_fits(plan: RunPlan, device: torch.device) -> TrainingRun:
        if plan.architecture == large:
            raise MemoryError
        return begin(plan, device)

    with monkeypatch.context() as patch:
        patch.setattr(RunPlan, "begin", begin_if_it_fits)
        record = run_final(request_of()).record
    assert record.chosen.architecture == study.ranking[1].architecture
    assert "out of memory" in str(record.finalists[1].failed)
    again = run_final(request_of(again=True)).record
    assert all(design.failed is None for design in again.finalists)


def test_broken_test_files_are_left_out_in_the_same_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part, number in (("train", 20), ("test", 6)):
        for shade, name in enumerate(("dark", "light")):
            Path("photos", part, name).mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(0, 128, (12, 12), dtype=np.uint8) + np.uint8(127 * shade)
                Image.fromarray(pixels).save(Path("photos", part, name, f"{i}.png"))
    Path("photos", "test", "dark", "0.png").write_bytes(b"no image")
    Path("tiny.toml").write_text(TINY_SPACE)
    data = ["--data-dir", "photos"]
    search = ["search", "--dataset", "folder", "--budget", "1M", "--space", "tiny.toml"]
    assert main([*search, *data, "--study", STUDY, "--trials", "1", "--epochs", "1"]) == 0
    final = [*FAST, *data, "--seeds", "1"]
    assert main(final) == 2
    assert "--skip-broken" in capsys.readouterr().err.splitlines()[-1]
    assert main([*final, "--skip-broken"]) == 0
    assert (stored().test_images, stored().readings) == (11, 1)
    assert any("left out: 1 of 12" in note for note in stored().notes)
    assert main([*final, "--skip-broken"]) == 0
    assert "Nothing left to do" in capsys.readouterr().err


def test_training_on_the_validation_images_too(folder: Path) -> None:
    result = run_final(request_of(on=ALL))
    record = result.record
    dataset = load_dataset("digits", Path("data"), subset=0.2)
    assert record.train_images == len(dataset.train) + len(dataset.validation)
    assert record.exported.seed == record.seeds[0]
    assert record.chosen.test is not None
    tested = nas.load(result.folder).network.state_dict()
    on = {}  # part -> weights of the same design and seed
    for path in result.folder.glob(f"runs/*-seed{record.seeds[0]}-*/result.json"):
        made = json.loads(path.read_text())
        if made["design"] == str(record.chosen.architecture):
            on[made["on"]] = load_checkpoint(path.with_name("weights.pt"))["model"]
    assert torch.equal(tested["head.weight"], on[ALL]["head.weight"])
    assert not torch.equal(tested["head.weight"], on[TRAIN]["head.weight"])


def test_references_are_trained_alike_and_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    design = study.ranking[-1].architecture  # no known design fits images of 8x8 pixels
    presets = {"flexres22-2": design, "resnet18": study.ranking[0].architecture}
    for module in ("request", "choosing"):
        monkeypatch.setattr(f"nas.final.{module}.PRESETS", presets)
    record = run_final(request_of(top=1, baselines=("flexres22-2", "resnet18"))).record
    references = record.references
    assert [d.name for d in references] == ["flexres22-2", "resnet18"]
    assert all(d.test and d.is_reference and d.published is None for d in references)
    same = references[1]  # the very design that was chosen: same seeds, same accuracies
    assert same.test == record.chosen.test
    assert record.gains[1].architecture.value == 0
    gain = record.gains[0].architecture
    assert references[0].test is not None
    assert record.chosen.test is not None
    assert gain.value == pytest.approx(
        record.chosen.test.mean.value - references[0].test.mean.value
    )
    assert gain.low <= gain.value <= gain.high
    text = report()
    assert "reference" in text
    assert "points by its design over flexres22-2" in text


def final(*arguments: str) -> "subprocess.Popen[str]":
    return warm.Popen[str](
        [sys.executable, "-m", "nas.final", *FAST[1:], *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_a_checkpoint(process: "subprocess.Popen[str]", folder: Path) -> None:
    wait_until(lambda: list(folder.glob("studies/*/final/runs/*/checkpoint.pt")), process)


def test_killed_and_run_again_gives_the_uninterrupted_result(folder: Path) -> None:
    options = ["--epochs", "100", "--top", "1", "--seeds", "2", "--workers", "2"]
    process = final(*options)
    wait_for_a_checkpoint(process, folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    told: list[int] = []

    def listen(event: RunStarted) -> None:
        told.append(event.epochs_done)

    # Its workers end with it; one that has not yet is waited for.
    continued = run_final(request_of(epochs=100, top=1), on(RunStarted, listen))
    assert max(told) > 0
    assert continued.record.readings == 1
    assert not list(folder.glob("studies/*/final/runs/*/checkpoint.pt"))
    fresh = run_final(
        dataclasses.replace(request_of(epochs=100, top=1), studies_dir=copied(folder))
    )
    assert fresh.record.chosen == continued.record.chosen
    assert fresh.record.exported == continued.record.exported
    assert weights(fresh) == weights(continued)


def test_the_runs_that_are_left_share_the_cores_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.final.workers.usable_cores", lambda: 3)
    devices: list[str] = []
    opened = on(Opened, lambda event: devices.append(event.device))
    threads = torch.get_num_threads()
    for seeds, workers in ((1, "auto"), (2, 3)):  # the second time one of two is done
        request = request_of(top=1, seeds=seeds, workers=workers)
        with pytest.raises(KeyboardInterrupt):
            run_final(request, each(opened, before_the_test))
        devices.append(f"cpu ({torch.get_num_threads()} threads)")
        torch.set_num_threads(threads)
    assert devices == ["cpu (3 threads)"] * 4


def before_the_test(event: object) -> None:
    if isinstance(event, DesignChosen):
        raise KeyboardInterrupt


def test_what_killed_writers_left_in_its_folders_goes(folder: Path) -> None:
    request = request_of(epochs=1, top=1, seeds=1)
    final_folder = run_final(request).folder
    (run,) = (final_folder / "runs").glob("*/")
    (run / "result.json").unlink()  # so that it is trained again
    places = (final_folder, final_folder / "mistakes", run)
    with living_writer(*places):
        left = killed_writer(*places)
        run_final(dataclasses.replace(request, again=True))
        assert left.isdisjoint(unfinished(*places))
    assert unfinished(*places) == set()


def copied(folder: Path) -> Path:
    """A studies folder with the study as it was before the final training."""
    other = folder / "other"
    other.mkdir()
    shutil.copy(folder / "before.db", other / f"{STUDY}.db")
    return other


def weights(result: FinalResult) -> bytes:
    return (result.folder / "model.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def before(request: pytest.FixtureRequest, searched: Path, tmp_path: Path) -> None:
    shutil.copy(searched / "studies" / f"{STUDY}.db", tmp_path / "before.db")


def test_ctrl_c_ends_it_and_workers_with_nothing_lost(folder: Path) -> None:
    process = final("--epochs", "400", "--top", "1", "--seeds", "2", "--workers", "2")
    wait_for_a_checkpoint(process, folder)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert output == ""
    assert errors.splitlines()[-1] == "interrupted; the same command continues"
    assert "Traceback" not in errors
    study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
    assert study.readings == ()


class TestChoosing:
    @pytest.fixture
    def run(self, folder: Path) -> "TestChoosing":
        self.study = read_study(StudyLocation.at(STUDY, studies_dir=Path("studies")))
        self.entries = entries_of(self.study, request_of(top=3))
        self.labels_I = torch.zeros(100, dtype=torch.int64)
        return self

    def result(self, name: str, seed: int, wrong: int, diverged: str | None = None) -> RunResult:
        design = next(e.architecture for e in self.entries if e.name == name)
        predictions_I = (np.arange(100) < wrong).astype(np.int64)
        run = Run(name, design, seed, TRAIN)
        return RunResult(run, diverged, predictions_I, (), 1.0, "cpu", "2.15.0")

    def ranking(self, results: list[RunResult]) -> list[tuple[str, bool]]:
        designs = designs_of(
            self.entries, results, self.labels_I, self.study.settings.input, "digits"
        )
        return [(d.name, d.may_be_best) for d in ranked(designs, results, self.labels_I)]

    def test_by_mean_not_by_the_best_run(self, run: "TestChoosing") -> None:
        a, b, c = (entry.name for entry in self.entries)
        wrong = {a: (0, 30), b: (10, 12), c: (60, 62)}
        results = [self.result(n, s, w) for n, ws in wrong.items() for s, w in enumerate(ws)]
        assert [name for name, _ in self.ranking(results)] == [b, a, c]

    def test_of_equals_the_smaller_and_a_tie_is_told(self, run: "TestChoosing") -> None:
        results = [self.result(e.name, s, 10) for e in self.entries for s in (0, 1)]
        sizes = [t.parameters for t in self.study.ranking[:3]]
        order = [
            e.name
            for _, e in sorted(zip(sizes, self.entries, strict=True), key=lambda p: p[0] or 0)
        ]
        assert self.ranking(results) == [(name, True) for name in order]

    def test_one_that_diverged_is_not_chosen(self, run: "TestChoosing") -> None:
        a, b, c = (entry.name for entry in self.entries)
        results = [self.result(n, s, 10) for n in (b, c) for s in (0, 1)]
        results += [self.result(a, 0, 0), self.result(a, 1, 0, "loss not finite in epoch 1")]
        assert self.ranking(results)[-1] == (a, False)
        assert {name for name, may in self.ranking(results) if may} == {b, c}

    def test_seeds_are_not_those_of_the_search(self, run: "TestChoosing") -> None:
        searches = ({"seed": 2}, {"seed": 0})
        assert seeds_of(dataclasses.replace(self.study, searches=searches), 3) == (1, 3, 4)


class TestBadInput:
    def error(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        return error_line(capsys, main([*FAST, *arguments]))

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--top", "0"], "--top: expected a positive whole number"),
            (["--seeds", "0"], "--seeds: expected a positive whole number"),
            (["--baseline", "vgg"], "--baseline: expected one of resnet18"),
            (["--baseline", "resnet18"], "expected designs that can read 1x8x8, 10 classes"),
            (["--study", "other"], "expected a study, got no such file; studies there: digits-5M"),
            (["--device", "cuda:99"], "--device: expected"),
        ],
    )
    def test_is_one_line(
        self, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
    ) -> None:
        assert said in self.error(capsys, *arguments)
        assert not (folder / "studies" / STUDY / "final").exists()

    def test_a_study_without_a_trained_design(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with sqlite3.connect(folder / "studies" / f"{STUDY}.db") as database:
            database.execute("UPDATE trials SET state = 'FAIL'")
            database.execute(
                "UPDATE trial_user_attributes SET value_json = '\"failed\"' WHERE key = 'outcome'"
            )
        assert "expected a study with a design trained to the end" in self.error(capsys)

    def test_other_images_than_the_study(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with sqlite3.connect(folder / "studies" / f"{STUDY}.db") as database:
            database.execute(
                "UPDATE study_user_attributes SET value_json = "
                'replace(value_json, \'"dataset_digest": "\', \'"dataset_digest": "0\')'
            )
        assert "expected the images of the study (digits, digest 0" in self.error(capsys)

    def test_damaged_weights(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_final(request_of(top=1, seeds=1))
        (path,) = folder.glob("studies/*/final/runs/*/weights.pt")
        path.write_bytes(path.read_bytes()[:-100])
        arguments = ["--top", "1", "--seeds", "1", "--again"]
        assert main([*FAST, *arguments]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "weights.pt: expected the weights of a finished run, got a damaged" in line
        assert len(read_study(StudyLocation.at(STUDY, studies_dir=Path("studies"))).readings) == 1

    def test_values_from_python(self) -> None:
        for changes, said in (
            ({"top": 0}, "top must be"),
            ({"on": "test"}, "on must be one of train"),
            ({"baselines": "resnet18"}, "must be a list of names"),
            ({"subset": 0.0}, "subset must be above 0"),
        ):
            with pytest.raises(RequestError, match=said):
                request_of(**changes)


def test_a_run_that_diverges_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = StudyLocation.at(STUDY, studies_dir=Path("studies"))
    (trial,) = read_study(location).ranking[:1]
    monkeypatch.setattr("nas.final.workers.RECIPES", {"fast": diverging})
    with pytest.raises(FinalFailed, match=f"trial {trial.number}, seed 1: loss not finite"):
        run_final(request_of(top=1))
    assert read_study(location).readings == ()


def diverging(task: object) -> object:
    from nas.training.config import fast

    return dataclasses.replace(fast(task), lr=1e30)  # type: ignore[arg-type]
