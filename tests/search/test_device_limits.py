"""Searches within the RAM and flash of a device."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.architecture import ImageInput
from nas.counting import COSTS, count
from nas.devices import DEVICES
from nas.errors import RequestError
from nas.report import overview
from nas.report.health import health
from nas.search.continuing import continued
from nas.search.request import SearchRequest
from nas.search.run import run_search
from nas.space import load_space
from nas.study.reader import read_study
from nas.study.records import Outcome
from nas.study.settings import differences, settings_from_json, settings_to_json
from tests.kits.places import ROOT
from tests.kits.records import SETTINGS

RequestOf = Callable[..., SearchRequest]
NANO = "arduino-nano-33-ble"
DIGITS = ImageInput(channels=1, height=8, width=8, classes=10)
CIFAR = ImageInput(channels=3, height=32, width=32, classes=10)


def test_a_device_sets_what_is_not_given() -> None:
    request = SearchRequest(target=NANO)
    assert dict(request.limits) == {"arena": 196_608, "flash": 946_176}
    request = SearchRequest(target=NANO, max_arena=100_000, max_parameters=80_000)
    assert dict(request.limits) == {"parameters": 80_000, "arena": 100_000, "flash": 946_176}
    with pytest.raises(RequestError, match="did you mean arduino-nano-33-ble"):
        SearchRequest(target="arduino-nano-33-bel")
    with pytest.raises(RequestError, match=r"--budget: expected the most parameters .* got none"):
        SearchRequest(max_mult_adds="none")


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_parameters": 5_000_000, "target": NANO}, f"digits-5M-{NANO}"),
        ({"max_parameters": 80_000, "target": "stm32l4r5"}, "digits-80k-stm32l4r5"),
        ({"target": NANO}, f"digits-{NANO}"),
        ({"target": NANO, "max_arena": 196_608}, f"digits-{NANO}"),
        ({"target": NANO, "max_arena": 65_536}, f"digits-{NANO}-arena-64k"),
        ({"max_parameters": 5_000_000, "max_arena": 65_536}, "digits-5M"),
        ({"max_arena": 262_144}, "digits-arena-256k"),
        ({"max_arena": 100_000, "max_flash": 2**20}, "digits-arena-100000-flash-1M"),
        ({"max_mult_adds": 30_000_000}, "digits-mult-adds-30M"),
        ({"max_mult_adds": 5_000_000, "target": NANO}, f"digits-{NANO}-mult-adds-5M"),
        ({"max_parameters": 5_000_000, "max_latency": 0.3}, "digits-5M"),
        ({"max_latency": 5.0}, "digits-latency-5ms"),
        ({"max_latency": 0.3}, "digits-latency-0.3ms"),
    ],
)
def test_a_study_is_called_after_its_limits(limits: dict[str, Any], name: str) -> None:
    assert SearchRequest(**limits).location_for("digits").name == name


def test_a_limit_that_no_design_meets_names_the_smallest() -> None:
    request = SearchRequest(max_arena=10)
    with pytest.raises(RequestError, match=r"^--max-ram: expected at least [\d,]+ bytes of arena"):
        request.space_for(CIFAR)
    large = replace(CIFAR, height=160, width=160)
    with pytest.raises(RequestError, match=rf"^--for {NANO}: expected at least .*, got 196,608$"):
        SearchRequest(target=NANO).space_for(large)
    with pytest.raises(RequestError, match=rf"\(--for {NANO}\), got resnet18 with"):
        SearchRequest(target=NANO, enqueue=("resnet18",)).presets_for(CIFAR)


def test_every_design_fits_and_says_what_it_costs(request_of: RequestOf, tiny_space: Path) -> None:
    most = count(load_space(tiny_space, DIGITS).smallest(), DIGITS).arena + 600
    request = request_of(max_parameters=None, max_arena=most, trials=4, subset=0.05)
    study = run_search(request).study
    trained = [t for t in study.trials if t.outcome is Outcome.TRAINED]
    assert trained
    for trial in study.trials:
        assert trial.architecture is not None
        cost = count(trial.architecture, study.settings.input)
        assert {n: getattr(trial, n) for n in COSTS} == {n: getattr(cost, n) for n in COSTS}
        assert cost.arena <= most
    assert f"at most {most:,} bytes of arena." in overview.asked(study)
    assert "of arena" in overview.found(study)
    assert "of flash" not in overview.found(study)
    assert health(study)


def test_a_front_of_arena_is_searched(request_of: RequestOf) -> None:
    asked = {"max_parameters": None, "max_arena": 12_000, "pruner": "none", "subset": 0.05}
    result = run_search(request_of(**asked, trials=4, objectives=("val_accuracy", "arena")))
    assert result.study.front_size == "arena"
    assert all((trial.arena or 0) <= 12_000 for trial in result.study.ranking)


def test_a_study_for_a_device_goes_on_for_it(request_of: RequestOf) -> None:
    request = request_of(max_parameters=None, target=NANO, trials=1, subset=0.05)
    study = run_search(request).study
    assert study.target == NANO
    assert f"for {NANO} (a quarter of the RAM" in overview.asked(study)
    again = continued(study, {"studies_dir": request.studies_dir})
    assert (again.target, again.limits) == (NANO, request.limits)
    other = continued(study, {"studies_dir": request.studies_dir, "target": "stm32f746"})
    assert other.limits["arena"] == DEVICES["stm32f746"].max_arena


def test_a_study_made_before_names_were_counted_goes_on() -> None:
    assert "name_bytes" not in settings_to_json(SETTINGS)["input"]  # as where names are short
    image = SETTINGS.input
    long = replace(SETTINGS, input=replace(image, name_bytes=170))
    assert settings_from_json(settings_to_json(long)).input.name_bytes == 170
    assert differences(SETTINGS, long) == []
    (wider,) = differences(SETTINGS, replace(SETTINGS, input=replace(image, width=9)))
    assert "x9, " in wider


def test_trials_of_an_earlier_version_get_their_costs() -> None:
    location = SearchRequest(max_parameters=1, studies_dir=ROOT / "studies", study="digits-example")
    study = read_study(location.location_for("digits"))
    for trial in study.trials:
        if trial.architecture is not None:
            cost = count(trial.architecture, study.settings.input)
            assert (trial.arena, trial.flash) == (cost.arena, cost.flash)
            assert (trial.parameters, trial.mult_adds) == (cost.parameters, cost.mult_adds)
