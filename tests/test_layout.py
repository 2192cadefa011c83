import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas
from tests.kits.entries import ENTRIES
from tests.kits.waiting import PATIENCE

ROOT = Path(nas.__file__).parent
ORDER = (
    "files",
    "text",
    "shapes",
    "errors",
    "values",
    "packages",
    "statistics",
    "templates",
    "devices",
    "architecture",
    "counting",
    "latency",
    "space",
    "model",
    "runtime",
    "data",
    "training",
    "export",
    "study",
    "search",
    "final",
    "report",
    "trackers",
    "dashboard",
    "commands",
)
OWNERS = {
    "torch": {"model", "runtime", "data", "training", "export", "search", "final", "trackers"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "safetensors": {"export"},
    "flatbuffers": {"export"},
    "optuna": {"study", "search", "dashboard", "commands"},  # commands: its log level only
    "optuna_dashboard": {"dashboard"},
    "sqlalchemy": {"study", "search"},
    "pandas": {"report"},
    "plotly": {"report"},
    "jinja2": {"templates"},
    "psutil": {"runtime"},
    "argparse": {"commands"},
    "mlflow": {"trackers"},
    "wandb": {"trackers"},
}
HEAVY = (
    *("torch", "torchvision", "sklearn", "optuna", "sqlalchemy", "pandas", "plotly", "jinja2"),
    *("psutil", "onnxruntime", "flatbuffers", "mlflow", "tensorboard", "wandb"),
)

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"  # the top: may import anything
)


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


def layer(file: str) -> str:
    """The word of the import order that a file under nas/ belongs to."""
    return "commands" if file in ENTRIES else file.partition("/")[0].removesuffix(".py")


