"""Sixteen processes begin one new study at the same moment, under the eyes of the dashboard.

Each is a search of its own, as if it were on another machine. Until the last one has ended, Optuna
Dashboard's list of studies and the study itself are asked for once a second::

    python benchmarks/crowd.py
    python benchmarks/crowd.py --storage postgresql+psycopg://postgres@127.0.0.1/postgres

Measured on a 2-core Intel Xeon: 320 of 320 designs in 34 s on SQLite (62 answers of the dashboard),
in 40 s on PostgreSQL 15 (64), both without a fault.

Exit status 1 unless the study holds exactly the trials asked for, all different, none runs, waits
or has failed, the numbers have no gap, every process ended well, and every question was answered.
Needs `os.fork`.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch

from kills import start
from machine import load, processor, software
from nas.dashboard.server import make_dashboard
from nas.search.request import SearchRequest
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import Outcome, StudyRecord

SPACE = """
stages = [1, 2]
blocks = [1, 2, 3]
channels = [4, 6, 8, 10, 12]
kernels = 3
shortcut_kernels = [1, 3]
pool = 4
"""
PAUSE = 1.0  # seconds between two questions


class Watch:
    """Asks the dashboard again and again, in a thread of its own."""

    def __init__(self, location: StudyLocation) -> None:
        self.answers = 0
        self.errors: list[str] = []
        self._location = location
        self._done = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A block in which it asks."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            try:
                dashboard = make_dashboard(self._location, port=0, studies_dir=Path("studies"))
            except StudyError:  # not made yet
                continue
            break
        else:
            return
        server = dashboard.server
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/api/studies"
        number = dashboard.path.rsplit("/", 1)[1]
        while True:
            self._ask(address, lambda said: len(said["study_summaries"]) > 0)
            self._ask(f"{address}/{number}?after=0", lambda said: "trials" in said)
            if self._done.wait(PAUSE):
                break
        server.shutdown()
        thread.join()
        server.server_close()

    def _ask(self, url: str, good: Callable[[Any], bool]) -> None:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                said = json.load(answer)
            if not good(said):
                raise ValueError(f"{url} answered {str(said)[:200]}")
            self.answers += 1
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")


def faults(study: StudyRecord, trials: int, ends: list[int], watch: Watch) -> list[str]:
    """What is not as it must be."""
    found = []
    trained = [t for t in study.trials if t.counts]
    if len(trained) != trials:
        found.append(f"{len(trained)} designs trained, {trials} asked for")
    if len({t.architecture for t in trained}) != len(trained):
        found.append("a design was trained twice")
    if any(t.outcome is None for t in study.trials):
        found.append("a trial runs or waits")
    if study.outcomes.get(Outcome.FAILED, 0):
        found.append("a trial failed")
    if [t.number for t in study.trials] != list(range(len(study.trials))):
        found.append("numbers have gaps")
    if any(ends):
        found.append(f"the processes ended with {ends}")
    if not watch.answers:
        found.append("the dashboard answered nothing")
    return found + [f"dashboard: {error}" for error in watch.errors]


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--each", type=int, default=20, help="trials asked for per process")
    parser.add_argument("--storage", help="a database server instead of SQLite")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    print(f"{processor()}, {load()}, {software('torch', 'optuna')}")
    trials = options.processes * options.each
    with tempfile.TemporaryDirectory() as directory:
        space = Path(directory) / "space.toml"
        space.write_text(SPACE)
        request = SearchRequest(
            max_parameters=20_000,
            trials=trials,
            dataset="digits",
            space=space,
            epochs=1,
            subset=0.2,
            studies_dir=Path(directory) / "studies",
            storage=options.storage,
            study=f"crowd-{os.getpid()}",
        )
        location = request.location_for("digits")
        began = time.monotonic()
        processes = [start(request) for _ in range(options.processes)]
        watch = Watch(location)
        with watch.watching():
            ends = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes]
        seconds = time.monotonic() - began
        study = read_study(location)
    found = faults(study, trials, ends, watch)
    by = len({t.worker for t in study.trials})
    print(
        f"{options.processes} processes: {study.trained} designs trained by {by} of them in "
        f"{seconds:.0f} s, the dashboard answered {watch.answers} questions: "
        + ("; ".join(found) or "good")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
