"""A small study to begin a final training from."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

import nas.data.loading as loading
from nas.data.sources import Part, Source, open_source
from nas.search.run import run_search
from tests.kits.studies import TINY_SPACE, RequestOf


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of four designs trained to the end."""
    folder = tmp_path_factory.mktemp("searched")
    space = folder / "tiny.toml"
    space.write_text(TINY_SPACE)
    run_search(RequestOf(folder, space)(trials=4, pruner="none"))
    return folder


@pytest.fixture
def folder(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every time that a test part is read in this process, by the name of its dataset."""
    read: list[str] = []

    def watched(name: str, data_dir: Path, **settings: Any) -> Source:
        source = open_source(name, data_dir, **settings)

        def read_test() -> Part:
            read.append(name)
            return source.read_test()

        return dataclasses.replace(source, read_test=read_test)

    monkeypatch.setattr(loading, "open_source", watched)
    return read
