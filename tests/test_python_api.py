"""The same from Python: every public name, and a search with its typed result."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from tests.kits import warm
from tests.kits.places import ROOT
from tests.kits.studies import RequestOf
from tests.kits.waiting import PATIENCE


def test_type_checkers_and_programs_find_the_same_names() -> None:
    """Those that are imported where types are checked are those that are loaded on first use."""
    assert nas.__file__
    body = ast.parse(Path(nas.__file__).read_text()).body
    (checked,) = (node for node in body if isinstance(node, ast.If))
    homes = {
        str(alias.asname): str(node.module)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(homes) == set(nas.__all__)
    for name, home in homes.items():
        assert getattr(nas, name) is getattr(importlib.import_module(home), name)


def test_a_search_and_its_report(request_of: RequestOf, tmp_path: Path) -> None:
    result = nas.run_search(request_of(trials=2))
    assert isinstance(result, nas.SearchResult)
    best = result.study.incumbent
    assert best is not None
    assert best.architecture is not None
    digits = nas.load_dataset("digits", tmp_path)
    assert nas.count_parameters(best.architecture, digits.input) == best.parameters
    assert nas.read_study(result.location) == result.study
    assert nas.write_report(result.study, tmp_path / "reports").is_file()


SCRIPT = """
from pathlib import Path

import nas

print("begun", flush=True)
request = nas.SearchRequest(
    max_parameters=5_000_000, trials=2, dataset="digits", epochs=1, subset=0.2,
    space=Path("tiny.toml"), workers=2,
)
{start}
"""


def run_program(folder: Path, start: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program in this folder that makes a request and then does what `start` says."""
    (folder / "program.py").write_text(SCRIPT.format(start=start))
    return warm.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("name", ["run_search", "run_final"])
def test_workers_of_a_program_without_the_guard_are_refused(
    tmp_path: Path, tiny_space: Path, request_of: RequestOf, name: str
) -> None:
    asked = "request"
    if name == "run_final":
        nas.run_search(request_of(trials=2))
        asked = "nas.FinalRequest(study='digits-5M', workers=2, epochs=1, top=1, seeds=2)"
    done = run_program(tmp_path, f"nas.{name}({asked})")
    assert done.returncode == 1
    assert done.stdout.count("begun") <= 3  # the program, and each worker once
    assert done.stderr.count("Traceback") == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nas.errors.RequestError: expected a program that starts its work under")
    assert 'if __name__ == "__main__"' in last


def test_workers_of_a_program_with_the_guard_work(tmp_path: Path, tiny_space: Path) -> None:
    start = 'if __name__ == "__main__":\n    print(nas.run_search(request).study.trained)'
    done = run_program(tmp_path, start)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2"), done.stderr
