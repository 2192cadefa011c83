"""Known designs that a search trains first: queued, recorded, shown and trained again."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState
from PIL import Image

from nas.architecture import PRESETS, ImageInput
from nas.commands import main
from nas.errors import RequestError
from nas.report.page import render
from nas.search.domain import Domain
from nas.search.events import DatabaseGone, EpochEnded, Opened, TrialStarted, Warned
from nas.search.latency import LatencyTable
from nas.search.presets import enqueue_presets, queue_again
from nas.search.request import SAMPLERS, SearchRequest
from nas.search.run import run_search
from nas.search.samplers import make_sampler
from nas.space import default_space
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.training.config import Task, fast
from nas.training.tuning import real_values
from tests.kits.dashboard import served
from tests.kits.events import each, on

CIFAR = ImageInput(channels=3, height=32, width=32, classes=10)
SPACE = """
stages = [1, 2, 3]
blocks = [1, 3]
channels = [[4, 16], [8, 32], [16, 64]]
kernels = 3
shortcut_kernels = 1
pool = 8
"""
RequestsOf = Callable[..., SearchRequest]


@pytest.fixture
def images_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RequestsOf:
    """Makes requests for searches of a few 32x32 images; resnet20 is a design of their space."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        folder = Path("images/train") / name
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    Path("space.toml").write_text(SPACE)
    plain = {
        "max_parameters": 20_000_000,
        "trials": 2,
        "dataset": "folder",
        "data_dir": Path("images"),
        "study": "known",
        "epochs": 1,
        "space": Path("space.toml"),
        "pruner": "none",
    }
    return lambda **changes: SearchRequest(**{**plain, **changes})


def trials_of(path: str = "studies/known.db") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="known", storage=f"sqlite:///{path}").trials


def test_which_presets_are_designs_of_the_space() -> None:
    space = default_space(CIFAR)
    inside = {name for name, design in PRESETS.items() if space.values_of(design)}
    assert {"resnet10", "resnet20", "flexres22-2"} <= inside
    assert {"flexres18", "resnet18-narrow-stem"}.isdisjoint(inside)
    for name in inside:
        found = space.values_of(PRESETS[name])
        assert found is not None
        assert space.architecture(*found).key == PRESETS[name].key
    few = default_space(CIFAR, stages=(3,))
    assert few.values_of(PRESETS["resnet10"]) is None


def test_presets_come_first_and_inside_the_space_have_its_parameters(
    images_of: RequestsOf,
) -> None:
    result = run_search(images_of(trials=2, enqueue=("resnet20",)))
    first, second = result.study.trials
    assert (first.preset, second.preset) == ("resnet20", None)
    assert first.architecture == PRESETS["resnet20"]
    assert first.design == f"{PRESETS['resnet20']} (resnet20)"
    assert set(trials_of()[0].params) == {
        *("stages", "pool", "shortcut_kernels_2", "shortcut_kernels_3"),
        *(f"{name}_{i}" for name in ("blocks", "channels", "kernels") for i in (1, 2, 3)),
    }
    again = run_search(images_of(trials=3, enqueue=("resnet20",)))
    assert [t.preset for t in again.study.trials if t.architecture] == ["resnet20", None, None]


