"""Precision: what `auto` means, who decides in a study, and what stays float32."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.commands import main
from nas.errors import RequestError
from nas.final.final import run_final
from nas.final.request import FinalRequest
from nas.report.page import render
from nas.runtime.arithmetic import choose, has_bfloat16
from nas.runtime.precision import AUTO, Precision
from nas.search.events import Opened
from nas.search.run import run_search
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.training.loop import Run
from tests.kits.commands import error_of
from tests.kits.events import on
from tests.kits.places import STUDIES
from tests.kits.studies import RequestOf
from tests.kits.training import CPU, make_config, make_dataset, make_model

CUDA = torch.device("cuda", 1)
BFLOAT16, FLOAT32 = Precision.BFLOAT16, Precision.FLOAT32
Processor = Callable[[str | None], None]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    """Gives this processor instructions for bfloat16, by torch's name; any can emulate them."""

    def with_instructions(name: str | None) -> None:
        for known in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, known, lambda has=known == name: has)

    with_instructions(None)
    return with_instructions


@pytest.fixture
def able(processor: Processor) -> None:
    processor("_is_avx512_bf16_supported")


def never(precision: Precision) -> float:
    raise AssertionError(f"{precision} was timed")


def gpu(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    """The second GPU has it or not, the first one otherwise; both could emulate it."""
    current = [0]

    @contextmanager
    def device(wanted: torch.device) -> Iterator[None]:
        current[0], before = wanted.index, current[0]
        yield
        current[0] = before

    def is_supported(including_emulation: bool = True) -> bool:
        return including_emulation or bfloat16 == (current[0] == CUDA.index)

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)


# What auto means


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_processor_with_either_instructions_has_bfloat16(processor: Processor, name: str) -> None:
    assert not has_bfloat16(CPU)
    processor(name)
    assert has_bfloat16(CPU)


def test_a_torch_that_does_not_tell_instructions_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert not has_bfloat16(CPU)


@pytest.mark.parametrize("seconds", [never, None])
def test_without_instructions_a_processor_takes_float32_and_times_nothing(
    processor: Processor, seconds: Callable[[Precision], float] | None
) -> None:
    chosen = choose(AUTO, CPU, seconds)
    assert str(chosen) == "float32 (this processor has no bfloat16 instructions)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ({FLOAT32: 3.24, BFLOAT16: 2.0}, "bfloat16 (1.62 times as fast as float32 here)"),
        ({FLOAT32: 1.0, BFLOAT16: 4.0}, "float32 (bfloat16 is 0.25 times as fast here)"),
        ({FLOAT32: 1.0, BFLOAT16: 1.0}, "float32 (bfloat16 is 1.00 times as fast here)"),
        ({FLOAT32: None, BFLOAT16: None}, "float32 (too little memory to time bfloat16)"),
    ],
)
def test_with_instructions_the_faster_one_is_taken(
    able: None, seconds: dict[Precision, float | None], said: str
) -> None:
    assert str(choose(AUTO, CPU, seconds.__getitem__)) == said


def test_where_accuracy_goes_before_speed_a_processor_takes_float32(able: None) -> None:
    assert choose(AUTO, CPU).precision is FLOAT32


@pytest.mark.parametrize("seconds", [never, None])
@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_takes_bfloat16_where_its_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, has: bool, seconds: Callable[[Precision], float] | None
) -> None:
    gpu(monkeypatch, bfloat16=has)
    chosen = choose(AUTO, CUDA, seconds)
    assert chosen.precision is (BFLOAT16 if has else FLOAT32)
    assert "this GPU has" in str(chosen)


