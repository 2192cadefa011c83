"""The packages that nas needs: which, of what versions, and what is wrong with one that fails.

Needs the standard library alone, since any of the others may be the broken one.
"""

import importlib
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"  # of a checkout
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)\)?(?:.*\bextra\b.*)?")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")
_MODULES = {  # what is imported of them, where it is not the whole package under its name
    "mlflow-skinny": "mlflow",
    "pillow": "PIL.Image",
    "plotly": "plotly.graph_objects",
    "scikit-learn": "sklearn.datasets",
    "scipy": "scipy.optimize",
}
_DECISIVE = ("torch", "torchvision", "optuna", "sqlalchemy", "numpy")
_OWN = ("nas", "__main__", "")


class PackageError(Exception):
    """A package cannot be imported: what was expected, what came, what to do."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package and the versions of it that are needed."""

    name: str
    bounds: str  # such as >=5,<6
    optional: bool  # of an extra

    @property
    def module(self) -> str:
        """What is imported of it."""
        return _MODULES.get(self.name, self.name.replace("-", "_"))

    def allows(self, version: str) -> bool:
        """Whether a version is within the bounds; what follows its numbers is not looked at."""
        number = _numbers(version)
        return all(
            number >= _numbers(bound) if sign == ">=" else number < _numbers(bound)
            for sign, bound in _BOUND.findall(self.bounds)
        )


def version() -> str:
    """The version of nas: that of the checkout it runs from, else that which is installed."""
    project = _project()
    return str(project["version"] if project else installed("nas") or "of an unknown version")


def versions() -> dict[str, str]:
    """The versions of nas and of the packages that decide results."""
    return {"nas": version(), **{name: installed(name) or "missing" for name in _DECISIVE}}


def requirements() -> list[Requirement]:
    """What nas needs, as it is declared; the packages of its extras last, each once."""
    from importlib import metadata  # slow to load, and not needed where all is well

    project = _project()
    if project:
        needed = project["dependencies"]
        optional = [r for extra in project["optional-dependencies"].values() for r in extra]
    else:
        declared = (metadata.requires("nas") if installed("nas") else None) or []
        optional = [r for r in declared if "extra ==" in r]
        needed = [r for r in declared if r not in optional]
    found = [*_parsed(needed, optional=False), *_parsed(optional, optional=True)]
    return list(dict.fromkeys(found))


def installed(name: str) -> str | None:
    """The version of a package; None if it is not there."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def flaw(requirement: Requirement) -> str | None:
    """What is wrong with a package, with what to do; None if it has the version and is imported."""
    found = installed(requirement.name)
    if found is not None and not requirement.allows(found):
        wanted = f"{requirement.name}{requirement.bounds}"
        return f"{requirement.name}: expected {wanted}, got {found}; pip install '{wanted}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(requirement.module)
    except (Exception, SystemExit) as error:  # importing runs its code, which may raise anything
        return broken_package(error) or _line(requirement, _came(error))
    return None


def broken_package(error: BaseException) -> str | None:
    """What is wrong with the package that raised this when it was imported, with what to do.

    Such an error is an ImportError, or has passed through the top level of a foreign module, since
    that runs only on import. None for any other error.
    """
    if isinstance(error, MemoryError):
        return None
    missing = ((error.name if isinstance(error, ImportError) else "") or "").partition(".")[0]
    foreign = [module for module in _imported(error.__traceback__) if module not in _OWN]
    known = {requirement.module.partition(".")[0]: requirement for requirement in requirements()}
    needed = [module for module in (*foreign, missing) if module in known]
    # The innermost package that nas needs is broken, or something that it brings along.
    package = needed[-1] if needed else [*foreign, missing][0]
    if missing in sys.stdlib_module_names:  # as lzma, where Python was built without
        package = missing
    if not package and isinstance(error, ImportError):
        return (
            f"expected packages that can be imported, {_came(error)}; nas doctor says which fails"
        )
    if package in _OWN:
        return None
    return _line(known.get(package) or Requirement(package, "", False), _came(error))


@contextmanager
def importing() -> Iterator[None]:
    """A late import, where what it raises would be taken for an error of data or disk.

    Raises:
        PackageError: the package is missing or broken.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if (broken := broken_package(error)) is None:
            raise
        raise PackageError(broken) from error


def _imported(trace: TracebackType | None) -> Iterator[str]:
    """The packages whose top level an error has passed through, from the outermost on."""
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>":
            yield str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        trace = trace.tb_next


def _line(requirement: Requirement, came: str) -> str:
    name = requirement.name
    remedy = f"pip install --force-reinstall '{name}{requirement.bounds}'"
    if name in sys.stdlib_module_names:
        remedy = "use a Python that includes it, since it is part of the standard library"
    return f"{name}: expected a package that can be imported, {came}; {remedy}"


def _came(error: BaseException) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"got {type(error).__name__}{': ' if reason else ''}{reason}"


def _parsed(declared: Sequence[str], *, optional: bool) -> list[Requirement]:
    found = [_REQUIREMENT.match(text) for text in declared]
    return [
        Requirement(match[1].lower(), match[2].replace(" ", ""), optional)
        for match in found
        if match is not None
    ]


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers at a version's start, without zeros at their end: 2.10.0+cu128 -> (2, 10)."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@cache
def _project() -> dict[str, Any]:
    """What pyproject.toml says beside the package; empty where nas does not run from a checkout."""
    try:
        project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return {}
    return dict(project) if project.get("name") == "nas" else {}
