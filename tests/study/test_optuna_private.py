"""What nas uses of Optuna beyond its public API is in one file, and is there in this Optuna."""

import ast
import inspect
import re
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import _constrained_optimization
from optuna.trial import FrozenTrial

import nas
from nas.study import optuna_private
from nas.study.optuna_private import (
    CONSTRAINTS,
    FIXED_PARAMS,
    WRITTEN_FIRST,
    WRITTEN_LAST,
    StudyStorage,
    content_of,
    storage_of,
    study_id_of,
    trial_id_of,
)

ROOT = Path(nas.__file__).parent
HOME = "study/optuna_private.py"
LISTING = "study/listing.py"  # reads a few rows without Optuna; held to `read_study` by a test
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
ARGPARSE = {"_actions", "_action_groups", "_group_actions", "_mutually_exclusive_groups"}
OTHERS = {"_typeshed", *ARGPARSE}
TABLES = {
    table.name: table
    for table in vars(optuna_private).values()
    if isinstance(table, sqlalchemy.TableClause)
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign_private_names(file: str) -> set[str]:
    """Private names that a file uses of what other files define."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    used, own = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if ast.unparse(node.value) not in ("argparse", "os", "torch"):
                (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used.update((node.module or "").split("."), (alias.name for alias in node.names))
        elif isinstance(node, ast.Import):
            used.update(part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    return {name for name in used - own if is_private(name)}


@pytest.mark.parametrize("file", sorted(set(FILES) - {HOME}))
def test_no_other_file_uses_private_names_or_the_schema(file: str) -> None:
    assert foreign_private_names(file) <= OTHERS
    text = (ROOT / file).read_text(encoding="utf-8")
    if file == LISTING:
        return
    tables, long = "|".join(TABLES), "|".join(name for name in TABLES if "_" in name)
    sql = rf"\b(FROM|JOIN|INTO|UPDATE)\s+({tables})\b"
    assert not re.search(rf"\btable\(\s*[\"']|[\"']({long})[\"']|{sql}", text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RDBStorage:
    """A database as Optuna makes it, with the heartbeats' table."""
    path = tmp_path_factory.mktemp("optuna") / "study.db"
    storage = RDBStorage(f"sqlite:///{path}")
    optuna.create_study(storage=storage)
    return storage


@pytest.mark.parametrize(
    ("table", "column"), [(t.name, c.name) for t in TABLES.values() for c in t.columns]
)
def test_optuna_has_the_column(made: RDBStorage, table: str, column: str) -> None:
    assert column in {found["name"] for found in sqlalchemy.inspect(made.engine).get_columns(table)}


def test_optuna_makes_these_tables_first_and_fills_those_last(made: RDBStorage) -> None:
    assert set(WRITTEN_FIRST) <= set(sqlalchemy.inspect(made.engine).get_table_names())
    with made.engine.connect() as connection:
        for name in WRITTEN_LAST:
            rows = sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(name))
            assert connection.execute(rows).scalar(), name


def study_id(study: optuna.Study, trial: optuna.Trial) -> None:
    assert storage_of(study).get_study_name_from_id(study_id_of(study)) == study.study_name


def storage(study: optuna.Study, trial: optuna.Trial) -> None:
    assert isinstance(storage_of(study), BaseStorage)


def trial_id(study: optuna.Study, trial: optuna.Trial) -> None:
    (frozen,) = study.trials
    assert trial_id_of(frozen) == trial_id_of(trial)
    assert storage_of(study).get_trial(trial_id_of(trial)).number == trial.number


def cached_frozen_trial(study: optuna.Study, trial: optuna.Trial) -> None:
    assert isinstance(content_of(trial), FrozenTrial)
    content_of(trial).intermediate_values = {1: 0.5}
    with pytest.warns(UserWarning, match="already reported"):
        trial.report(0.7, step=1)  # which looks there for what was reported


def fixed_params(study: optuna.Study, trial: optuna.Trial) -> None:
    study.enqueue_trial({"x": 1})
    assert study.trials[-1].system_attrs[FIXED_PARAMS] == {"x": 1}


USES = {
    "_study_id": study_id,
    "_storage": storage,
    "_trial_id": trial_id,
    "_cached_frozen_trial": cached_frozen_trial,
    "fixed_params": fixed_params,
}


@pytest.mark.parametrize("name", USES)
def test_optuna_has_the_name_with_its_meaning(name: str) -> None:
    study = optuna.create_study()
    USES[name](study, study.ask())


def test_optuna_has_the_key_of_constraints() -> None:
    assert _constrained_optimization._CONSTRAINTS_KEY == CONSTRAINTS


@pytest.mark.parametrize(
    "name", ["_get_trials", "_build_frozen_trial_from_trial_model", "_get_prepared_new_trial"]
)
def test_optunas_storage_has_the_method(name: str) -> None:
    assert hasattr(RDBStorage, name)
    own, theirs = (inspect.signature(getattr(cls, name)) for cls in (StudyStorage, RDBStorage))
    assert list(own.parameters) == list(theirs.parameters)


def test_every_private_name_is_looked_up() -> None:
    models = {"_rdb"}  # a module: without it no file can be imported
    methods = {"_get_trials", "_build_frozen_trial_from_trial_model", "_get_prepared_new_trial"}
    used = foreign_private_names(HOME) | {"_get_trials", "_get_prepared_new_trial"}
    assert used == {name for name in USES if is_private(name)} | models | methods