def test_what_is_asked_for_is_taken_or_refused(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(monkeypatch, bfloat16=False)
    for device, here in ((CPU, "processor"), (CUDA, "GPU")):
        assert str(choose("float32", device, never)) == "float32"
        with pytest.raises(RequestError, match=rf"float32 on this {here}, .* got bfloat16$"):
            choose("bfloat16", device)
    processor("_is_amx_tile_supported")
    assert str(choose("bfloat16", CPU, never)) == "bfloat16"


# What stays float32


def test_weights_norms_averages_and_the_optimizer_stay_float32() -> None:
    dataset = make_dataset()
    config = make_config(precision="bfloat16", ema=0.9)
    run = Run(make_model(dataset), dataset, config, seed=0, device=CPU)
    computed: dict[type[nn.Module], set[torch.dtype]] = {}

    def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        computed.setdefault(type(module), set()).add(output.dtype)

    for module in run.model.modules():
        module.register_forward_hook(note)
    run.train_epoch()
    assert computed[nn.Conv2d] == computed[nn.Linear] == {torch.bfloat16}

    state = run.state()
    kept = [*state["model"].values(), *state["averaged"]["model"].values()]
    kept += [v for of_one in state["optimizer"]["state"].values() for v in of_one.values()]
    kept += [p.grad for p in run.model.parameters()]
    tensors = [t for t in kept if isinstance(t, torch.Tensor) and t.is_floating_point()]
    assert len(tensors) > 3 * len(list(run.model.parameters()))
    assert {t.dtype for t in tensors} == {torch.float32}


# Studies


def study_of(request_of: RequestOf, **changes: object) -> StudyRecord:
    return run_search(request_of(**changes)).study


def opening_of(request_of: RequestOf, **changes: object) -> Opened:
    openings: list[Opened] = []

    run_search(request_of(precision=AUTO, **changes), on(Opened, openings.append))
    (opening,) = openings
    return opening


def test_a_study_keeps_its_precision(request_of: RequestOf, able: None) -> None:
    study = study_of(request_of, trials=1, precision="bfloat16")
    assert study.settings.precision is BFLOAT16
    assert '<th scope="row">precision</th><td>bfloat16</td>' in render(study)
    opening = opening_of(request_of, trials=2)
    assert opening.precision == "bfloat16 (as in the study)"
    assert opening.trial_seconds
    after = read_study(opening.location)
    assert (after.settings, after.trained) == (study.settings, 2)
    said = r"precision \(--precision\): the study has bfloat16, this search float32"
    with pytest.raises(StudyError, match=said):
        run_search(request_of(trials=3, precision="float32"))
    assert read_study(opening.location) == after


def test_auto_says_what_it_took_and_why(request_of: RequestOf, processor: Processor) -> None:
    opening = opening_of(request_of, trials=1, study="unable")
    assert opening.precision == "float32 (this processor has no bfloat16 instructions)"
    processor("_is_amx_tile_supported")
    opening = opening_of(request_of, trials=1, study="able")
    taken = opening.study.settings.precision
    assert opening.precision.startswith(f"{taken} (")
    assert "here)" in opening.precision


def test_whoever_makes_a_study_decides_for_those_who_began_at_the_same_time(
    request_of: RequestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_supported() -> bool:
        """Another search makes the study while this one, which found none, is about to choose."""
        asked.append(1)
        if len(asked) == 1:
            study_of(request_of, trials=1, precision="bfloat16")
        return True

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", is_supported)
    opening = opening_of(request_of, trials=2)
    assert opening.precision == "bfloat16 (as in the study)"
    assert (opening.study.settings.precision, opening.study.trained) == (BFLOAT16, 1)
    assert read_study(opening.location).trained == 2


def test_a_machine_without_the_studys_precision_is_refused_in_one_line(
    request_of: RequestOf, processor: Processor
) -> None:
    processor("_is_avx512_bf16_supported")
    before = run_search(request_of(trials=1, precision="bfloat16"))
    processor(None)
    said = r"expected a device with bfloat16 instructions, .* got cpu .*; continue it on one"
    for workers in (1, 2):
        with pytest.raises(StudyError, match=said) as caught:
            run_search(request_of(trials=3, workers=workers, precision=AUTO))
        assert "\n" not in str(caught.value)
    assert read_study(before.location) == before.study


def test_a_study_written_before_is_float32_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").mkdir()
    shutil.copy(STUDIES / "digits-example.db", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    location = StudyLocation.at("digits-example", studies_dir=Path("studies"))
    before = read_study(location)
    assert "precision" not in before.settings.recipe
    assert before.settings.precision is FLOAT32
    assert '<th scope="row">precision</th><td>float32</td>' in render(before)
    search = ["search", "--budget", "5M", "--dataset", "digits", "--study", "digits-example"]
    assert main([*search, "--trials", "51"]) == 0
    assert "in float32 (as in the study) on cpu" in capsys.readouterr().err
    after = read_study(location)
    assert (after.trained, after.settings) == (51, before.settings)


# Commands


REFUSED = "--precision: expected auto or float32 on this processor, which has no bfloat16"
TRAIN = ["train", "--blocks", "1", "--channels", "8", "--pool", "4", "--dataset", "digits"]
SHORT = ["--subset", "0.2", "--epochs", "1"]


@pytest.mark.usefixtures("own_directory")
def test_bfloat16_without_instructions_is_refused_in_one_line(
    request_of: RequestOf, processor: Processor, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--precision", "bfloat16"]
    search = ["search", "--budget", "5M", "--dataset", "digits", *asked]
    assert REFUSED in error_of(capsys, main(search))
    assert not list(Path("studies").glob("*.db"))
    assert REFUSED in error_of(capsys, main([*TRAIN, *SHORT, *asked]))
    assert not Path("runs").exists()
    study_of(request_of, trials=1)
    assert REFUSED in error_of(capsys, main(["final", "--study", "digits-5M", *asked]))
    assert not Path("studies/digits-5M").exists()
    said = error_of(capsys, main([*TRAIN, "--precision", "float16"]))
    assert "--precision: expected one of auto, float32, bfloat16, got 'float16'" in said
    assert all(name in said for name in (AUTO, *Precision))
    for request in (request_of, FinalRequest):
        with pytest.raises(RequestError, match=r"got 'float16'; did you mean bfloat16\?$"):
            request(study="x", precision="float16")


def recipe_of(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, object]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    recipe: dict[str, object] = json.loads(capsys.readouterr().out)["recipe"]
    return recipe


@pytest.mark.usefixtures("own_directory")
def test_a_trial_is_trained_in_the_precision_of_its_study_where_that_is_there(
    request_of: RequestOf, processor: Processor, capsys: pytest.CaptureFixture[str]
) -> None:
    processor("_is_avx512_bf16_supported")
    study_of(request_of, trials=1, precision="bfloat16")
    train = ["train", "--study", "digits-5M", "--epochs", "1"]
    assert recipe_of(capsys, *train, "--out", "able")["precision"] == "bfloat16"
    asked = ["--precision", "float32", "--out", "asked"]
    assert recipe_of(capsys, *train, *asked)["precision"] == "float32"
    assert recipe_of(capsys, *TRAIN, *SHORT)["precision"] == "float32"
    processor(None)
    assert recipe_of(capsys, *train, "--out", "unable")["precision"] == "float32"


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize(("first", "then"), [(FLOAT32, BFLOAT16), (BFLOAT16, FLOAT32)])
def test_a_run_goes_on_in_its_precision_only(
    able: None, capsys: pytest.CaptureFixture[str], first: str, then: str
) -> None:
    train = [*TRAIN, *SHORT, "--out", "run"]
    assert main([*train, "--precision", first]) == 0
    assert f"1 epoch in {first} on cpu" in capsys.readouterr().err
    said = error_of(capsys, main([*train, "--precision", then, "--resume"]))
    assert f"precision {first} before, {then} now" in said


@pytest.mark.usefixtures("own_directory")
def test_a_final_training_says_its_precision_and_chooses_in_float32(
    request_of: RequestOf, able: None
) -> None:
    study_of(request_of, trials=1)
    request = FinalRequest(
        study="digits-5M", recipe="fast", epochs=1, seeds=2, subset=0.2, precision="bfloat16"
    )
    result = run_final(request)
    record = result.record
    assert record.precision is BFLOAT16
    assert "| `precision` | `bfloat16` |" in (result.folder / "README.md").read_text()
    study = read_study(StudyLocation.at("digits-5M", studies_dir=Path("studies")))
    assert "(recipe fast, bfloat16)" in render(study)
    assert record.chosen.validation is not None
    accuracies = record.chosen.validation.accuracies
    assert record.exported.seed == record.seeds[accuracies.index(max(accuracies))]

    # What was measured while it was trained, in bfloat16, decides nothing.
    for file in result.folder.glob("runs/*/result.json"):
        values = json.loads(file.read_text())
        best = values["seed"] != record.exported.seed
        values["epochs"][-1]["val_accuracy"] = float(best)
        file.write_text(json.dumps(values))
    again = run_final(dataclasses.replace(request, again=True)).record
    assert (again.exported.seed, again.readings) == (record.exported.seed, 2)


def test_a_reading_of_a_version_without_a_choice_stands() -> None:
    """Float32, whether asked for or chosen, is what there was before."""
    plain = FinalRequest(study="digits-5M", top=2, seeds=3)
    asked = dataclasses.replace(plain, precision="float32")
    keys, images = ["B1 C8 F3 K1 P4"], "0" * 16
    digests = [
        r.digest(keys, images=images, precision=Precision.FLOAT32, drop_duplicates=False)
        for r in (plain, asked)
    ]
    assert digests == ["4049f54cd54e4050"] * 2
    assert (
        plain.digest(keys, images=images, precision=Precision.BFLOAT16, drop_duplicates=False)
        != "4049f54cd54e4050"
    )
