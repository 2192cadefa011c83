"""Optuna Dashboard, through its own API: what is infeasible looks so, the best is the incumbent."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nas.study.dashboard import serve
from nas.study.location import StudyLocation
from nas.study.search import run_search
from tests.conftest import RequestOf, queue_design

HOST = "127.0.0.1"


@contextmanager
def served(location: StudyLocation) -> Iterator[tuple[str, str]]:
    """Address of a running dashboard, and the path of the study in it."""
    server, path = serve(location, host=HOST, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}", path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def test_infeasible_designs_look_so_and_the_best_trial_is_the_incumbent(
    request_of: RequestOf,
) -> None:
    budget = 2_500
    first = run_search(request_of(trials=3, max_parameters=budget))
    queue_design(first.location, blocks_1=2, channels_1=8)
    result = run_search(request_of(trials=4, max_parameters=budget))
    assert result.study.incumbent is not None
    with served(result.location) as (address, path):
        number = path.rsplit("/", 1)[1]
        study = fetch(f"{address}/api/studies/{number}?after=0")
        page = urllib.request.urlopen(f"{address}{path}", timeout=20).read().decode()
    assert "<html" in page.lower()
    assert [trial["number"] for trial in study["best_trials"]] == [result.study.incumbent.number]
    infeasible = set()
    for trial in study["trials"]:
        assert len(trial["constraints"]) == 1
        if any(value > 0 for value in trial["constraints"]):
            infeasible.add(trial["number"])
    over = {t.number for t in result.study.trials if (t.parameters or 0) > budget}
    assert infeasible == over
    assert over


def test_a_port_that_is_taken_is_one_line(request_of: RequestOf, capsys: Any) -> None:
    from nas.commands import main

    result = run_search(request_of(trials=1))
    assert result.location.path is not None
    with served(result.location) as (address, _):
        port = address.rsplit(":", 1)[1]
        arguments = [
            "--study",
            result.study.name,
            "--studies-dir",
            str(result.location.path.parent),
        ]
        assert main(["dashboard", *arguments, "--port", port]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"error: --port: expected a free port, got {port}")
