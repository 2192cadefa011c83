"""The same from Python: every public name, and a search with its typed result."""

from pathlib import Path

import nas
from tests.conftest import RequestOf


def test_every_public_name_is_there() -> None:
    for name in nas.__all__:
        assert getattr(nas, name) is not None
    assert set(nas.__all__) == set(nas._HOME)


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
