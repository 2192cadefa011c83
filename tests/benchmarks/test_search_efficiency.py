import itertools
import json
from pathlib import Path

import pytest

from search_efficiency import Source, Summary, main, make_task, measure, missed
from search_methods import ALWAYS, METHODS, Trace, search
from search_tables import Task, budget_of, read_table, table_task

SMALL = ["--seeds", "2", "--trained", "12"]


def write_table(path: Path, *, text: bool = False) -> Path:
    """Two ordered choices and one other; the accuracy grows with each."""
    lines = ["x1,x2,x3,params,flops,acc"]
    for a, b, c in itertools.product(range(4), (1, 2, 4), range(3)):
        size = 100 * (1 + a) * b + c
        name = "uvw"[c] if text else c
        lines.append(f"{a},{b},{name},{size},{10 * size},{50 + 5 * a + b + c}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_recorded(path: Path) -> Path:
    """A table and its sidecar as the recording benchmark leaves them."""
    lines = ["blocks,channels,kernels,shortcut_kernels,pool,parameters,mult_adds,ema_1"]
    for b, c, f in itertools.product((1, 2, 3), (8, 16, 24, 32), (3, 5)):
        lines.append(f"{b},{c},{f},1,8,0,0,{0.5 + 0.1 * b + 0.003 * c:.4f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    space = {
        "stages": [1],
        "blocks": [[1, 2, 3]],
        "channels": [[8, 16, 24, 32]],
        "kernels": [[3, 5]],
        "shortcut_kernels": [[1]],
        "pool": [8],
    }
    settings = {
        "dataset": "digits",
        "validation_images": 200,
        "max_parameters": 100_000,
        "max_mult_adds": None,
        "recipe": {"epochs": 1},
        "space": space,
    }
    path.with_suffix(".json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def resnets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, float]:
    """A space of ResNets, and its best accuracy."""
    path = write_recorded(tmp_path_factory.mktemp("tables") / "recorded.csv")
    task = make_task(Source(path, (), ()), "60%")
    return task, task.best()


def without_times(printed: str) -> list[str]:
    return [line.rpartition("| ")[0] or line for line in printed.removesuffix("\n").splitlines()]


def test_prints_every_method_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.csv")
    arguments = ["--table", str(table), "--budget", "none", "60%", *SMALL]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert main(arguments) == 0
    second = capsys.readouterr().out
    printed = [line.split(" | ")[0].removeprefix("| ") for line in first.splitlines()]
    assert [printed.count(name) for name in ALWAYS] == [2] * len(ALWAYS)
    assert "Verdict at n=12" in first
    assert [line for line in without_times(first) if line.startswith("| ")] == [
        line for line in without_times(second) if line.startswith("| ")
    ]


def test_reads_choices_sizes_and_accuracies(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "table.csv", text=True))
    assert table.complete
    assert table.costs[0, 1, "v"] == (101, 1010)
    assert table.truth[0, 1, "v"] == 52
    assert list(table.search_space) == ["x1", "x2", "x3"]


def test_mean_of_columns_is_what_counts_and_what_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("x1,params,a,b,c\n1,10,1,3,5\n2,20,2,4,9\n", encoding="utf-8")
    table = read_table(path, truth=("b", "c"), seen=("a",))
    assert list(table.truth.values()) == [4, 6.5]
    assert list(table.seen.values()) == [1, 2]


def test_identities_move_to_the_end_of_a_stage_but_not_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "macro.csv"
    names = ",".join(f"l{i}" for i in range(1, 9))
    rows = ["0,1,2,0,1,1,1,0", "0,1,2,1,0,1,0,1", "1,0,0,2,1,1,1,0"]
    lines = [f"{row},10,9{i}" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"{names},params,mean_acc", *lines]) + "\n", encoding="utf-8")
    table = read_table(path)
    first, second, third = table.keys.values()
    assert first == second != third
    assert table.truth[first] == 90.5


def test_budgets(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "table.csv"))
    assert budget_of("50%", lambda: [4, 1, 3, 2]) == 2
    assert table_task(table, "150").size == "3 of 36 designs within 150 parameters"
    assert table_task(table, None).best() == 71
    assert table_task(table, "150").best() == 53
    task = table_task(table, "150")
    assert task.excess({"x1": 1, "x2": 4, "x3": 0}) == pytest.approx(800 / 150 - 1)


def test_a_table_without_an_accuracy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("x1,params\n1,10\n", encoding="utf-8")
    with pytest.raises(ValueError, match="acc"):
        read_table(path)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "optuna-gp"])
def test_methods_train_different_designs_within_the_budget(
    name: str, resnets: tuple[Task, float]
) -> None:
    task, best = resnets
    trace = search(task, name, 0, 12)
    assert len(trace.truths) == 12
    assert max(trace.truths) <= best
    if not name.startswith("optuna") and name != "tpe-width":
        assert (trace.over_budget, trace.duplicates, trace.ended) == (0, 0, False)


def test_a_search_that_finds_nothing_within_the_budget_has_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = [f"{i},{100 if i == 7 else 200},90" for i in range(1000)]
    path.write_text("\n".join(["x1,params,acc", *lines]) + "\n", encoding="utf-8")
    trace = search(table_task(read_table(path), "100"), "optuna-tpe", 0, 2)
    assert trace.truths == [0, 0]
    assert trace.ended


def test_several_processes_measure_the_same(tmp_path: Path) -> None:
    source = Source(write_table(tmp_path / "table.csv"), (), ())
    one, two = (
        measure(source, "none", ["random", "gp"], seeds=2, trained=12, workers=workers)[0]
        for workers in (1, 2)
    )
    assert [s.regret for s in one.values()] == [s.regret for s in two.values()]


def test_goals_that_are_missed_are_named() -> None:
    def summary(regret: float, **changes: float) -> Summary:
        trace = Trace([90 - regret] * 50, changes.get("over", 0), 0, 1.0, False)
        return Summary.of([trace, trace], 90)

    random = summary(0.5)
    macro = "nas_bench_macro_cifar10"
    assert not list(missed(macro, "none", {"gp": summary(0.01), "random": random}, 50))
    goals = [*missed(macro, "none", {"gp": summary(0.6, over=0.1), "random": random}, 50)]
    assert goals == [
        "regret 0.600 at n=50, at most 0.03",
        "worse than random at n=25",
        "10.0% over the budget, at most 2%",
    ]
