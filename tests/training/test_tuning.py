"""Training choices of a search: what they are, what they give, and how a study keeps them."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from nas.architecture import PRESETS, ImageInput
from nas.commands import main
from nas.errors import RequestError
from nas.report.page import render
from nas.search.run import SearchEnding, SearchResult, run_search
from nas.study.location import StudyError
from nas.study.records import StudySettings
from nas.study.settings import differences, settings_from_json, settings_to_json
from nas.training.config import RECIPES, Augment, Task, fast, precision_of
from nas.training.optimizers import Optimizer
from nas.training.tuning import (
    REAL_VALUES,
    TUNABLE,
    Choice,
    check_names,
    defaults,
    policy,
    real_values,
    training_choices,
    trial_key,
    tuned,
    usual_rate,
)
from tests.kits.places import ROOT
from tests.kits.studies import RequestOf

CIFAR = Task(ImageInput(channels=3, height=32, width=32, classes=10), 45_000, True)
DIGITS = Task(ImageInput(channels=1, height=8, width=8, classes=10), 1_150, False)
TASKS = pytest.mark.parametrize("task", [CIFAR, DIGITS], ids=["cifar10", "digits"])


def choice(name: str, task: Task = CIFAR) -> Choice:
    (found,) = training_choices(fast(task), task, [name])
    return found


@TASKS
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_default_of_every_choice_gives_the_recipe_itself(recipe: str, task: Task) -> None:
    config = RECIPES[recipe](task)
    choices = training_choices(config, task, TUNABLE)
    assert all(c.default in c.values for c in choices)
    assert tuned(config, defaults(choices), task) == config
    assert tuned(config, {}, task) == config


@TASKS
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_value_of_every_choice_is_a_recipe_of_its_own(recipe: str, task: Task) -> None:
    config = RECIPES[recipe](task)
    for found in training_choices(config, task, TUNABLE):
        recipes = {tuned(config, {found.name: value}, task) for value in found.values}
        assert len(recipes) == len(found.values) > 1, found


def test_names_are_known_and_in_one_order() -> None:
    assert check_names(["augment", "lr", "lr"]) == ("lr", "augment")
    with pytest.raises(ValueError, match=r"expected one of lr, optimizer.*got 'lx'"):
        check_names(["lx"])
    with pytest.raises(ValueError, match="got 'rate'"):
        tuned(fast(CIFAR), {"rate": 1}, CIFAR)


def test_the_rate_is_a_factor_of_the_usual_one_at_that_batch() -> None:
    config = fast(CIFAR)  # muon 0.2 in batches of 128
    assert choice("lr").values == (0.25, 0.5, 1.0, 2.0, 4.0)
    assert tuned(config, {"lr_factor": 0.5}, CIFAR).lr == 0.1
    assert tuned(config, {"batch_size": 32}, CIFAR).lr == pytest.approx(0.1)
    assert tuned(config, {"batch_size": 32, "lr_factor": 4.0}, CIFAR).lr == pytest.approx(0.4)
    nesterov = dataclasses.replace(config, optimizer=Optimizer.NESTEROV, lr=0.4)
    assert tuned(nesterov, {"batch_size": 32}, CIFAR).lr == pytest.approx(0.1)  # in proportion
    assert usual_rate(nesterov, Optimizer.SGD, 128) == nesterov.lr  # they share a rate
    assert tuned(config, {"optimizer": "sgd", "batch_size": 512}, CIFAR).lr == pytest.approx(0.4)
    assert tuned(config, {"optimizer": "adam", "batch_size": 512}, CIFAR).lr == pytest.approx(0.002)
    assert tuned(config, {"optimizer": "adadelta", "batch_size": 32}, CIFAR).lr == 0.1


def test_an_optimizer_of_another_family_has_its_usual_momentum() -> None:
    muon = dataclasses.replace(fast(CIFAR), momentum=0.7)
    momenta = {o: tuned(muon, {"optimizer": o.value}, CIFAR).momentum for o in Optimizer}
    assert momenta[Optimizer.MUON] == 0.7  # the recipe's own
    assert momenta[Optimizer.SGD] == momenta[Optimizer.NESTEROV] == 0.9
    long = RECIPES["long"](CIFAR)
    assert tuned(long, {"optimizer": "muon"}, CIFAR).momentum == fast(CIFAR).momentum == 0.85


def test_batches_fit_the_images_and_a_batch_norm() -> None:
    assert choice("batch-size").values == (32, 64, 128, 256)
    few = dataclasses.replace(DIGITS, train_images=70)
    assert choice("batch-size", few).values == (16, 32, 64)
    small = dataclasses.replace(fast(CIFAR), batch_size=16)
    (found,) = training_choices(small, CIFAR, ["batch-size"])
    assert found.values == (8, 16, 32)


def test_images_are_flipped_only_where_a_mirror_image_shows_the_same() -> None:
    assert set(choice("augment").values) == {
        "none",
        "crop+flip",
        "crop+flip+cutout",
        "crop+flip+mixup",
        "crop+flip+cutmix",
        "crop+flip+trivialaugment",
    }
    assert not any("flip" in str(value) for value in choice("augment", DIGITS).values)
    none = tuned(fast(CIFAR), {"augment": "none"}, CIFAR)
    assert (none.augment, policy(none.augment)) == ((), "none")
    cut = tuned(fast(DIGITS), {"augment": "crop+cutout"}, DIGITS)
    assert cut.augment == (Augment.CROP, Augment.CUTOUT)
    assert (cut.cutout_size, cut.crop_padding) == (4, fast(DIGITS).crop_padding)  # of 8 pixels


def test_a_trial_is_a_design_and_how_it_is_trained() -> None:
    design = PRESETS["resnet20"]
    assert trial_key(design, {}) == design.key
    keys = {trial_key(design, {"lr_factor": f, "batch_size": b}) for f in (1, 2) for b in (64, 128)}
    assert len(keys) == 4
    assert trial_key(design, {"batch_size": 64, "lr_factor": 2}) == trial_key(
        design, {"lr_factor": 2, "batch_size": 64}
    )


def test_docs_name_every_optimizer() -> None:
    docs = (ROOT / "docs/search.md").read_text(encoding="utf-8")
    assert f"| {', '.join(Optimizer)}, each at its usual rate and momentum |" in docs


def test_it_needs_no_torch() -> None:
    code = "import sys, nas.training.tuning; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_tuned_study_says_how_every_trial_was_trained(request_of: RequestOf) -> None:
    result = run_search(request_of(trials=11, tune=TUNABLE, subset=0.05))
    assert result.study.trained == 11
    study = optuna.load_study(study_name=result.study.name, storage=result.location.url)
    config = fast(dataclasses.replace(DIGITS, train_images=result.study.settings.train_images))
    for trial in study.trials:
        assert {"lr_factor", "optimizer", "batch_size", "augment"} <= set(trial.params)
        values = {c: trial.params[c] for c in ("lr_factor", "optimizer", "batch_size", "augment")}
        real = real_values(tuned(config, values, DIGITS))
        assert {name: trial.user_attrs[name] for name in REAL_VALUES} == real
    assert [dict(t.training) for t in result.study.trials] == [
        {name: t.user_attrs[name] for name in REAL_VALUES} for t in study.trials
    ]
    assert len({t.user_attrs["key"] for t in study.trials}) == 11
    page = render(result.study)
    assert "Tuned in it" in page
    assert f"batch {study.best_trial.user_attrs['batch_size']}" in page


def test_a_trial_is_trained_again_as_it_was(
    request_of: RequestOf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = request_of(trials=3, tune=TUNABLE, subset=0.1, pruner="none", epochs=2)
    result = run_search(asked)
    stored = optuna.load_study(study_name=result.study.name, storage=result.location.url)
    task = dataclasses.replace(DIGITS, train_images=result.study.settings.train_images)
    names = ("lr_factor", "optimizer", "batch_size", "augment")
    train = ["train", "--study", result.study.name, "--studies-dir", str(asked.studies_dir)]
    train += ["--subset", "0.1", "--json"]
    for trial in stored.trials:
        values = {name: trial.params[name] for name in names}
        recipe = dataclasses.replace(
            tuned(fast(task), values, task),
            epochs=2,
            precision=precision_of(result.study.settings.recipe),
        )
        again = ["--trial", str(trial.number), "--out", str(tmp_path / str(trial.number))]
        assert main([*train, *again]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["recipe"] == recipe.to_dict()
        assert found["epochs"][-1]["val_accuracy"] == pytest.approx(trial.value)
    kept = ("optimizer", "batch_size", "augment")
    plain = {name: real_values(fast(task))[name] for name in kept}
    other = next(t for t in result.study.trials if {n: t.training[n] for n in kept} != plain)
    own = ["--trial", str(other.number), "--out", str(tmp_path / "own")]
    assert main([*train, *own, "--lr", "0.3", "--epochs", "1"]) == 0
    found = json.loads(capsys.readouterr().out)["recipe"]
    assert (found["lr"], found["epochs"]) == (0.3, 1)
    assert policy(found.pop("augment")) == other.training["augment"]
    assert [found[name] for name in kept[:2]] == [other.training[name] for name in kept[:2]]


def test_a_plain_study_says_nothing_of_training(one_trial: SearchResult) -> None:
    assert one_trial.study.settings.tuning == {}
    assert one_trial.study.trials[0].training == {}
    assert "Tuned in it" not in render(one_trial.study)


def test_one_design_with_all_its_trainings_is_a_space_that_ends(
    request_of: RequestOf, tmp_path: Path
) -> None:
    space = tmp_path / "one.toml"
    space.write_text("stages = 1\nblocks = 1\nchannels = 4\nkernels = 3\npool = 8\n")
    request = request_of(trials=50, space=space, tune=("lr",), subset=0.05, pruner="none")
    result = run_search(request)
    assert result.ending is SearchEnding.EXHAUSTED
    assert len({t.training["lr"] for t in result.study.trials if t.val_accuracy}) == 5


@pytest.mark.usefixtures("one_trial")
def test_what_is_tuned_belongs_to_a_study(request_of: RequestOf) -> None:
    with pytest.raises(
        StudyError, match=r"rate \(--tune lr\): the study has none, this search 0.25, "
    ):
        run_search(request_of(trials=2, tune=("lr",)))
    run_search(request_of(trials=1, study="tuned", tune=("lr",)))
    with pytest.raises(
        StudyError, match=r"--tune lr\): the study has 0.25, 0.5, 1.0, 2.0, 4.0, this search none"
    ):
        run_search(request_of(trials=2, study="tuned"))
    assert run_search(request_of(trials=2, study="tuned", tune=("lr",))).newly_trained == 1


def test_settings_of_older_studies_stay_readable(one_trial: SearchResult) -> None:
    now = one_trial.study.settings
    older = {name: value for name, value in settings_to_json(now).items() if name != "tuning"}
    read: StudySettings = settings_from_json(json.loads(json.dumps(older)))
    assert differences(read, now) == []


def test_the_option(
    request_of: RequestOf,
    tiny_space: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny_space.parent)
    with pytest.raises(RequestError, match="--tune: expected one of"):
        request_of(tune=("batch_size",))
    plain = ["search", "--budget", "5M", "--dataset", "digits"]
    assert main([*plain, "--tune", "lr,,augment"]) == 2
    assert "error: --tune: expected comma-separated names" in capsys.readouterr().err
    fast_one = [*plain, "--epochs", "1", "--subset", "0.1", "--space", "tiny.toml", "--trials", "2"]
    assert main([*fast_one, "--tune", "augment,lr"]) == 0
    assert re.search(r"^ +1 .*\n +.*nesterov", capsys.readouterr().out, re.MULTILINE)
    assert main([*fast_one, "--tune", "lr,augment", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["incumbent"]
    assert set(REAL_VALUES) <= set(best)
    report = Path("reports/digits-5M.html").read_text()
    assert "--tune augment,lr" in report
