"""What is built to be installed holds all that a report, a model card and a dashboard need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

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


def test_a_report_is_written_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    subprocess.run(
        [
            *(sys.executable, "-m", "nas.report", "--study", "digits-example"),
            *("--studies-dir", str(STUDIES), "--reports-dir", "reports"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        timeout=PATIENCE,
    )
    page = (tmp_path / "reports" / "digits-example.html").read_text(encoding="utf-8")
    assert "From proposals to designs" in page
    assert "prefers-color-scheme" in page
