"""Studies in MLflow, TensorBoard and Weights & Biases, read back from what these write."""

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nas.commands import main
from nas.final.final import run_final
from nas.final.request import FinalRequest
from nas.search.run import run_search
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome, StudyRecord
from nas.trackers.runs import TrackedRun, TrackedStudy, tracked
from tests.kits import warm
from tests.kits.commands import Capture, error_of
from tests.kits.places import STUDIES
from tests.kits.records import final_record, mixed, read_record, trial
from tests.kits.studies import TINY_SPACE, RequestOf
from tests.kits.waiting import PATIENCE

STUDY = "digits-5M"
NONE = Path("nowhere")


@dataclass(frozen=True)
class Place:
    """A folder with a study, and what is logged of it."""

    folder: Path

    @property
    def study(self) -> StudyRecord:
        location = StudyLocation.at(STUDY, studies_dir=self.folder / "studies")
        return read_study(location)

    @property
    def tracked(self) -> TrackedStudy:
        return tracked(self.study, self.folder / "studies" / STUDY / "final")

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def log(self, to: str) -> str:
        """What the command prints."""
        offline = {"WANDB_MODE": "offline", "WANDB_BASE_URL": "http://127.0.0.1:9"}
        done = warm.run(
            [sys.executable, "-m", "nas.log", STUDY, "--to", to, "--dir", "out"],
            cwd=self.folder,
            env={**os.environ, **offline},
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return str(done.stdout)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two designs, of which one had its final training."""
    folder = tmp_path_factory.mktemp("searched")
    space = folder / "tiny.toml"
    space.write_text(TINY_SPACE)
    run_search(RequestOf(folder, space)(trials=2, epochs=2, pruner="none"))
    of_final: dict[str, Any] = {"recipe": "fast", "epochs": 2, "top": 1, "seeds": 1, "subset": 0.2}
    run_final(FinalRequest(study=STUDY, studies_dir=folder / "studies", **of_final))
    return folder


@pytest.fixture
def place(searched: Path, tmp_path: Path) -> Place:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


def curves_of(run: TrackedRun) -> dict[str, list[tuple[int, float]]]:
    return {name: list(curve) for name, curve in run.curves.items()}


# What is logged


def test_what_has_ended_is_logged_as_the_study_says() -> None:
    study = mixed()
    runs = tracked(study, NONE)
    ended = [t for t in study.trials if t.outcome is not None]
    assert [run.name for run in runs.children] == [f"trial-{t.number}" for t in ended]
    for run, record in zip(runs.children, ended, strict=True):
        assert run.curves.get("val_accuracy", ()) == record.curve
        assert run.last.get("val_accuracy") == record.val_accuracy
        assert run.parameters["design"] == str(record.architecture)
        assert run.parameters["parameters"] == record.parameters
        assert run.parameters["channels_2"] == record.architecture.channels[1]  # type: ignore[union-attr]
        assert run.tags["outcome"] == record.outcome
        assert run.failed == (
            record.outcome in (Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.FAILED)
        )
    assert runs.children[6].tags["reason"] == "out of memory"
    assert len({run.key for run in (runs.run, *runs.children)}) == len(ended) + 1
    assert runs.run.results["trained"] == study.trained
    assert runs.run.parameters["limits.max_parameters"] == 5_000_000
    # By the number of designs that were trained, the stopped one included.
    assert runs.run.curves["best_val_accuracy"] == ((1, 0.81), (2, 0.81), (3, 0.9123), (4, 0.9123))


def test_keys_stay_as_the_study_grows_and_differ_between_studies() -> None:
    study = mixed()
    grown = replace(study, trials=(*study.trials, trial(12, accuracy=0.95)))
    keys = [run.key for run in tracked(study, NONE).children]
    assert [run.key for run in tracked(grown, NONE).children][:-1] == keys
    other = replace(study, searches=({"started": "2026-11-01T10:00:00+00:00"},))
    assert tracked(other, NONE).run.key != tracked(study, NONE).run.key


def test_the_test_accuracy_is_that_of_the_final_training() -> None:
    results = tracked(read_record(final_record()), NONE).run.results
    assert results["test_accuracy"] == 0.8
    assert (results["test_accuracy_low"], results["test_accuracy_high"]) == (0.7, 0.9)


def test_steps_have_times_between_those_of_the_run() -> None:
    run = tracked(mixed(), NONE).children[1]
    times = [run.time_of(step) for step, _ in run.curves["val_accuracy"]]
    assert run.started is not None
    assert times == sorted(times)  # type: ignore[type-var]
    assert run.started < times[0]  # type: ignore[operator]
    assert times[-1] == run.ended


def test_a_final_training_has_a_run_each_and_files(place: Place) -> None:
    runs = place.tracked
    (final,) = (run for run in runs.children if run.name.startswith("final-"))
    assert [step for step, _ in final.curves["train_loss"]] == [1, 2]
    assert final.parameters["recipe.epochs"] == 2
    assert {"model.onnx", "metrics.json"} <= {path.name for path in runs.files}
    (result,) = place.folder.glob("studies/*/final/runs/*/result.json")
    result.write_text("{")
    assert not [run for run in place.tracked.children if run.name.startswith("final-")]


# The trackers

of_mlflow = "needs MLflow: pip install mlflow-skinny"
of_tensorboard = "needs TensorBoard: pip install tensorboard"
of_wandb = "needs Weights & Biases: pip install wandb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_the_runs_once(place: Place) -> None:
    mlflow = pytest.importorskip("mlflow", reason=of_mlflow)
    assert place.log("mlflow").startswith(f"3 new runs of {STUDY} logged, 0 were already logged")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{place.out}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "nas")

    def runs() -> dict[str, Any]:
        found = client.search_runs([experiment.experiment_id])
        keys = [run.data.tags["nas.run"] for run in found]
        assert len(set(keys)) == len(keys)
        return dict(zip(keys, found, strict=True))

    def check() -> None:
        expected, found = place.tracked, runs()
        parent = found[expected.run.key].info.run_id
        assert found.keys() == {run.key for run in (expected.run, *expected.children)}
        for run in (expected.run, *expected.children):
            there = found[run.key]
            assert there.info.run_name == run.name
            assert there.info.status == "FINISHED"
            assert there.data.params == {n: str(v) for n, v in run.parameters.items()}
            assert run.tags.items() <= there.data.tags.items()
            assert there.data.tags.get("mlflow.parentRunId") == (
                None if run is expected.run else parent
            )
            for name, curve in curves_of(run).items():
                history = client.get_metric_history(there.info.run_id, name)
                assert sorted((m.step, m.value) for m in history) == curve
            assert there.data.metrics == pytest.approx(run.last)
        files = {Path(file.path).name for file in client.list_artifacts(parent, "model")}
        assert files == {path.name for path in expected.files}

    check()
    before = {key: run.info.run_id for key, run in runs().items()}
    assert place.log("mlflow").startswith("0 new runs")
    assert {key: run.info.run_id for key, run in runs().items()} == before
    cut = place.tracked.children[0]
    client.update_run(before[cut.key], status="RUNNING")  # as of a process that was killed
    grow(place)
    assert place.log("mlflow").startswith(f"2 new runs of {STUDY} logged, 2 were already logged")
    check()


def grow(place: Place) -> None:
    """One more design in the study."""
    request = RequestOf(place.folder, place.folder / "tiny.toml")
    run_search(request(trials=3, epochs=2, pruner="none"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_tensorboard_has_the_runs_once(place: Place) -> None:
    pytest.importorskip("tensorboard", reason=of_tensorboard)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert place.log("tensorboard").startswith(
        f"3 new runs of {STUDY} logged, 0 were already logged"
    )
    (folder,) = place.out.iterdir()

    def check() -> None:
        expected = place.tracked
        every = (expected.run, *expected.children)
        names = {run.key: "study" if run is expected.run else run.name for run in every}
        assert {path.name for path in folder.iterdir()} == {*names.values()}
        for run in every:
            events = EventAccumulator(str(folder / names[run.key]), size_guidance={"scalars": 0})
            events.Reload()
            for name, curve in curves_of(run).items():
                found = [(event.step, event.value) for event in events.Scalars(name)]
                assert [step for step, _ in found] == [step for step, _ in curve]
                assert [v for _, v in found] == pytest.approx([v for _, v in curve], rel=1e-6)
            for name, value in run.last.items():
                (event,) = events.Scalars(f"result/{name}")
                assert event.value == pytest.approx(value, rel=1e-6)
            texts = {tag.partition("/")[0] for tag in events.Tags()["tensors"]}
            assert {name for name, text in run.tags.items() if text} <= texts
            assert "_hparams_/session_start_info" in events.summary_metadata

    check()
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert place.log("tensorboard").startswith("0 new runs")
    again = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {p for p in times if times[p] != again[p]} == {folder / "study"}
    shutil.rmtree(folder / "trial-0")
    grow(place)
    assert place.log("tensorboard").startswith(
        f"2 new runs of {STUDY} logged, 2 were already logged"
    )
    check()


@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_a_study_called_like_a_trial_leaves_its_run_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason=of_tensorboard)
    from nas.trackers.to_tensorboard import log

    study = tracked(replace(mixed(), name="trial-4", trials=mixed().trials[:5]), NONE)
    assert log(study, tmp_path)[0] == 5
    (folder,) = tmp_path.iterdir()
    of_trial = [path.name for path in (folder / "trial-4").iterdir()]
    assert log(study, tmp_path)[0] == 0
    assert [path.name for path in (folder / "trial-4").iterdir()] == of_trial
    assert len({*folder.iterdir()}) == 6


@pytest.mark.slow
def test_wandb_has_the_runs_once_without_a_network(place: Place) -> None:
    pytest.importorskip("wandb", reason=of_wandb)
    assert place.log("wandb").startswith(f"3 new runs of {STUDY} logged, 0 were already logged")

    def runs() -> dict[str, Path]:
        found = [*place.out.glob("wandb/offline-run-*")]
        keys = [path.name.split("-", 3)[3] for path in found]
        assert len(set(keys)) == len(keys)
        return dict(zip(keys, found, strict=True))

    def check() -> None:
        expected, found = place.tracked, runs()
        every = (expected.run, *expected.children)
        assert found.keys() == {run.key for run in every}
        for run in every:
            content = (found[run.key] / f"run-{run.key}.wandb").read_bytes()
            words = [run.name, *run.parameters, *run.curves, *run.results]
            assert [word for word in words if word.encode() not in content] == []

    check()
    before = runs()
    assert place.log("wandb").startswith("0 new runs")
    assert runs() == before
    cut = place.tracked.children[0].key
    (before[cut] / "nas-logged").unlink()
    grow(place)
    assert place.log("wandb").startswith(f"2 new runs of {STUDY} logged, 2 were already logged")
    check()


# What is refused


@pytest.fixture
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker whose package is not installed."""
    name: str = request.param
    for loaded in [*sys.modules]:
        if loaded.startswith((f"nas.trackers.to_{name}", "torch.utils.tensorboard")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    return name


@pytest.mark.parametrize("without", ["mlflow", "tensorboard", "wandb"], indirect=True)
def test_a_package_that_is_not_there_is_one_line(without: str, capsys: Capture) -> None:
    words = ["log", "digits-example", "--studies-dir", str(STUDIES), "--to", without]
    error = error_of(capsys, main(words))
    assert error.startswith(f"error: --to {without}: expected the package {without}")
    assert f"; pip install {without}" in error


def test_a_tracker_that_there_is_not_is_one_line(capsys: Capture) -> None:
    assert "expected" in error_of(capsys, main(["log", "digits-example", "--to", "neptune"]))


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_cannot_be_used_is_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow", reason=of_mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresqlx://{tmp_path}")
    words = ["log", "digits-example", "--studies-dir", str(STUDIES), "--to", "mlflow"]
    error = error_of(capsys, main(words))
    assert error.startswith("error: --to mlflow: expected a store that can be written at postgres")
