"""Studies in a database server: several processes on one study, as on SQLite."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nas.study.records import Outcome
from nas.study.storage import read_study
from tests.conftest import RequestOf
from tests.test_search import start_processes


def found(program: str) -> str | None:
    """PostgreSQL's program; Debian keeps those of a server off the PATH."""
    of_debian = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{program}")))
    return shutil.which(program) or (of_debian[-1] if of_debian else None)


INITDB, PG_CTL = found("initdb"), found("pg_ctl")

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not INITDB or not PG_CTL, reason="needs PostgreSQL's initdb and pg_ctl"),
]


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a server of its own, empty."""
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to other users
        user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to be run by root
            user = "postgres"
            try:
                shutil.chown(directory, user)
            except LookupError:
                pytest.skip("needs a user postgres when run by root")
        with served(Path(directory), user) as url:
            yield url


@contextmanager
def served(directory: Path, user: str | None) -> Iterator[str]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = directory / "data"

    def call(*words: str | None) -> None:
        subprocess.run(
            [word for word in words if word],
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=directory,
        )

    call(INITDB, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
    log = str(directory / "log")
    call(PG_CTL, "-D", str(data), "-o", options, "-l", log, "-w", "start")
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        call(PG_CTL, "-D", str(data), "-m", "immediate", "stop")


def test_four_processes_on_a_new_study_of_a_server_train_exactly_what_was_asked_for(
    request_of: RequestOf, postgres: str
) -> None:
    request = request_of(trials=12, max_parameters=4_000, storage=postgres, study="shared")
    processes = start_processes(4, request)
    _, errors = processes.communicate(timeout=120)
    assert processes.returncode == 0, errors
    study = read_study(request.location_for("digits"))
    assert study.trained == 12
    assert Outcome.FAILED not in study.outcomes
    trained = [t for t in study.trials if t.outcome and t.outcome.counts]
    assert len({t.architecture for t in trained}) == 12
    assert len({t.worker for t in trained}) > 1
    assert [t.number for t in study.trials] == list(range(len(study.trials)))
    assert len(study.searches) == 4
