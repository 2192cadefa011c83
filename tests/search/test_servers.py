"""Studies in a database server: several processes on one study, as on SQLite."""

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from nas.commands import main
from nas.runtime import signals
from nas.search.events import (
    DatabaseBack,
    DatabaseGone,
    Event,
    TrialEnded,
    TrialStarted,
    ignore,
)
from nas.search.retrying import Retrying
from nas.search.run import SearchFailed, run_search
from nas.study.location import StudyError
from nas.study.reader import read_study
from nas.study.records import DIED, Outcome, TrialRecord
from nas.study.store import open_store
from postgres import MISSING, Server, serving
from tests.kits.events import on
from tests.kits.studies import RequestOf, start_processes
from tests.kits.waiting import PATIENCE, wait_until

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A server of its own, empty."""
    with serving() as server:
        yield server


def test_four_processes_on_a_new_study_of_a_server_train_exactly_what_was_asked_for(
    request_of: RequestOf, postgres: Server
) -> None:
    request = request_of(trials=8, max_parameters=4_000, storage=postgres.url, study="shared")
    processes = start_processes(4, request)
    _, errors = processes.communicate(timeout=PATIENCE)
    assert processes.returncode == 0, errors
    study = read_study(request.location_for("digits"))
    assert study.trained == 8
    assert Outcome.FAILED not in study.outcomes
    trained = [t for t in study.trials if t.counts]
    assert len({t.architecture for t in trained}) == 8
    assert len({t.worker for t in trained}) > 1
    assert [t.number for t in study.trials] == list(range(len(study.trials)))
    assert len(study.searches) == 4


def test_processes_on_a_server_share_what_they_measure(
    request_of: RequestOf, postgres: Server
) -> None:
    request = request_of(trials=4, max_latency=10_000, storage=postgres.url, study="timed")
    processes = start_processes(2, request)
    _, errors = processes.communicate(timeout=PATIENCE)
    assert processes.returncode == 0, errors
    study = read_study(request.location_for("digits"))
    assert len(study.latency_machines) == 1
    assert all(trial.latency_ms for trial in study.ranking)
    run_search(dataclasses.replace(request, trials=5))
    assert read_study(request.location_for("digits")).trained == 5


def test_a_server_that_is_restarted_at_any_moment_does_not_end_a_search(
    request_of: RequestOf, postgres: Server
) -> None:
    heard: list[str] = []

    def restart(event: Event) -> None:
        match event:
            case TrialStarted(number=1):
                postgres.restart()  # noticed by a report
            case TrialEnded(trial) if trial.number == 2:
                postgres.restart()  # noticed by the scheduler
            case DatabaseGone():
                heard.append("gone")
            case DatabaseBack():
                heard.append("back")

    url = f"{postgres.url}?connect_timeout=10&tcp_user_timeout=30000"  # as docs/cluster.md says
    request = request_of(trials=5, storage=url, study="restarted")
    study = run_search(request, restart).study
    assert heard == ["gone", "back"] * 2
    assert study.outcomes == {Outcome.TRAINED: 5}
    whole = run_search(request_of(trials=5)).study  # in a file
    assert [t.architecture for t in study.trials] == [t.architecture for t in whole.trials]


def test_a_worker_on_a_server_that_was_stopped_finds_its_trial_lost(
    request_of: RequestOf, postgres: Server
) -> None:
    request = request_of(trials=2, storage=postgres.url, study="stopped", epochs=4, grace=5)
    location = request.location_for("digits")

    def trials() -> tuple[TrialRecord, ...]:
        with suppress(StudyError):  # not made yet
            return read_study(location).trials
        return ()

    stopped = start_processes(1, request, pause=0.5)
    wait_until(lambda: any(trial.curve for trial in trials()), stopped)
    stopped.send_signal(signal.SIGSTOP)
    revive = on(TrialEnded, lambda event: stopped.send_signal(signal.SIGCONT))
    run_search(dataclasses.replace(request, trials=1), revive)
    output, errors = stopped.communicate(timeout=PATIENCE)
    assert stopped.returncode == 0, errors
    assert json.loads(output) == ["done", 1]
    lost, again, other = trials()
    assert (lost.reason, lost.architecture) == (DIED, again.architecture)
    assert lost.worker == other.worker != again.worker
    assert read_study(location).trained == 2


@pytest.mark.parametrize("place", ["before the host", "in the query"])
def test_the_password_of_a_url_comes_out_nowhere(
    request_of: RequestOf, postgres: Server, tmp_path: Path, capsys: Any, place: str
) -> None:
    engine = sqlalchemy.create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    secret = "hush4711"

    def wrong(url: str) -> str:
        return url.replace(secret, secret + "x")

    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE nas LOGIN SUPERUSER PASSWORD '{secret}'")
        access = Path(connection.exec_driver_sql("SHOW hba_file").scalar_one())
        password = "host all nas 127.0.0.1/32 scram-sha-256\n"
        access.write_text(password + access.read_text())
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    server = postgres.url.partition("@")[2]
    if place == "in the query":
        url = f"postgresql+psycopg://nas@{server}?connect_timeout=10&password={secret}"
    else:
        url = f"postgresql+psycopg://nas:{secret}@{server}"
    request = request_of()
    of_study = ["--study", "mine", "--reports-dir", str(tmp_path / "reports"), "--storage"]
    doctor = ["doctor", "--dataset", "digits", "--study", "mine", "--storage"]
    search = ["search", "--budget", "5M", "--dataset", "digits", "--space", str(request.space)]
    search += ["--epochs", "1", "--subset", "0.1", "--trials", "2"]
    assert main([*search, *of_study, url]) == 0
    assert main([*search, *of_study, url, "--json"]) == 0
    assert main([*search, *of_study, wrong(url)]) == 2
    assert main(["report", *of_study, url]) == 0
    assert main(["report", *of_study, wrong(url)]) == 2
    assert main([*doctor, url]) == 0
    assert main([*doctor, wrong(url)]) == 1
    captured = capsys.readouterr()
    (report,) = (tmp_path / "reports").iterdir()
    said = [captured.out, captured.err, report.read_text()]
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            said.append(str(connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()))
    engine.dispose()
    assert "***" in captured.out
    assert "password authentication failed" in captured.err
    assert not any(secret in text for text in said)


def test_a_server_that_stays_away_ends_the_search_and_nothing_is_lost(
    request_of: RequestOf, postgres: Server
) -> None:
    location = run_search(request_of(trials=2, storage=postgres.url, study="away")).location
    with open_store(location) as database, signals.listening():
        retrying = Retrying(database, ignore, patience=0.6)
        postgres.stop()
        with pytest.raises(SearchFailed, match=r"did not answer for 1 seconds.*the same command"):
            retrying(lambda: database.report(1, {}))
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            retrying(lambda: database.report(1, {}))
    postgres.start()
    assert read_study(location).trained == 2