def test_a_preset_outside_the_space_has_attributes_only_and_comes_back_whole(
    images_of: RequestsOf, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = PRESETS["resnet18-narrow-stem"]
    assert main([*command(), "--trials", "1", "--enqueue", "resnet18-narrow-stem"]) == 0
    assert "(resnet18-narrow-stem)" in capsys.readouterr().out
    (trial,) = trials_of()
    with closing(sqlite3.connect("studies/known.db")) as database:
        query = "SELECT value_json FROM study_user_attributes WHERE key = 'command'"
        (kept,) = database.execute(query).fetchone()
    assert " --enqueue resnet18-narrow-stem" in json.loads(kept)
    assert trial.params == {}
    assert trial.user_attrs["preset"] == "resnet18-narrow-stem"
    assert trial.user_attrs["key"] == strange.key
    assert {"blocks", "channels", "kernels", "shortcut_kernels", "pool"} <= set(trial.user_attrs)
    study = read_study(images_of().location_for("folder"))
    assert study.trials[0].architecture == strange
    assert study.trials[0].outcome is Outcome.TRAINED
    assert "resnet18-narrow-stem" in render(study)
    more = run_search(images_of(trials=3, enqueue=("resnet18-narrow-stem", "resnet20")))
    assert [t.preset for t in more.study.trials][:2] == ["resnet18-narrow-stem", "resnet20"]
    with served(more.location, Path()) as dashboard:
        shown = dashboard.detail()
    assert [t["state"] for t in shown["trials"]] == ["Complete"] * 3
    train = ["train", "--study", "known", "--trial", "0", "--data-dir", "images", "--epochs", "1"]
    assert main([*train, "--dataset", "folder"]) == 0
    assert f"{strange}: " in capsys.readouterr().err


def command() -> list[str]:
    return [
        *("search", "--budget", "20M", "--dataset", "folder", "--data-dir", "images"),
        *("--study", "known", "--epochs", "1", "--space", "space.toml", "--pruner", "none"),
    ]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_without_parameters_disturbs_no_sampler_and_no_importance(sampler: str) -> None:
    study = optuna.create_study(direction="maximize")
    choices = {"x": IntDistribution(1, 9), "y": CategoricalDistribution((16, 157))}
    study.sampler = make_sampler(sampler, seed=0, domain=Domain(search_space=choices))
    for number in range(18):
        if number in (0, 12):
            queue_again(study, study.ask({}))
            study.tell(study.ask(), 1.0)
        else:
            trial = study.ask()
            x, y = trial.suggest_int("x", 1, 9), trial.suggest_categorical("y", (16, 157))
            study.tell(trial, x - abs(y - 16) / 100)
    proposed = [tuple(t.params.values()) for t in study.trials if t.params]
    assert len(proposed) == len(set(proposed)) == 16
    importances = optuna.importance.get_param_importances(study)
    assert set(importances) == {"x", "y"}
    assert importances["x"] > 0


def test_what_is_trained_queued_or_the_same_network_is_not_queued_again(
    images_of: RequestsOf,
) -> None:
    wanted = ("resnet10", "flexres10", "resnet20")

    def interrupt(event: EpochEnded) -> None:
        if event.number == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(images_of(enqueue=wanted), on(EpochEnded, interrupt))
    result = run_search(images_of(enqueue=wanted))
    assert [t.preset for t in result.study.trials] == ["resnet10", "resnet20", "resnet10"]
    assert result.study.trained == 2
    assert all(t.architecture == PRESETS[t.preset or ""] for t in result.study.trials)


def test_a_preset_that_was_refused_for_its_latency_waits_for_another_measurement() -> None:
    study, presets = optuna.create_study(), {"resnet20": PRESETS["resnet20"]}
    slow = {PRESETS["resnet20"].key: [6.0, 1.0, 1.0, 1.0, 1.0]}
    table = LatencyTable(5.0, CIFAR, slow)
    enqueue_presets(study, presets, default_space(CIFAR), (), set(), table)
    refused = study.ask()
    refused.set_user_attr("outcome", Outcome.OVER_BUDGET)
    study.tell(refused, state=TrialState.PRUNED)
    enqueue_presets(study, presets, default_space(CIFAR), (), set(), table)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED]
    table.learn({})  # as --latency-anew does
    enqueue_presets(study, presets, default_space(CIFAR), (), set(), table)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.WAITING]


def test_presets_are_queued_again_when_the_transaction_that_queued_them_fails(
    images_of: RequestsOf,
) -> None:
    def fail(connection: sqlalchemy.Connection) -> None:
        sqlalchemy.event.remove(sqlalchemy.Engine, "commit", fail)
        raise sqlite3.OperationalError("database is locked")

    def fail_the_next(event: Opened) -> None:
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", fail)

    events: list[DatabaseGone] = []
    request = images_of(trials=2, enqueue=("resnet20",))
    result = run_search(request, each(on(Opened, fail_the_next), on(DatabaseGone, events.append)))
    assert len(events) == 1
    assert [t.preset for t in result.study.trials] == ["resnet20", None]


def test_a_preset_above_the_mult_adds_of_its_study_is_left_out(images_of: RequestsOf) -> None:
    def interrupt(event: TrialStarted) -> None:
        raise KeyboardInterrupt  # so that nothing says yet how long a trial takes

    plain = {"space": None, "max_parameters": 300_000, "trials": 1}
    first = images_of(**plain, time="1h", max_mult_adds=10**7)
    with pytest.raises(KeyboardInterrupt):
        run_search(first, on(TrialStarted, interrupt))
    events: list[Warned] = []
    request = images_of(**plain, time="none", enqueue=("resnet20",))
    result = run_search(request, on(Warned, events.append))
    assert result.study.trained == 1
    assert "resnet20" not in {t.preset for t in result.study.trials}
    (said,) = [event.warning for event in events if "excludes" in event.warning]
    assert said == (
        "the study's limit of 10,000,000 mult-adds excludes resnet20; a new study with a higher "
        "--max-mult-adds admits them"
    )


