"""Installs that cannot work: said in one line by every command, and found by `nas doctor`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nas import packages
from nas.search.environment import OLDEST_PYTHON
from tests.kits.places import ROOT, STUDIES
from tests.kits.waiting import PATIENCE

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# How installs break: the module that is imported first, and what it raises.
BROKEN = {
    "torchvision": 'raise RuntimeError("operator torchvision::nms does not exist")',
    "onnx": 'raise ImportError("DLL load failed while importing onnx_cpp2py_export")',
    "torch": 'raise OSError("libcudart.so.12: cannot open shared object file")',
    "optuna": 'raise AttributeError("module numpy has no attribute long")',
    "pandas": 'raise ValueError("numpy.dtype size changed, may indicate incompatibility")',
    "sqlalchemy": "import a_module_that_is_nowhere",
}


def run(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which finds the packages in this path first."""
    return subprocess.run(
        [sys.executable, "-m", "nas", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([path, str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def broken(folder: Path, name: str) -> str:
    """A folder with a package of that name that cannot be imported."""
    package = folder / "broken" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN[name])
    return str(package.parent)


def reason(name: str) -> str:
    """What such a package raises, as messages say it."""
    found = re.fullmatch(r'raise (\w+)\("(.*)"\)', BROKEN[name])
    if found is None:
        return "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"
    return f"{found[1]}: {found[2]}"


@pytest.mark.parametrize("name", ["torch", "optuna", "pandas"])
def test_doctor_finds_a_broken_package_and_goes_on(tmp_path: Path, name: str) -> None:
    path = broken(tmp_path, name)
    done = run(tmp_path, "doctor", "--dataset", "digits", "--json", path=path)
    assert (done.returncode, done.stderr) == (1, "")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert next(iter(findings)) == "versions"
    assert list(findings)[-4:] == ["device", "load", "data", "storage"]
    assert not findings[name]["good"]
    said = findings[name]["verdict"]
    assert said.startswith(f"{name}: expected a package that can be imported, got {reason(name)};")
    assert f"pip install --force-reinstall '{name}>=" in said
    assert findings["data"]["good"]
    assert findings["device"]["good"] is (name != "torch")
    assert findings["storage"]["good"] is (name == "pandas")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torchvision", ("search", "--budget", "5M", "--dataset", "cifar10")),
        ("onnx", ("final", "--study", "digits-example", "--again")),
        ("torch", ("predict", "model", "photo.png")),
        ("optuna", ("report", "--study", "some")),
        ("pandas", ("dashboard", "--study", "some")),
        ("sqlalchemy", ("search", "--budget", "5M", "--dataset", "digits")),
    ],
)
def test_every_command_says_it_in_one_line(
    tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    shutil.copytree(STUDIES, tmp_path / "studies")
    done = run(tmp_path, *arguments, path=broken(tmp_path, name))
    assert (done.returncode, done.stdout) == (1, "")
    *_, line = done.stderr.splitlines()  # after what was done before it was found
    said = f"error: {name}: expected a package that can be imported, got {reason(name)}; "
    assert line.startswith(f"{said}pip install --force-reinstall '{name}>=")


def test_errors_of_other_kinds_are_no_broken_packages() -> None:
    def caught(code: str) -> BaseException:
        try:
            exec(code, {"__name__": "nas.somewhere"})
        except Exception as error:
            return error
        raise AssertionError

    assert packages.broken_package(caught("1 / 0")) is None
    assert packages.broken_package(caught("import nas.nowhere")) is None
    assert packages.broken_package(caught("int('x')")) is None
    assert packages.broken_package(MemoryError()) is None
    said = packages.broken_package(caught("raise ImportError('of something')"))
    assert said is not None
    assert "got ImportError: of something; nas doctor says which" in said
    said = packages.broken_package(caught("import _lzma_of_nowhere"))
    assert said is not None
    assert said.startswith("_lzma_of_nowhere: ")
    without = ModuleNotFoundError("No module named '_lzma'", name="_lzma")
    assert "it is part of the standard library" in (packages.broken_package(without) or "")


def test_a_version_that_is_too_low_or_too_high_is_a_flaw(monkeypatch: pytest.MonkeyPatch) -> None:
    (optuna,) = [r for r in packages.requirements() if r.name == "optuna"]
    assert packages.flaw(optuna) is None
    for version in ("4.9.1", "6.0.0"):
        monkeypatch.setattr("importlib.metadata.version", lambda name, v=version: v)
        said = f"optuna: expected optuna>=5,<6, got {version}; pip install 'optuna>=5,<6'"
        assert packages.flaw(optuna) == said


@pytest.mark.parametrize(
    ("bounds", "version", "allowed"),
    [
        (">=2.11", "2.11.0+cu128", True),
        (">=2.11", "2.9.1", False),
        (">=2.11.0", "2.11", True),
        (">=2.10", "2.9", False),
        (">=10", "10.0.0", True),
        (">=5,<6", "5.0.0rc1", True),
        (">=5,<6", "6.0", False),
        ("", "0.1", True),
    ],
)
def test_versions_are_compared_as_numbers(bounds: str, version: str, allowed: bool) -> None:
    assert packages.Requirement("some", bounds, False).allows(version) is allowed


def test_the_requirements_are_those_that_are_declared() -> None:
    declared = packages.requirements()
    extras = PROJECT["optional-dependencies"].values()
    optional = [*dict.fromkeys(r for extra in extras for r in extra)]
    texts = [f"{r.name}{r.bounds}" for r in declared]
    assert texts == [
        t.replace("[binary]", "").partition(";")[0] for t in [*PROJECT["dependencies"], *optional]
    ]
    assert [r.optional for r in declared] == [False] * len(PROJECT["dependencies"]) + [True] * len(
        optional
    )


def test_the_version_is_said() -> None:
    arguments = [sys.executable, "-m", "nas", "--version"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, f"nas {PROJECT['version']}\n")


# Versions that texts say

TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def lowest(name: str) -> str:
    """The lowest version of a package that pyproject.toml allows, as `2.11`."""
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]):
        if re.match(rf"{re.escape(name)}(\[|>)", text):
            return str(re.search(r">=([\d.]+)", text)[1])  # type: ignore[index]
    raise AssertionError(name)


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_lowest_versions_in_texts_are_those_of_pyproject(file: Path) -> None:
    text = file.read_text(encoding="utf-8").partition("\n## 0")[0]  # of the changes, the newest
    for python in re.findall(r"Python (\d\.\d+) or later", text):
        assert f">={python}" == PROJECT["requires-python"]
    for requirement in packages.requirements():
        name = rf"(?i)\b{re.escape(requirement.name)}"
        said = re.findall(rf"{name} (\d+(?:\.\d+)*) or later", text)
        said += re.findall(rf"{name} ?>= ?(\d+(?:\.\d+)*)", text)
        for sentence in re.findall(r"[^\n]*lowest version[^\n]*", text):
            said += re.findall(rf"{name} (\d+(?:\.\d+)*)", sentence)
        assert set(said) <= {lowest(requirement.name)}


def test_the_oldest_python_is_that_of_pyproject() -> None:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    assert f">={oldest}" == PROJECT["requires-python"]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
