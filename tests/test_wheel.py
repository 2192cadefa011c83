"""What is built to be installed holds all that a report, a model card and a dashboard need."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from nas import packages
from tests.kits.places import ROOT, STUDIES
from tests.kits.waiting import PATIENCE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this project, built from a copy: a build leaves folders beside its sources."""
    pytest.importorskip("setuptools", reason="needs setuptools: the wheel is built offline")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "nas", folder / "nas", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run(
        [sys.executable, "-c", build], cwd=folder, check=True, capture_output=True, timeout=PATIENCE
    )
    (built,) = (folder / "dist").glob("nas-*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nas").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"nas/report/templates/report.css", "nas/final/templates/card.md"} <= files
    with ZipFile(wheel) as archive:
        assert files <= set(archive.namelist())


@pytest.fixture
def run(wheel: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs Python with the nas of the wheel; gives what it prints."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        ).stdout

    return run


def test_what_the_wheel_needs_is_what_pyproject_says(run: Callable[..., str]) -> None:
    code = """
import json
from nas import packages
needed = [(r.name, sorted(r.bounds.split(",")), r.optional) for r in packages.requirements()]
print(json.dumps([packages.version(), needed]))
"""
    needed = [[r.name, sorted(r.bounds.split(",")), r.optional] for r in packages.requirements()]
    assert json.loads(run("-c", code)) == [packages.version(), needed]


def test_a_report_is_written_from_the_wheel(run: Callable[..., str], tmp_path: Path) -> None:
    study = ("--study", "digits-example", "--studies-dir", str(STUDIES))
    run("-m", "nas.report", *study, "--reports-dir", "reports")
    page = (tmp_path / "reports" / "digits-example.html").read_text(encoding="utf-8")
    assert "From proposals to designs" in page
    assert "prefers-color-scheme" in page
