"""The front of accuracy and size: what is on it, where it is shown, how it is asked for."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.architecture import ImageInput
from nas.commands import main
from nas.counting import LIMITED, count
from nas.errors import RequestError
from nas.report.page import render
from nas.report.sizes import front_table, size_figure
from nas.report.trials import trials_table
from nas.search.fronts import proposal_budget, proposal_limits
from nas.search.request import SAMPLERS, SearchRequest
from nas.search.run import run_search
from nas.space import Limits, default_space
from nas.study.records import Outcome, StudyRecord
from tests.kits.records import mixed, study, trial
from tests.kits.studies import RequestOf

CIFAR = ImageInput(channels=3, height=32, width=32, classes=10)


def sized(*found: tuple[int, float], outcome: Outcome = Outcome.TRAINED) -> StudyRecord:
    """Trials with these parameters and accuracies."""
    return study(
        *(
            replace(trial(i, outcome, accuracy), parameters=size, mult_adds=1_000 - size)
            for i, (size, accuracy) in enumerate(found)
        )
    )


def numbers(record: StudyRecord, by: str = "parameters") -> list[int]:
    return [t.number for t in record.pareto_front(by)]


def test_the_front_is_what_nothing_dominates_smallest_first() -> None:
    record = sized((300, 0.9), (100, 0.7), (200, 0.6), (250, 0.8), (400, 0.85))
    assert numbers(record) == [1, 3, 0]
    assert numbers(record, "mult_adds") == [4, 0]  # here larger designs cost less
    assert numbers(sized()) == []
    assert numbers(sized((1, 0.0))) == [0]


def test_of_equals_the_smaller_and_then_the_earlier_is_on_the_front() -> None:
    assert numbers(sized((200, 0.8), (100, 0.8), (100, 0.8))) == [1]
    assert numbers(sized((100, 0.7), (100, 0.8))) == [1]


def test_only_designs_trained_to_the_end_and_measured_are_on_it() -> None:
    assert numbers(sized((100, 0.9), outcome=Outcome.STOPPED_EARLY)) == []
    unknown = replace(trial(0, accuracy=0.9), parameters=None)
    assert numbers(study(unknown, trial(1, accuracy=0.5))) == [1]


def test_the_front_agrees_with_its_definition() -> None:
    rng = random.Random(0)
    for _ in range(50):
        record = sized(*((rng.randint(1, 9), rng.randint(0, 9) / 9) for _ in range(8)))
        front = record.pareto_front()
        points = {(t.parameters or 0, t.val_accuracy or 0.0) for t in record.trials}
        undominated = {
            (size, accuracy)
            for size, accuracy in points
            if not any(
                s <= size and a >= accuracy and (s, a) != (size, accuracy) for s, a in points
            )
        }
        assert [(t.parameters, t.val_accuracy) for t in front] == sorted(undominated)


def test_report_and_figure_show_it() -> None:
    record = mixed()
    front = front_table(record)
    assert front["number"].tolist() == numbers(record)
    assert len(front) > 1
    trials = trials_table(record.trials)
    shown = trials[trials["val_accuracy"].notna()]
    with_front = size_figure(shown, 5_000_000, 4, front=front)
    (line,) = [trace for trace in with_front.data if trace.name == "Pareto front"]
    assert list(line.x) == front["parameters"].tolist()
    assert "Pareto front</h3>" in render(record)
    assert "Pareto front</h3>" not in render(study(trial(0, accuracy=0.5)))


def test_proposal_budgets_are_log_uniform_and_drawn_from_the_generator_alone() -> None:
    drawn = [proposal_budget(10_000, 1_000_000, random.Random(i)) for i in range(2_000)]
    assert all(10_000 <= budget <= 1_000_000 for budget in drawn)
    below = sum(budget < 100_000 for budget in drawn) / len(drawn)
    assert below == pytest.approx(0.5, abs=0.05)
    assert drawn[:9] == [proposal_budget(10_000, 1_000_000, random.Random(i)) for i in range(9)]
    assert proposal_budget(7, 7, random.Random(0)) == 7
    with pytest.raises(ValueError, match=r"smallest must be in 1..5, got 6"):
        proposal_budget(6, 5, random.Random(0))


@pytest.mark.parametrize("size", LIMITED)
def test_a_proposals_limits_always_hold_a_design(size: str) -> None:
    space = default_space(CIFAR)
    limits = Limits(
        max_parameters=100_000,
        max_mult_adds=30_000_000,
        max_peak_ram=200_000,
        max_arena=250_000,
        max_flash=200_000,
    )
    assert proposal_limits(("val_accuracy",), space, limits, random.Random(0)) == limits
    found = set()
    for i in range(20):
        own = proposal_limits(("val_accuracy", size), space, limits, random.Random(i))
        drawn = space.architecture(*space.draw(own, random.Random(i)))
        assert own.allow(count(drawn, CIFAR))
        assert limits.allow(count(drawn, CIFAR))
        found.add(getattr(own, f"max_{size}"))
    assert len(found) > 15


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        (("parameters",), r"expected val_accuracy, or val_accuracy,parameters or .*'parameters'"),
        (("parameters", "val_accuracy"), "got 'parameters,val_accuracy'"),
        (("val_accuracy", "seconds"), "got 'val_accuracy,seconds'"),
        (("val_accuracy", "parameters", "mult_adds"), "expected val_accuracy"),
        (("val_accuracy", "mult_adds"), "expected --max-mult-adds"),
        (("val_accuracy", "arena"), "expected --max-ram with arena"),
        (("val_accuracy", "arenas"), "did you mean arena"),
        (("val_accuracy", "activations"), "got 'val_accuracy,activations'"),
    ],
)
def test_objectives_that_cannot_be_searched_are_refused(
    objectives: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RequestError, match=f"--objectives: .*{said}"):
        SearchRequest(max_parameters=10**6, trials=1, objectives=objectives)


def test_a_front_is_not_searched_with_a_pruner_that_compares_with_larger_designs() -> None:
    front = ("val_accuracy", "parameters")
    refused = r"expected --pruner evidence or rungs or none .* got 'median'"
    with pytest.raises(RequestError, match=refused):
        SearchRequest(max_parameters=10**6, trials=1, objectives=front, pruner="median")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_proposal_keeps_to_a_budget_of_its_own(sampler: str, request_of: RequestOf) -> None:
    asked = {
        "max_parameters": 6_000,
        "sampler": sampler,
        "objectives": ("val_accuracy", "parameters"),
        "pruner": "none",
        "subset": 0.05,
    }
    result = run_search(request_of(**asked, trials=12))
    stored = optuna.load_study(study_name=result.location.name, storage=result.location.url)
    budgets = [t.user_attrs["proposal_budget"] for t in stored.trials]
    assert len(set(budgets)) > 6
    assert max(budgets) <= 6_000
    for found, budget in zip(stored.trials, budgets, strict=True):
        assert found.user_attrs["parameters"] <= budget
    assert set(result.study.outcomes) == {Outcome.TRAINED}
    run_search(request_of(**asked, trials=6, study="again"))
    again = run_search(request_of(**asked, trials=12, study="again"))
    designs = [[t.architecture for t in r.study.trials] for r in (result, again)]
    assert designs[0] == designs[1]


def test_the_option(
    tiny_space: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_space.parent)
    plain = ["search", "--budget", "5M", "--dataset", "digits", "--epochs", "1", "--subset", "0.1"]
    some = [*plain, "--space", "tiny.toml", "--trials", "3", "--pruner", "none"]
    assert main(some) == 0
    assert "Pareto" not in capsys.readouterr().out
    both = [*some, "--objectives", "val_accuracy,parameters"]  # the same study
    assert main(both) == 0
    assert "Pareto front, each more accurate than all with no more param" in capsys.readouterr().out
    assert main([*both, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    front = document["pareto_front"]
    assert document["objectives"] == ["val_accuracy", "parameters"]
    assert front[-1] == min(
        document["ranking"], key=lambda t: (-t["val_accuracy"], t["parameters"], t["trial"])
    )
    sizes = [t["parameters"] for t in front]
    assert sizes == sorted(set(sizes))