def test_they_are_trained_as_the_recipe_says_when_training_is_tuned(
    images_of: RequestsOf,
) -> None:
    names = ("resnet20", "resnet10")
    result = run_search(images_of(trials=2, enqueue=names, tune=("lr", "batch-size")))
    recipe = fast(Task(CIFAR, 10, True))
    own = {name: real_values(recipe)[name] for name in ("lr", "batch_size")}
    for trial in result.study.trials:
        assert {name: trial.training[name] for name in own} == own
    inside, outside = trials_of()
    assert inside.params["lr_factor"] == 1
    assert outside.params == {}
    again = run_search(images_of(trials=3, enqueue=names, tune=("lr", "batch-size")))
    assert again.study.trials[2].preset is None


def test_a_space_that_is_tried_whole_still_trains_presets(images_of: RequestsOf) -> None:
    Path("space.toml").write_text("stages = 1\nblocks = 1\nchannels = 4\nkernels = 3\npool = 8\n")
    assert run_search(images_of(trials=5)).study.trained == 1
    assert run_search(images_of(trials=5, enqueue=("resnet20",))).study.trained == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "digits"}, r"can read 1x8x8, 10 classes, got resnet20: pool must be in 1..2"),
        (
            {"dataset": "auto", "max_parameters": 200_000},
            r"200,000 .*got resnet20 with 272,474",
        ),
        (
            {"dataset": "cifar10", "max_mult_adds": 10**7},
            r"most 10,000,000 mult-adds \(--max-mult-adds\), got resnet20 with 40,",
        ),
    ],
)
def test_presets_that_cannot_be_trained_are_refused_at_the_start(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    plain = {"max_parameters": 5_000_000, "trials": 1, "studies_dir": tmp_path}
    request = SearchRequest(**{**plain, **changes}, enqueue=("resnet20",))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=f"--enqueue: expected designs.*{said}"):
        request.check()


def test_an_unknown_preset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--budget", "5M", "--enqueue", "resnet20", "resnet99"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --enqueue: expected one of resnet18, resnet10, ")
    assert "got 'resnet99'; did you mean resnet" in line


def test_the_best_designs_of_an_earlier_study_come_first_where_they_fit(
    images_of: RequestsOf,
) -> None:
    earlier = run_search(images_of(trials=8, study="earlier", enqueue=("resnet20",))).study
    most = sorted(t.parameters or 0 for t in earlier.ranking)[5]
    fitting = [t for t in earlier.ranking if (t.parameters or 0) <= most]
    assert len(fitting) == 6
    limited = images_of(trials=7, max_parameters=most, like="earlier", epochs=2)
    found = run_search(limited).study
    assert [t.preset for t in found.trials] == [
        *(f"trial {t.number} of earlier" for t in fitting[:5]),
        None,
        None,
    ]
    assert [t.architecture for t in found.trials][:5] == [t.architecture for t in fitting[:5]]
    designs = [t.architecture.key for t in found.trials if t.architecture]
    assert len(set(designs)) == 7
    again = run_search(images_of(trials=8, max_parameters=most, like="earlier", epochs=2)).study
    assert [t.preset for t in again.trials] == [*(t.preset for t in found.trials), None]
    assert "trial " in render(again)


def test_a_preset_that_an_earlier_study_found_too_is_queued_once(images_of: RequestsOf) -> None:
    run_search(images_of(trials=1, study="earlier", enqueue=("resnet20",)))
    both = run_search(images_of(trials=2, enqueue=("resnet20",), like="earlier")).study
    assert [t.preset for t in both.trials] == ["resnet20", None]


@pytest.mark.parametrize(
    ("like", "limits", "said"),
    [
        ("nothing", (), "expected a study, got no such file"),
        ("a/b", (), "--like: expected a name of the letters"),
        ("earlier", ("--budget", "1000"), "--like: expected a study with a design that is in"),
    ],
)
def test_a_study_that_nothing_can_be_taken_from_is_one_line(
    images_of: RequestsOf,
    capsys: pytest.CaptureFixture[str],
    like: str,
    limits: tuple[str, ...],
    said: str,
) -> None:
    run_search(images_of(trials=1, study="earlier", enqueue=("resnet20",)))
    assert main([*command(), "--like", like, *limits]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not Path("studies/known.db").exists()
