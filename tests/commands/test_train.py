"""`nas train`: the table, the files, and a run that is killed and goes on exactly."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from nas.architecture import Architecture, ImageInput
from nas.commands import main
from nas.data.loading import load_dataset
from nas.model import build
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.training.checkpoint import load_checkpoint
from nas.training.config import DEFAULTS, Augment
from nas.training.evaluation import evaluate
from nas.training.optimizers import Optimizer
from tests.kits import warm
from tests.kits.commands import error_of
from tests.kits.images import write_parts
from tests.kits.places import ROOT
from tests.kits.studies import TINY_SPACE
from tests.kits.waiting import PATIENCE, wait_until

DESIGN = ["--blocks", "1,1", "--channels", "8,16", "--pool", "4"]
DIGITS = ["--dataset", "digits", "--subset", "0.2"]
EPOCHS = 20  # of runs that are killed long before their end
RICH = [
    *(*DESIGN, "--dataset", "digits", "--epochs", str(EPOCHS), "--ema", "0.95"),
    *("--augment", "crop,alternating-flip,trivialaugment,cutout,mixup"),
]


pytestmark = pytest.mark.usefixtures("own_directory")


def train(*arguments: str) -> int:
    return main(["train", *DESIGN, *DIGITS, "--out", "run", *arguments])


def test_prints_the_table_and_keeps_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "epoch",
        "train",
        "loss",
        "validation",
        "loss",
        "accuracy",
        "images/s",
    ]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2, 3]
    for line, epoch in zip(lines[1:4], metrics["epochs"], strict=True):
        assert line.split()[3] == f"{epoch['val_accuracy']:.2%}"
    assert metrics["best"] == max(metrics["epochs"], key=lambda epoch: epoch["val_accuracy"])
    assert "<html" in Path("run/curves.html").read_text()
    assert sorted(path.name for path in Path("run").glob("[!.]*")) == [
        *("best.pt", "curves.html", "last.pt", "metrics.json")
    ]


def test_other_images_have_another_folder() -> None:
    for subset in ("0.2", "1"):
        images = ["--dataset", "digits", "--subset", subset]
        assert main(["train", *DESIGN, *images, "--epochs", "1"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "B1.1-C8.16-F3.3-K1.1-P4-digits-fast-epochs-1-seed0",
        "B1.1-C8.16-F3.3-K1.1-P4-digits-subset-0.2-fast-epochs-1-seed0",
    ]


def test_one_process_trains_in_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    with FileLock("run/.lock"):
        for resume in ([], ["--resume"]):
            said = error_of(capsys, train("--epochs", "1", *resume))
            assert "expected a folder that no other process trains in, got run; wait" in said
    assert [path.name for path in Path("run").iterdir()] == [".lock"]
    assert train("--epochs", "1") == 0


def test_the_best_checkpoint_has_the_accuracy_it_says(tmp_path: Path) -> None:
    assert train("--epochs", "4", "--ema", "0.9") == 0
    best = load_checkpoint(Path("run/best.pt"))
    design = Architecture(**best["architecture"])
    dataset = load_dataset("digits", tmp_path)
    model = build(design, ImageInput(**best["input"]))
    model.load_state_dict(best["model"])
    measured = evaluate(model, dataset.validation, dataset)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert measured.accuracy == metrics["best"]["val_accuracy"]
    assert design.key == "B1,1 C8,16 F3,3 K1,1 P4"


@pytest.mark.parametrize("optimizer", Optimizer)
def test_every_optimizer_can_be_asked_for(optimizer: str) -> None:
    assert train("--epochs", "1", "--optimizer", optimizer, "--lr", "0.01") == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["recipe"]["optimizer"] == optimizer
    assert metrics["recipe"]["lr"] == 0.01


@pytest.mark.parametrize("augment", ["none", "standard", "standard,mixup", *Augment])
def test_every_augmentation_can_be_asked_for(augment: str) -> None:
    assert train("--epochs", "1", "--augment", augment, "--batch-size", "32") == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    expected = augment.replace("none", "").replace("standard", "crop")  # digits are not flipped
    assert ",".join(metrics["recipe"]["augment"]) == expected


@pytest.mark.parametrize("recipe", ["long", "he2016", "pytorch-cifar", "flexres", "plain"])
def test_every_recipe_can_be_shortened(recipe: str) -> None:
    assert train("--recipe", recipe, "--epochs", "1") == 0


def test_trains_a_design_of_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(TINY_SPACE)
    fast = ["--space", "tiny.toml", "--epochs", "1", "--subset", "0.1"]
    assert main(["search", "--budget", "5M", "--trials", "2", "--dataset", "digits", *fast]) == 0
    capsys.readouterr()
    plain = ["train", "--study", "digits-5M"]
    assert main([*plain, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)
    assert best["dataset"] == "digits"
    assert (best["recipe"]["epochs"], best["subset"]) == (1, 0.1)  # as the study was searched
    assert (
        main(["search", "--budget", "5M", "--trials", "2", "--dataset", "digits", *fast, "--json"])
        == 0
    )
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert best["parameters"] == ranking[0]["parameters"]
    assert main([*plain, "--trial", str(ranking[1]["trial"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == ranking[1]["parameters"]
    assert "--trial: expected best or the number" in error_of(
        capsys, main([*plain, "--trial", "99"])
    )
    photos = ["--dataset", "folder", "--data-dir", str(write_parts())]
    assert main([*plain, *photos, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subset"] == 1  # that of the study is of the digits


def test_a_trial_of_an_older_study_has_the_recipe_of_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(ROOT / "studies", "studies")
    settings = read_study(StudyLocation.at("digits-example", studies_dir=Path("studies"))).settings
    short = ["train", "--study", "digits-example", "--epochs", "1", "--subset", "0.2", "--json"]
    for named in ([], ["--recipe", "fast", "--out", "named"]):
        assert main([*short, *named]) == 0
        found = json.loads(capsys.readouterr().out)["recipe"]
        as_before = found == {**DEFAULTS, **settings.recipe, "epochs": 1}
        assert as_before == (not named), found


def test_a_run_goes_on_with_the_recipe_it_began_with(capsys: pytest.CaptureFixture[str]) -> None:
    before = ["--epochs", "2", "--optimizer", "nesterov", "--momentum", "0.9", "--augment", "none"]
    assert train(*before) == 0
    metrics = Path("run/metrics.json").read_text()
    for same in (before, ["--augment", "none"], []):
        assert train(*same, "--resume") == 0
        assert Path("run/metrics.json").read_text() == metrics
    capsys.readouterr()
    assert "epochs 2 before, 10 now" in error_of(capsys, train("--recipe", "fast", "--resume"))


def test_the_page_names_the_recipe_that_a_run_began_with() -> None:
    assert train("--recipe", "he2016", "--epochs", "1") == 0
    assert recipe_on_the_page() == "he2016"
    assert train("--resume") == 0
    assert recipe_on_the_page() == "that the run began with"


def recipe_on_the_page() -> str:
    words = re.sub(r"(<[^>]*>|\s)+", " ", Path("run/curves.html").read_text())
    named = re.search(" recipe (.*?) epochs 1 ", words)
    assert named is not None
    return named[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lr", "-1"], "lr must be above 0, got -1.0"),
        (["--lr", "fast"], "--lr: expected a number"),
        (["--augment", "mixup,blur"], "got 'blur'"),
        (["--augment", "mixup,cutmix"], "one of mixup and cutmix"),
        (["--ema", "2"], "ema must be above 0 and below 1"),
        (["--recipe", "secret"], "'secret'"),
        (["--optimizer", "lion"], "'lion'"),
        (["--preset", "resnet20"], "expected --preset or the fields of a design"),
        (["--study", "x"], "expected --study or --blocks"),
        (["--pool", "9"], "pool must be in 1..4"),
        (["--device", "gpu"], "--device: expected auto, cpu or a CUDA device"),
    ],
)
def test_bad_options_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in error_of(capsys, train(*arguments))
    assert not Path("run").exists()


def test_a_run_is_not_written_over_and_goes_on_only_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--epochs", "2") == 0
    before = Path("run/last.pt").read_bytes()
    capsys.readouterr()
    assert "continue it with --resume" in error_of(capsys, train("--epochs", "2"))
    said = error_of(capsys, train("--epochs", "3", "--lr", "0.3", "--resume"))
    assert "epochs 2 before, 3 now; lr 0.2 before, 0.3 now" in said
    assert Path("run/last.pt").read_bytes() == before
    assert train("--epochs", "2", "--resume") == 0
    assert "best    " in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no checkpoint at all"])
def test_a_damaged_checkpoint_is_one_line(
    capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    Path("run").mkdir()
    Path("run/last.pt").write_bytes(content)
    said = error_of(capsys, train("--epochs", "2", "--resume"))
    assert "run/last.pt: expected a checkpoint" in said
    assert said.endswith(
        "; remove its folder and start without --resume, or name another folder with --out"
    )
    assert Path("run/last.pt").read_bytes() == content


def test_a_checkpoint_of_another_kind_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1") == 0
    Path("run/last.pt").write_bytes(Path("run/best.pt").read_bytes())
    capsys.readouterr()
    said = error_of(capsys, train("--epochs", "1", "--resume"))
    assert "a checkpoint of another kind" in said


def test_lost_metrics_are_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "2") == 0
    before = Path("run/metrics.json").read_text()
    Path("run/metrics.json").unlink()
    assert train("--epochs", "2", "--resume") == 0
    assert Path("run/metrics.json").read_text() == before
    Path("run/last.pt").unlink()
    capsys.readouterr()
    said = error_of(capsys, train("--epochs", "2", "--resume"))
    assert said.endswith("with other files of a run; remove them, or name another folder")


def test_what_a_killed_process_did_not_write_is_made_of_the_last_checkpoint() -> None:
    assert train("--epochs", "1") == 0
    rest = [Path("run/best.pt"), Path("run/metrics.json")]
    before = [path.read_bytes() for path in rest]
    for path in rest:
        path.unlink()
    assert train("--epochs", "1", "--resume") == 0
    assert same(load_checkpoint(rest[0]), torch.load(io.BytesIO(before[0]), weights_only=True))
    assert rest[1].read_bytes() == before[1]


def test_a_design_that_cannot_read_the_images_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--preset", "resnet20", "--dataset", "digits"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(
        "error: expected a design that can read 1x8x8, 10 classes, got B3,3,3 "
    )
    assert message.count("\n") == 1


def test_what_torch_cannot_train_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    one = ["--blocks", "1,1,1,1", "--channels", "4", "--pool", "1", "--out", "one"]
    assert main(["train", *one, *DIGITS, "--epochs", "1", "--batch-size", "1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: training failed: ")


def test_an_unexpected_error_of_torch_is_not_blamed_on_the_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("of another kind")

    monkeypatch.setattr("torch.nn.functional.cross_entropy", broken)
    with pytest.raises(RuntimeError, match="of another kind"):
        train("--epochs", "1")


def start(out: str, *arguments: str) -> "subprocess.Popen[str]":
    return warm.Popen[str](
        [sys.executable, "-m", "nas.train", *RICH, "--out", out, *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_epochs(process: "subprocess.Popen[str]", folder: str, epochs: int) -> None:
    path = Path(folder, "metrics.json")
    wait_until(
        lambda: path.exists() and len(json.loads(path.read_text())["epochs"]) >= epochs, process
    )


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal, every tensor bit for bit; times are not compared."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        keys = [k for k in first if k not in ("seconds", "images_per_second")]
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in keys)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.mark.slow
def test_a_killed_run_continued_equals_one_that_was_not() -> None:
    assert main(["train", *RICH, "--out", "whole"]) == 0
    for epochs, pause in ((2, 0.0), (5, 0.08)):  # right after a checkpoint, and within an epoch
        process = start("parts", "--resume")
        wait_for_epochs(process, "parts", epochs)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(load_checkpoint(Path("parts/last.pt"))["run"]["history"]) < EPOCHS
    assert main(["train", *RICH, "--out", "parts", "--resume"]) == 0
    for name in ("last.pt", "best.pt"):
        assert same(load_checkpoint(Path("whole", name)), load_checkpoint(Path("parts", name)))
    names = [{path.name for path in Path(name).iterdir()} for name in ("whole", "parts")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on() -> None:
    process = start("run")
    wait_for_epochs(process, "run", 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; the same command with --resume continues"
