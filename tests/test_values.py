"""Values as Python programs give them: NumPy's and torch's scalars, huge numbers, bools, NaN."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nas
from nas import values
from nas.commands import arguments, make_parser
from nas.study.settings import settings_to_json

INPUT = nas.ImageInput(channels=3, height=32, width=32, classes=10)
DESIGN = {
    "blocks": (1, 1),
    "channels": (8, 16),
    "kernels": (3, 3),
    "shortcut_kernels": (1, 1),
    "pool": 4,
}
SPACE = {
    "input": INPUT,
    "stages": (2,),
    "blocks": ((1,), (1,)),
    "channels": ((8,), (16,)),
    "kernels": ((3,), (3,)),
    "shortcut_kernels": ((1,), (1,)),
    "pool": (4,),
}
MADE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "search": (nas.SearchRequest, {"max_parameters": 5_000_000, "trials": 3}),
    "final": (nas.FinalRequest, {"study": "some"}),
    "recipe": (nas.TrainingConfig, {"epochs": 1, "batch_size": 8, "lr": 0.1}),
    "limits": (nas.Limits, {"max_parameters": 5_000_000}),
    "image": (nas.ImageInput, {"channels": 3, "height": 8, "width": 8, "classes": 2}),
    "design": (nas.Architecture, DESIGN),
    "space": (nas.SearchSpace, SPACE),
}
WHOLE = [
    *(("search", n) for n in ("max_parameters", "trials", "max_mult_adds", "epochs", "seed")),
    *(("search", n) for n in ("workers", "threads", "per_gpu")),
    *(("final", n) for n in ("top", "seeds", "epochs", "workers", "threads", "per_gpu")),
    *(("recipe", n) for n in ("epochs", "batch_size", "crop_padding", "cutout_size")),
    *(("search", n) for n in ("max_arena", "max_flash", "max_peak_ram")),
    *(("limits", n) for n in ("max_parameters", "max_mult_adds", "max_arena", "max_flash")),
    *(("image", n) for n in ("channels", "height", "width", "classes")),
    *(("design", n) for n in ("pool", "stem_channels")),
]
REAL = [
    ("search", "subset"),
    ("final", "subset"),
    *(("recipe", n) for n in ("lr", "momentum", "weight_decay", "warmup", "label_smoothing")),
    *(("recipe", n) for n in ("mix_alpha", "ema")),
]
SECONDS = [("search", "timeout"), ("search", "grace")]
FLAGS = [
    *(("search", n) for n in ("skip_broken", "drop_duplicates")),
    *(("final", n) for n in ("skip_broken", "drop_duplicates", "again")),
    *(("recipe", n) for n in ("decay_all", "ema_at_end", "zero_last_gamma")),
    *(("design", n) for n in ("stem_bias", "shortcut_norm")),
]


def make(what: str, **changes: object) -> Any:
    kind, plain = MADE[what]
    return kind(**{**plain, **changes})


NO_WHOLE: tuple[Any, ...] = (
    *(True, np.True_, torch.tensor(True), 2**70, 10**18 + 1, -1, 2.5, np.float32(3), "3", b"3"),
    *([3], np.array([3, 4]), float("nan"), torch.tensor(2.5), 1 + 2j),
)
NO_REAL: tuple[Any, ...] = (
    *(True, np.True_, float("nan"), np.float32("nan"), torch.tensor(float("nan")), float("inf")),
    *(-1, 10**400, "0.5", np.array([0.5, 0.5]), 0.5j, [0.5]),
)


@pytest.mark.parametrize(("what", "name"), WHOLE)
def test_whole_numbers_become_plain_or_are_refused(what: str, name: str) -> None:
    plain = make(what, **{name: 5})
    for kind in (np.int64, np.uint8, torch.tensor, np.array):
        made = make(what, **{name: kind(5)})
        assert type(getattr(made, name)) is int
        assert made == plain
    for value in NO_WHOLE:
        with pytest.raises(ValueError, match=rf"^{name} must be a whole number"):
            make(what, **{name: value})


@pytest.mark.parametrize(("what", "name"), [*REAL, *SECONDS])
def test_real_numbers_become_plain_or_are_refused(what: str, name: str) -> None:
    value = 8.0 if (what, name) in SECONDS else 0.5
    plain = make(what, **{name: value})
    for kind in (np.float32, np.float64, torch.tensor, np.array):
        made = make(what, **{name: kind(value)})
        assert type(getattr(made, name)) is float
        assert made == plain
    for refused in NO_REAL:
        with pytest.raises(ValueError, match=rf"^{name} must be "):
            make(what, **{name: refused})


@pytest.mark.parametrize(("what", "name"), FLAGS)
def test_switches_are_true_or_false(what: str, name: str) -> None:
    assert getattr(make(what, **{name: np.True_}), name) is True
    for value in (1, "yes", 0.0):
        with pytest.raises(ValueError, match=rf"^{name} must be True or False"):
            make(what, **{name: value})


def test_lists_of_other_libraries_become_plain() -> None:
    design = make("design", channels=np.array([8, 16]), kernels=[np.int64(3), 3])
    assert design == make("design")
    assert {type(value) for value in design.channels} == {int}
    space = make("space", channels=[np.array([8]), torch.tensor([16])], pool=np.array([4]))
    assert space == make("space")
    assert json.dumps(space.to_dict()) == json.dumps(make("space").to_dict())
    assert nas.default_space(INPUT, np.array([3, 2])) == nas.default_space(INPUT, (2, 3))  # type: ignore[arg-type]
    config = make("recipe", milestones=np.array([0.25, 0.5], dtype=np.float32))
    assert json.dumps(config.to_dict()) == json.dumps(
        make("recipe", milestones=(0.25, 0.5)).to_dict()
    )


@pytest.mark.parametrize(
    ("what", "changes", "said"),
    [
        ("search", {"enqueue": "resnet20"}, "enqueue must be a list of names, got 'resnet20'"),
        ("search", {"tune": "lr"}, "tune must be a list of names, got 'lr'"),
        ("search", {"study": 5}, "study must be a text, got 5"),
        ("search", {"data_dir": 5}, "data_dir must be a path, got 5"),
        ("search", {"sampler": "gpp"}, "sampler must be one of .*; did you mean gp?"),
        ("search", {"dataset": "cifar"}, "dataset must be one of .*; did you mean cifar10?"),
        (
            "search",
            {"enqueue": ["resnet21"]},
            "--enqueue: .*; did you mean resnet20?",
        ),
        ("search", {"tune": ["batchsize"]}, "--tune: .*; did you mean batch-size?"),
        ("search", {"precision": "float16"}, "precision must be one of .*; did you mean bfloat16?"),
        ("final", {"recipe": "lnog"}, "recipe must be one of .*; did you mean long?"),
        ("final", {"baselines": ["flexres"]}, "--baseline: .*; did you mean flexres"),
        ("final", {"study": None}, "study must be a text, got None"),
        ("recipe", {"optimizer": "adamm"}, "optimizer must be .*; did you mean adam"),
        ("recipe", {"milestones": 0.5}, "milestones must be a list of shares, got 0.5"),
        (
            "design",
            {"channels": {8, 16}},
            "channels must be a list of whole numbers",
        ),
        ("space", {"channels": 8}, "channels must be a list of choices, one per stage, got 8"),
        ("space", {"stages": (17,)}, "stages must be a whole number of at most 16, got 17"),
    ],
)
def test_other_values_are_refused_in_words(
    what: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{said.replace('?', '[?]')}"):
        make(what, **changes)


def test_paths_may_be_texts(tmp_path: Path) -> None:
    request = make("search", data_dir="data", studies_dir=str(tmp_path), space="space.toml")
    assert (request.data_dir, request.space) == (Path("data"), Path("space.toml"))
    assert request.studies_dir == tmp_path
    location = nas.StudyLocation.at("some", studies_dir=str(tmp_path))
    assert location == nas.StudyLocation.at("some", studies_dir=tmp_path)
    file = tmp_path / "space.toml"
    file.write_text("stages = 2\n")
    assert nas.load_space(str(file), INPUT) == nas.load_space(file, INPUT)
    scalars: dict[str, Any] = {"subset": np.float32(0.5), "split_seed": np.int64(1)}
    digits = nas.load_dataset("digits", str(tmp_path), **scalars)
    assert (type(digits.subset), type(digits.split_seed)) == (float, int)


@pytest.mark.parametrize(
    "line",
    [
        "channels = [64.0, true]",
        "channels = [true]",
        "blocks = 1180591620717411303424",
        "pool = {low = 1, high = 1180591620717411303424}",
        "stages = [2, nan]",
        "kernels = '3'",
    ],
)
def test_values_of_a_space_file_are_held_to_the_same(tmp_path: Path, line: str) -> None:
    file = tmp_path / "space.toml"
    file.write_text(line)
    with pytest.raises(ValueError, match=r"space\.toml: \w+ must be a .*whole number"):
        nas.load_space(file, INPUT)


@pytest.mark.parametrize(
    ("parse", "check", "texts"),
    [
        (arguments.whole_number, values.whole, ["0", "1", str(10**18), str(10**18 + 1), "-1"]),
        (arguments.seed, values.seed, ["0", "-1", str(10**18), str(10**18 + 1), str(2**70)]),
        (arguments.share, values.share, ["0", "1", "1.0001", "nan", "inf", "1e-9"]),
        (arguments.seconds, values.duration, ["0", "1e-3", "nan", "inf", "1e300"]),
        (arguments.real, values.real, ["nan", "inf", "-1", "0", "1e308"]),
    ],
)
def test_the_command_line_has_the_bounds_of_the_api(
    parse: Callable[[str], object], check: Callable[[str, object], object], texts: list[str]
) -> None:
    def taken(attempt: Callable[[], object]) -> object:
        try:
            return attempt()
        except (ValueError, argparse.ArgumentTypeError):
            return None

    for text in texts:
        number = int(text) if text.lstrip("-").isdigit() else float(text)
        assert taken(lambda: parse(text)) == taken(lambda: check("value", number))  # noqa: B023


def test_a_search_with_such_values_is_one_with_plain_values(
    request_of: Callable[..., nas.SearchRequest],
) -> None:
    changes = {"seed": np.int64(3), "subset": np.float32(0.25), "trials": np.int8(1)}
    result = nas.run_search(request_of(**changes, max_parameters=torch.tensor(5_000_000)))
    assert result.study.trained == 1
    assert json.dumps(settings_to_json(result.study.settings))
    assert result.study.seed == 3
    again = nas.run_search(request_of(seed=3, subset=0.25, trials=1))
    assert dataclasses.replace(again, newly_trained=1).study.settings == result.study.settings
    assert again.newly_trained == 0


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("search", "--budget 5M", nas.SearchRequest(max_parameters=5_000_000)),
        ("final", "--study s", nas.FinalRequest(study="s")),
    ],
)
def test_an_option_that_is_not_given_is_the_default_of_the_request(
    command: str, words: str, expected: Any
) -> None:
    parser, _ = make_parser()
    options = parser.parse_args([command, *words.split()])
    given = arguments.given(options, type(expected))
    assert type(expected)(**given) == expected
    of_study = {
        f.name for f, option in values.options_of(expected) if "--study" in option.otherwise
    }
    assert of_study
    assert not of_study & set(given) - {"max_parameters"}


def test_options_set_the_fields_that_declare_them() -> None:
    parser, _ = make_parser()
    words = "--budget 4.9M --trials +3 --tune lr,augment --enqueue resnet20 resnet10 --grace 7"
    options = parser.parse_args(["search", *words.split(), "--skip-broken", "--space", "~/a.toml"])
    given = arguments.given(options, nas.SearchRequest)
    assert {name: given[name] for name in ("max_parameters", "tune", "enqueue", "grace")} == {
        "max_parameters": 4_900_000,
        "tune": ("lr", "augment"),
        "enqueue": ["resnet20", "resnet10"],
        "grace": 7.0,
    }
    assert given["trials"] == arguments.Trials(3, additional=True)
    assert given["skip_broken"] is True
    assert given["space"] == Path("~/a.toml").expanduser()
