"""Searches of the real digits, in this process: what a study holds afterwards."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import time
import warnings
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

import nas.search.preparation as subject_module
from nas.architecture import Architecture, ImageInput
from nas.counting import count
from nas.data import loading, sources
from nas.errors import RequestError
from nas.model import ResNet
from nas.search.events import (
    BatchesDone,
    EndedElsewhere,
    EpochEnded,
    Event,
    Loading,
    Opened,
    TrialEnded,
    TrialStarted,
    Waiting,
    Warned,
)
from nas.search.evidence import Threshold
from nas.search.run import (
    SearchEnding,
    SearchFailed,
    SearchResult,
    run_search,
)
from nas.study.creation import begin_search
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.study.store import open_store
from nas.training.config import TrainingConfig
from nas.training.loop import Run
from nas.training.plan import RunPlan
from tests.kits.events import on
from tests.kits.studies import RequestOf, queue_design, start_processes
from tests.kits.waiting import PATIENCE

DIGITS = ImageInput(channels=1, height=8, width=8, classes=10)


def load(result: SearchResult) -> optuna.Study:
    return optuna.load_study(study_name=result.study.name, storage=result.location.url)


def designs(result: SearchResult) -> list[str]:
    return [t.architecture.key for t in result.study.trials if t.architecture is not None]


def test_trains_what_was_asked_for_and_records_it(request_of: RequestOf) -> None:
    result = run_search(request_of(trials=4))
    assert result.ending is SearchEnding.DONE
    assert result.study.trained == result.newly_trained == 4
    study = load(result)
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["val_accuracy"]
    trained = [t for t in study.trials if t.user_attrs["outcome"] in ("trained", "stopped_early")]
    assert len({t.user_attrs["key"] for t in trained}) == 4
    for trial in trained:
        attributes = trial.user_attrs
        design = Architecture(
            blocks=tuple(attributes["blocks"]),
            channels=tuple(attributes["channels"]),
            kernels=tuple(attributes["kernels"]),
            shortcut_kernels=tuple(attributes["shortcut_kernels"]),
            pool=attributes["pool"],
        )
        cost = count(design, DIGITS)
        assert attributes["key"] == design.key
        assert attributes["parameters"] == cost.parameters <= 5_000_000
        assert attributes["mult_adds"] == cost.mult_adds
        assert attributes["epochs"] == 1
        assert attributes["seconds"] > 0
        assert attributes["images_per_second"] > 0
        assert attributes["device"].startswith("cpu")
        assert attributes["worker"]
        assert list(trial.intermediate_values) == [1]
    assert {"settings", "versions", "seed"} <= set(study.user_attrs)
    assert study.user_attrs["versions"]["optuna"] == optuna.__version__


def test_the_same_request_again_continues_and_then_has_nothing_left(request_of: RequestOf) -> None:
    run_search(request_of(trials=2))
    longer = run_search(request_of(trials=3))
    assert (longer.study.trained, longer.newly_trained) == (3, 1)
    again = run_search(request_of(trials=3))
    assert (again.study.trained, again.newly_trained) == (3, 0)
    assert len(again.study.trials) == len(longer.study.trials)


def test_stopped_and_continued_gives_what_one_run_gives(
    request_of: RequestOf, tmp_path: Path
) -> None:
    asked = {"subset": 0.05, "max_parameters": 10_000}
    whole = run_search(request_of(**asked, trials=12, studies_dir=tmp_path / "whole"))
    for trials in (5, 11, 12):  # the sampler learns from the eleventh on
        parts = run_search(request_of(**asked, trials=trials, studies_dir=tmp_path / "parts"))
    assert designs(parts) == designs(whole)
    accuracies = [[t.val_accuracy for t in r.study.trials] for r in (parts, whole)]
    assert accuracies[0] == accuracies[1]
    other = run_search(request_of(**asked, trials=3, seed=1, studies_dir=tmp_path / "other"))
    assert designs(other) != designs(whole)[:3]


def test_designs_over_the_budget_are_never_built(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = 2_500
    trained = []
    build_any = ResNet.__init__

    def guarded_init(self: ResNet, architecture: Architecture, input: ImageInput) -> None:
        if count(architecture, input).parameters > budget:
            os._exit(99)  # impossible to miss, whoever catches what
        build_any(self, architecture, input)

    begin = RunPlan.begin

    def guarded_begin(plan: RunPlan, device: torch.device) -> Run:
        trained.append(plan.architecture.key)
        run = begin(plan, device)
        if sum(p.numel() for p in run.model.parameters()) > budget:
            os._exit(98)
        return run

    monkeypatch.setattr(ResNet, "__init__", guarded_init)
    monkeypatch.setattr(RunPlan, "begin", guarded_begin)
    first = run_search(request_of(trials=5, max_parameters=budget))
    assert Outcome.OVER_BUDGET not in first.study.outcomes
    for _ in range(2):
        queue_design(first.location, blocks_1=2, channels_1=8)
    result = run_search(request_of(trials=6, max_parameters=budget))
    assert result.study.outcomes[Outcome.OVER_BUDGET] == 2
    assert Outcome.FAILED not in result.study.outcomes
    assert len(trained) == len(set(trained)) == result.study.trained == 6
    for trial in load(result).trials:
        over = trial.user_attrs["parameters"] > budget
        assert (trial.user_attrs["outcome"] == "over_budget") == over
        assert (trial.constraints["parameters"] > 0) == over
        if over:
            assert trial.state is TrialState.PRUNED
            assert not trial.intermediate_values


def test_both_limits_hold(request_of: RequestOf) -> None:
    result = run_search(request_of(trials=4, max_parameters=4_000, max_mult_adds=60_000))
    trained = [t for t in result.study.trials if t.counts]
    assert len(trained) == 4
    assert all((t.mult_adds or 0) <= 60_000 and (t.parameters or 0) <= 4_000 for t in trained)


def test_test_images_are_never_read(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def forbidden() -> sources.Part:
        raise AssertionError("test images were read")

    def guarded(name: str, data_dir: Path, *, split_seed: int, skip_broken: bool) -> sources.Source:
        source = sources.open_source(name, data_dir, split_seed=split_seed, skip_broken=skip_broken)
        return dataclasses.replace(source, read_test=forbidden)

    monkeypatch.setattr(loading, "open_source", guarded)
    with pytest.raises(AssertionError, match="test images were read"):
        loading.load_test("digits", tmp_path)
    assert run_search(request_of()).study.trained == 3


def test_a_small_space_is_tried_whole_and_then_said_to_be_exhausted(
    request_of: RequestOf, tmp_path: Path
) -> None:
    space = tmp_path / "three.toml"
    space.write_text("stages = 1\nblocks = [1, 2, 3, 4]\nchannels = 4\nkernels = 3\npool = 8\n")
    third = Architecture(blocks=(3,), channels=(4,), kernels=(3,), shortcut_kernels=(1,), pool=8)
    budget = count(third, DIGITS).parameters
    result = run_search(request_of(trials=50, space=space, max_parameters=budget, subset=0.05))
    assert result.ending is SearchEnding.EXHAUSTED
    assert result.study.trained == 3
    trained = {t.architecture.blocks for t in result.study.ranking if t.architecture}
    assert trained == {(1,), (2,), (3,)}
    again = run_search(request_of(trials=50, space=space, max_parameters=budget, subset=0.05))
    assert again.ending is SearchEnding.EXHAUSTED
    assert len(again.study.trials) == len(result.study.trials)  # it answers without a proposal


def test_early_stopping_counts_as_trained_and_reports_its_last_accuracy(
    request_of: RequestOf,
) -> None:
    asked = {"trials": 12, "epochs": 4, "subset": 0.1}
    result = run_search(request_of(**asked, pruner="rungs"))
    stopped = [t for t in result.study.trials if t.outcome is Outcome.STOPPED_EARLY]
    assert stopped
    assert result.study.trained == 12
    for trial in stopped:
        assert len(trial.curve) < 4
        assert trial.val_accuracy == trial.curve[-1][1]
    assert result.study.incumbent is not None
    assert result.study.incumbent.outcome is Outcome.TRAINED
    without = run_search(request_of(**asked, pruner="none", study="without"))
    assert Outcome.STOPPED_EARLY not in without.study.outcomes


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_stopped_run_lacked_was_said_before(request_of: RequestOf, workers: int) -> None:
    needed: dict[int, Threshold] = {}

    def listen(event: Event) -> None:
        if isinstance(event, TrialStarted | EpochEnded) and event.threshold is not None:
            needed[event.number] = event.threshold

    request = request_of(trials=12, epochs=4, subset=0.1, pruner="rungs", workers=workers)
    study = run_search(request, listen).study
    stopped = [t for t in study.trials if t.outcome is Outcome.STOPPED_EARLY]
    assert stopped
    for trial in stopped:
        epoch, accuracy = trial.curve[-1]
        assert needed[trial.number].step == epoch
        assert accuracy < needed[trial.number].score
    full = [t for t in study.trials if t.outcome is Outcome.TRAINED and t.number in needed]
    for trial in full:
        last = needed[trial.number]
        assert dict(trial.curve)[last.step] >= last.score


def test_a_run_stopped_by_evidence_says_what_was_expected(request_of: RequestOf) -> None:
    asked = {"epochs": 4, "subset": 0.1, "sampler": "random"}
    study = load(run_search(request_of(trials=1, **asked)))
    for n in range(5):  # better than any run of one epoch
        values = dict.fromkeys(range(1, 5), 0.98 + n / 1000)
        attributes = {"outcome": "trained", "key": f"k{n}"}
        study.add_trial(
            create_trial(value=0.99 + n / 1000, intermediate_values=values, user_attrs=attributes)
        )
    needed: list[Threshold | None] = []
    listen = on(TrialStarted, lambda event: needed.append(event.threshold))
    *_, last = run_search(request_of(trials=7, **asked), listen).study.trials
    (least,) = needed
    assert least is not None
    assert (least.step, last.curve[0][1] < least.score) == (1, True)
    assert (last.outcome, len(last.curve)) == (Outcome.STOPPED_EARLY, 1)
    assert last.forecast is not None
    assert f"{last.curve[0][1]:.1%} by epoch 1: " in last.forecast
    assert "99.4% is the best" in last.forecast


def test_a_study_that_is_continued_says_itself_how_long_its_trials_take(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"epochs": 1, "subset": 0.1, "device": "cpu", "pruner": "evidence"}
    run_search(request_of(trials=1, **asked))
    measured: list[object] = []
    monkeypatch.setattr("nas.search.preparation.measure", lambda *_, **__: measured.append(1))
    openings: list[Opened] = []
    listen = on(Opened, openings.append)
    study = run_search(request_of(trials=2, timeout=1000.0, **asked), listen).study
    (opening,) = openings
    assert (opening.trial_seconds, measured) == (study.trials[0].seconds, [])
    assert (opening.seconds_left, opening.ended_by) == (1000.0, "--timeout")
    assert opening.pruner == "none"  # nothing can stop a run of one epoch


def test_the_incumbent_is_optunas_best_trial_also_among_equals(request_of: RequestOf) -> None:
    result = run_search(request_of(trials=5, max_parameters=3_000))
    assert result.study.incumbent is not None
    assert result.study.incumbent.number == load(result).best_trial.number
    with closing(sqlite3.connect(result.location.path or "")) as database, database:
        database.execute("UPDATE trial_values SET value = 0.5")
    study = read_study(result.location)
    assert study.incumbent is not None
    assert study.incumbent.number == load(result).best_trial.number
    assert {trial.val_accuracy for trial in study.ranking} == {0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_parameters": 4_000_000, "study": "digits-5M"}, "budget"),
        ({"epochs": 2}, "epochs"),
        ({"subset": 0.3}, "subset"),
        ({"space": None}, "space"),
        ({"max_mult_adds": 10**9}, "mult-adds"),
    ],
)
def test_a_study_made_with_other_settings_is_refused(
    request_of: RequestOf, one_trial: SearchResult, change: dict[str, object], said: str
) -> None:
    with pytest.raises(StudyError, match=said):
        run_search(request_of(trials=2, **change))
    assert read_study(one_trial.location) == one_trial.study


def test_a_study_of_other_images_is_refused(one_trial: SearchResult) -> None:
    location = one_trial.location
    changed = dataclasses.replace(
        one_trial.study.settings, dataset_digest="other", dataset="cifar10"
    )
    with (
        open_store(location) as database,
        database.allocation_lock(),
        pytest.raises(StudyError, match=r"dataset .*the study has digits, this search cifar10"),
    ):
        begin_search(database.study, location, changed, search={})


def test_a_design_that_needs_more_memory_than_there_is(
    request_of: RequestOf, tmp_path: Path
) -> None:
    space = tmp_path / "huge.toml"
    space.write_text("stages = 1\nblocks = 1\nchannels = [4, 9000000]\nkernels = 3\npool = 8\n")
    result = run_search(request_of(trials=2, max_parameters=10**17, space=space, subset=0.05))
    assert result.ending is SearchEnding.EXHAUSTED
    assert result.study.outcomes[Outcome.TRAINED] == 1
    assert result.study.outcomes[Outcome.OUT_OF_MEMORY] == 1
    (trial,) = [t for t in load(result).trials if t.user_attrs["outcome"] == "out_of_memory"]
    assert trial.state is TrialState.FAIL
    assert "memory" in trial.user_attrs["reason"]


def test_training_that_always_diverges_ends_the_search(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = TrainingConfig(epochs=2, batch_size=64, lr=1e30)
    monkeypatch.setattr(subject_module, "search_recipe", lambda *of: wild)
    with pytest.raises(SearchFailed, match="diverged"):
        run_search(request_of(trials=9))
    study = read_study(request_of().location_for("digits"))
    assert study.outcomes == {Outcome.DIVERGED: 5}
    assert all("not finite" in (t.reason or "") for t in study.trials)


def test_an_error_in_training_fails_the_trial_with_its_reason(
    request_of: RequestOf,
) -> None:
    def fail(event: EpochEnded) -> None:
        if event.number == 1:
            raise ValueError("something\nbroke")

    result = run_search(request_of(trials=3), on(EpochEnded, fail))
    assert result.study.trained == 3
    assert result.study.trials[1].outcome is Outcome.FAILED
    assert result.study.trials[1].reason == "ValueError: something"


def test_an_interrupted_trial_is_queued_again(request_of: RequestOf) -> None:
    def interrupt(event: EpochEnded) -> None:
        if event.number == 2:
            raise KeyboardInterrupt

    uninterrupted = run_search(request_of(trials=4, study="uninterrupted"))
    with pytest.raises(KeyboardInterrupt):
        run_search(request_of(trials=4), on(EpochEnded, interrupt))
    result = run_search(request_of(trials=4))
    states = [t.state for t in load(result).trials]
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING not in states
    assert result.study.trials[2].reason == "interrupted"
    kept = [t.architecture for t in result.study.trials if t.reason is None]
    assert kept == [t.architecture for t in uninterrupted.study.trials]


def test_ctrl_c_after_the_last_epoch_keeps_the_finished_run(request_of: RequestOf) -> None:
    def press(event: EpochEnded) -> None:
        if event.result.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_search(request_of(trials=4, epochs=2), on(EpochEnded, press))
    study = read_study(request_of().location_for("digits"))
    assert [trial.outcome for trial in study.trials] == [Outcome.TRAINED]


def test_a_design_queued_with_values_outside_the_space_fails_and_the_search_goes_on(
    request_of: RequestOf, one_trial: SearchResult
) -> None:
    study = load(one_trial)
    usual = {"stages": 1, "blocks_1": 1, "channels_1": 6, "kernels_1": 3, "pool": 4}
    for wrong in ({"stages": 9}, {"kernels_1": 4}, {"channels_1": 5}, {"blocks_1": "many"}):
        study.enqueue_trial({**usual, **wrong}, skip_if_exists=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's, of values out of range
        result = run_search(request_of(trials=12))
    assert result.study.trained == 12
    queued = result.study.trials[1:5]
    assert Outcome.FAILED in {t.outcome for t in queued}
    for trial in queued:
        if trial.outcome is Outcome.FAILED:
            assert (trial.reason or "").startswith("queued with values outside the space")


def test_a_seed_may_be_any_number_the_command_takes(request_of: RequestOf) -> None:
    one, other = (
        run_search(request_of(trials=2, seed=seed, study=f"of-{seed}"))
        for seed in (999_999_999_999_999_999, 999_999_999_999_999_998)
    )
    assert designs(one) != designs(other)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://?x=1"])
def test_a_database_in_memory_is_refused(request_of: RequestOf, url: str) -> None:
    with pytest.raises(StudyError, match="expected a database that stays"):
        run_search(request_of(storage=url))


def test_ctrl_c_in_a_row_of_rejections_changes_no_proposal(request_of: RequestOf) -> None:
    def press(event: TrialEnded) -> None:
        if event.trial.outcome is Outcome.OVER_BUDGET:
            os.kill(os.getpid(), signal.SIGINT)

    tight = {"max_parameters": 2_000}
    for name in ("whole", "parts"):
        first = run_search(request_of(**tight, trials=1, study=name))
        for _ in range(2):
            queue_design(first.location, blocks_1=2, channels_1=8)
    whole = run_search(request_of(**tight, trials=4, study="whole"))
    assert whole.study.outcomes[Outcome.OVER_BUDGET] == 2
    for _ in range(len(whole.study.trials)):
        with contextlib.suppress(KeyboardInterrupt):
            parts = run_search(request_of(**tight, trials=4, study="parts"), on(TrialEnded, press))
            break
    assert designs(parts) == designs(whole)


def test_a_second_search_of_the_same_study_joins_it(request_of: RequestOf) -> None:
    heard: list[int | str] = []

    def first(event: Event) -> None:
        match event:
            case EpochEnded(number=1):
                with pytest.raises(KeyboardInterrupt):
                    run_search(request_of(trials=4), second)
            case EndedElsewhere(trial):
                heard.append(trial.number)

    def second(event: Event) -> None:
        match event:
            case Waiting(running):
                heard.append(f"waits for {running}")
                raise KeyboardInterrupt
            case EndedElsewhere():
                raise AssertionError("trial 0 had ended, trial 1 has not")

    result = run_search(request_of(trials=4), first)
    assert heard == ["waits for 1", 2, 3]
    assert (result.study.trained, result.newly_trained) == (4, 2)
    assert len(set(designs(result))) == 4
    assert [search["seed"] for search in result.study.searches] == [0, 0]


def test_four_processes_on_a_new_study_train_exactly_what_was_asked_for(
    request_of: RequestOf,
) -> None:
    request = request_of(trials=8, max_parameters=4_000)
    processes = start_processes(4, request, pause=0.2)  # so that no one trains them all
    output, errors = processes.communicate(timeout=PATIENCE)
    assert processes.returncode == 0, errors
    answers = [json.loads(line) for line in output.splitlines()]
    assert len(answers) == 4
    assert {ending for ending, _ in answers} == {"done"}
    study = read_study(request.location_for("digits"))
    assert study.trained == sum(trained for _, trained in answers) == 8
    assert Outcome.FAILED not in study.outcomes
    trained = [t for t in study.trials if t.counts]
    assert len({t.architecture for t in trained}) == 8
    assert len({t.worker for t in trained}) > 1
    assert [t.number for t in study.trials] == list(range(len(study.trials)))
    assert len(study.searches) == 4


def test_a_study_is_one_file_that_opens_where_nothing_can_be_written(
    request_of: RequestOf, tmp_path: Path
) -> None:
    modes = []

    def look(event: TrialEnded) -> None:
        modes.append(journal_mode(request_of().location_for("digits")))

    result = run_search(request_of(trials=2), on(TrialEnded, look))
    assert modes == ["wal", "wal"]
    assert journal_mode(result.location) == "delete"
    assert result.location.path is not None
    files = {path.name for path in result.location.path.parent.iterdir()}
    assert files <= {"digits-5M.db", ".digits-5M.db.lock"}
    copy = tmp_path / "elsewhere" / "digits-5M.db"
    copy.parent.mkdir()
    shutil.copy(result.location.path, copy)
    copy.chmod(0o444)
    copy.parent.chmod(0o555)
    try:
        location = StudyLocation.at("digits-5M", studies_dir=copy.parent)
        assert read_study(location) == result.study
        assert [path.name for path in copy.parent.iterdir()] == ["digits-5M.db"]
    finally:
        copy.parent.chmod(0o755)


def journal_mode(location: StudyLocation) -> str:
    with closing(sqlite3.connect(location.path or "")) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_database_that_goes_away_ends_the_search_in_one_line(request_of: RequestOf) -> None:
    def damage(event: TrialEnded) -> None:
        path = request_of().location_for("digits").path
        with closing(sqlite3.connect(path or "")) as database, database:
            database.execute("DROP TABLE trial_params")

    with pytest.raises(SearchFailed, match="can no longer be read or written"):
        run_search(request_of(trials=3), on(TrialEnded, damage))


def test_a_database_that_goes_away_in_a_trial_ends_the_search_in_one_line(
    request_of: RequestOf,
) -> None:
    def damage(event: EpochEnded) -> None:
        path = request_of().location_for("digits").path
        with closing(sqlite3.connect(path or "")) as database, database:
            database.execute("DROP TABLE trial_values")

    with pytest.raises(SearchFailed, match="can no longer be read or written"):
        run_search(request_of(trials=3), on(EpochEnded, damage))


def test_time_over_starts_no_new_trial(request_of: RequestOf) -> None:
    def wait(event: TrialStarted) -> None:
        time.sleep(0.3)  # longer than the search may take

    result = run_search(request_of(trials=3, timeout=0.2), on(TrialStarted, wait))
    assert result.ending is SearchEnding.TIMEOUT
    assert result.study.trained <= 1  # none where the time was over before the first


def test_the_random_sampler_gives_other_designs(request_of: RequestOf) -> None:
    results = [
        run_search(request_of(trials=12, sampler=name, study=name, subset=0.05))
        for name in ("tpe", "random")
    ]
    assert designs(results[0]) != designs(results[1])


def test_an_observer_hears_everything(request_of: RequestOf) -> None:
    heard: list[str] = []

    def listen(event: Event) -> None:
        match event:
            case Loading():
                heard.append("loading")
            case Opened(study=study, test_images=images):
                heard.append(f"opened {study.trained} {images}")
            case EpochEnded(number, result):
                heard.append(f"epoch {result.epoch} of {number}")
            case TrialEnded(trial):
                heard.append(f"ended {trial.number} {trial.outcome}")

    run_search(request_of(trials=1, epochs=2), listen)
    assert heard == [
        "loading",
        "opened 0 359",
        "epoch 1 of 0",
        "epoch 2 of 0",
        "ended 0 trained",
    ]


def test_batches_of_an_epoch_are_heard_of(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.training.loop.REPORT_INTERVAL", 0.0)
    heard: list[BatchesDone] = []
    run_search(request_of(trials=2), on(BatchesDone, heard.append))
    assert {event.number for event in heard} == {0, 1}
    assert all(0 < event.done <= event.batches for event in heard)


def test_a_budget_below_the_smallest_design_names_it(request_of: RequestOf) -> None:
    with pytest.raises(RequestError, match=r"at least 518 parameters.*B1 C4 F3 K1 P4.*got 100"):
        run_search(request_of(max_parameters=100))
    assert not request_of().studies_dir.exists()


def test_reading_a_study_that_is_not_there_names_those_that_are(request_of: RequestOf) -> None:
    run_search(request_of(trials=1, study="here"))
    with pytest.raises(StudyError, match=r"no such file.*studies there: here"):
        read_study(request_of(study="elsewhere").location_for("digits"))


def test_a_study_that_nas_did_not_make_is_refused(request_of: RequestOf) -> None:
    location = request_of().location_for("digits")
    assert location.path is not None
    location.path.parent.mkdir()
    foreign = optuna.create_study(study_name=location.name, storage=location.url)
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(StudyError, match="expected a study made by nas"):
        run_search(request_of())
    with pytest.raises(StudyError, match="expected a study made by this version of nas"):
        read_study(location)


def test_a_search_says_before_it_trains_what_its_images_cannot_show(request_of: RequestOf) -> None:
    events: list[Event] = []
    study = run_search(request_of(trials=1, epochs=5, pruner="evidence"), events.append).study
    kinds = [type(event) for event in events]
    opened, first = kinds.index(Opened), kinds.index(TrialStarted)
    said = " ".join(event.warning for event in events[opened:first] if isinstance(event, Warned))
    assert f"{study.settings.validation_images} validation images: differences under" in said
    assert "runs of 5 epochs are short" in said
    chance = study.searches[-1]["chance"]
    assert isinstance(chance, float)
    assert f"chance is {chance:.0%}" in said
    assert 0.1 <= chance <= 0.12  # ten classes, as good as equal

    events.clear()
    run_search(request_of(trials=1, epochs=5), events.append)  # there is nothing left to do
    assert not [event for event in events if isinstance(event, Warned)]