def imports(file: str) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in it: a.b for "from a import b"."""
    package = ("nas", *file.split("/")[:-1])
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            for alias in node.names:
                yield ".".join((*start, *([node.module] if node.module else []), alias.name))


def packages(file: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(file)}


def names_of_calls(file: str) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def loaded_by(*modules: str) -> set[str]:
    """Which of the heavy packages are loaded once a fresh Python imported the modules."""
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return set(json.loads(done.stdout)) & set(HEAVY)


def test_every_file_has_a_place_in_the_order() -> None:
    assert {file for file in FILES if layer(file) not in ORDER} == set()


def test_entries_exist() -> None:
    assert set(FILES) >= ENTRIES


def test_imports_go_from_right_to_left() -> None:
    for file in FILES:
        own = ORDER.index(layer(file))
        for name in imports(file):
            if name.partition(".")[0] == "nas":
                imported = layer([*name.split("."), ""][1] + ".py")
                assert imported in ORDER[: own + 1], f"{file} must not import {name}"


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES
    }
    left = {
        file: {
            modules[name[4:]] if name[4:] in modules else modules.get(name[4:].rpartition(".")[0])
            for name in imports(file)
        }
        for file in FILES
    }
    while leaves := [file for file, names in left.items() if not names & left.keys()]:
        for file in leaves:
            del left[file]
    assert left == {}


def test_heavy_packages_stay_with_their_owners() -> None:
    astray = {
        (file, name)
        for file in FILES
        for name in packages(file)
        if layer(file) not in OWNERS.get(name, ORDER)
    }
    assert astray == set()


@pytest.mark.parametrize("file", ["architecture.py", "counting.py", "space.py"])
def test_descriptions_need_only_the_standard_library(file: str) -> None:
    assert packages(file) - {"nas"} <= sys.stdlib_module_names


def test_commands_use_optuna_only_for_its_log_level() -> None:
    commands = [file for file in FILES if layer(file) == "commands"]
    assert commands
    for file in commands:
        assert {name for name in imports(file) if name.startswith("optuna")} <= {"optuna"}, file
        uses = {
            node.attr
            for node in ast.walk(tree(file))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "optuna"
        }
        assert uses <= {"logging"}, file


def test_only_commands_print_and_exit() -> None:
    ends = {"print", "sys.exit", "exit", "quit", "SystemExit", "os._exit"}
    # A second signal ends all, and a worker that must not begin ends itself.
    allowed = ("runtime/signals.py", "runtime/pool.py")
    for file in FILES:
        if layer(file) != "commands" and file not in allowed:
            assert ends.isdisjoint(names_of_calls(file)), file
            assert {"sys.exit", "builtins.print"}.isdisjoint(imports(file)), file


def test_light_modules_load_nothing_heavy() -> None:
    light = (
        "nas.commands",
        "nas.space",
        "nas.data.catalogue",
        "nas.study.records",
        "nas.study.location",
        "nas.search.request",
        "nas.final.request",
    )
    assert loaded_by(*light) == set()


def test_a_model_is_loaded_without_what_searches_need() -> None:
    loaded = loaded_by("nas.export.loading")
    assert "torch" in loaded  # so heavy packages would be seen
    assert loaded & {"optuna", "sqlalchemy", "pandas", "plotly"} == set()


DISTRIBUTIONS = {
    "PIL": "pillow",
    "mlflow": "mlflow-skinny",
    "optuna_dashboard": "optuna-dashboard",
    "sklearn": "scikit-learn",
    "tflite_micro": "tflite-micro",
}
# Tools without an import, and what SQLAlchemy and pandas load or are checked with.
NOT_IMPORTED = {"mypy", "pandas-stubs", "psycopg", "pytest-xdist", "ruff"}


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in requirements}


def imported(*folders: str) -> set[str]:
    """The distributions that files of these folders import."""
    files = [path for folder in folders for path in (ROOT.parent / folder).rglob("*.py")]
    own = {"nas", "tests", *(path.stem for path in files)}
    names = {
        name.partition(".")[0]
        for path in files
        for name in imports(os.path.relpath(path, ROOT))
        if not name.startswith("_")
    }
    return {DISTRIBUTIONS.get(name, name) for name in names - own - sys.stdlib_module_names}


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    needed = declared(project["dependencies"])
    extras = {name: declared(those) for name, those in project["optional-dependencies"].items()}
    for_tests = extras.pop("test")
    trackers = set().union(*extras.values())
    # Triton comes with torch where it is needed, and torch imports TensorBoard for us.
    assert imported("nas") - {"triton"} == needed | trackers - {"tensorboard"}
    assert trackers <= for_tests
    others = imported("tests", "benchmarks") - needed - trackers
    assert others == for_tests - trackers - NOT_IMPORTED


def test_every_requirement_has_a_lowest_version() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    for requirement in (*project["dependencies"], *(r for those in extras for r in those)):
        assert ">=" in requirement


def test_images_are_opened_in_named_formats_only() -> None:
    opened = [
        (path.name, {keyword.arg for keyword in call.keywords})
        for path in ROOT.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Image.open"
    ]
    assert opened
    assert all("formats" in keywords for _, keywords in opened), opened


# The tests

TESTS = {
    path.relative_to(ROOT.parent).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT.parent / "tests").rglob("*.py"))
}
# Tests that replace what nas calls private, and why they must.
PATCHED = {
    # Whether a process can still record steps is kept for its whole life.
    ("tests/kits/cuda_double.py", "graphs._given_up"),
    # In its process a worker would use a GPU; here torch is made to count some first.
    ("tests/runtime/test_devices.py", "nas.search.run._work"),
    ("tests/runtime/test_devices.py", "nas.final.workers._work"),
    # How long a process may hold the lock without a heartbeat: minutes.
    ("tests/search/test_recovery.py", "store_module._STUCK"),
}


def imports_of_test(file: str) -> set[str]:
    """Dotted names of all that a file of the tests imports or starts as a module."""
    nodes = ast.walk(TESTS[file])
    texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    return texts | set(imports(f"../{file}"))


def private_patches(file: str) -> Iterator[str]:
    """What a file of the tests replaces in nas although its name begins with an underscore."""
    of_nas = {
        alias.asname or alias.name
        for node in ast.walk(TESTS[file])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if f"{getattr(node, 'module', None) or alias.name}.".startswith("nas.")
    }
    for node in ast.walk(TESTS[file]):
        if isinstance(node, ast.Call) and re.search(r"(set|del)attr|patch", ast.unparse(node.func)):
            texts = [
                str(argument.value) if isinstance(argument, ast.Constant) else ast.unparse(argument)
                for argument in node.args[:2]
            ]
            if texts and texts[0].partition(".")[0] in of_nas | {"nas"}:
                name = texts[0] if texts[0].startswith("nas.") else ".".join(texts)
                if re.search(r"\._[^_]", name):
                    yield name


def test_no_test_module_imports_another() -> None:
    for file in TESTS:
        for name in imports_of_test(file):
            assert not re.match(r"tests\.(\w+\.)*test_\w+", name), f"{file} must not use {name}"


def test_what_is_shared_is_used_by_several_tests() -> None:
    users: dict[str, set[str]] = {
        f"tests.kits.{Path(file).stem}": set() for file in TESTS if file.startswith("tests/kits/")
    }
    del users["tests.kits.__init__"]
    uses = {
        file: {
            kit
            for name in imports_of_test(file)
            for kit in users
            if f"{name}.".startswith(f"{kit}.")
        }
        for file in TESTS
    }
    for _ in users:  # a kit that another one uses has its users
        for file, kits in uses.items():
            for kit in kits:
                users[kit] |= users.get(file.removesuffix(".py").replace("/", "."), {file})
    assert {kit: names for kit, names in users.items() if len(names) < 2} == {}


def test_private_parts_of_nas_are_replaced_only_where_they_must_be() -> None:
    assert {(file, name) for file in TESTS for name in private_patches(file)} == PATCHED
