import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.kits import warm
from tests.kits.studies import TINY_SPACE, RequestOf

if TYPE_CHECKING:  # xdist's own process, which runs no test, need not load it
    from nas.search.run import SearchResult

os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start, since tests run side by side

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a job in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or what tests interrupt ignores it

warm.spawn_warm()

# The same examples everywhere and each time, however slow the machine is.
settings.register_profile(
    "everywhere", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everywhere")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that at the end none is left to one process alone."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tiny tensors threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own directory, in which it works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_space(tmp_path: Path) -> Path:
    """A space file of 78 designs that each train in a moment on the digits."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture
def request_of(tmp_path: Path, tiny_space: Path) -> "RequestOf":
    """Makes requests for searches of the digits in the test's own directory."""
    return RequestOf(tmp_path, tiny_space)


@pytest.fixture(scope="session")
def searched_once(tmp_path_factory: pytest.TempPathFactory) -> "SearchResult":
    """A study of one trial that no test may change; `one_trial` is a copy."""
    from nas.search.run import run_search

    directory = tmp_path_factory.mktemp("searched")
    space = directory / "tiny.toml"
    space.write_text(TINY_SPACE)
    return run_search(RequestOf(directory, space)(trials=1))


@pytest.fixture
def one_trial(request_of: RequestOf, searched_once: "SearchResult") -> "SearchResult":
    """What `run_search(request_of(trials=1))` gives, without the search."""
    location = request_of().location_for("digits")
    assert location.path is not None
    assert searched_once.location.path is not None
    location.path.parent.mkdir()
    shutil.copy(searched_once.location.path, location.path)
    return replace(searched_once, location=location)
