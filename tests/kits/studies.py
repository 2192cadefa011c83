"""Searches that end in a moment, in other processes too."""

import dataclasses
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
from optuna.pruners import NopPruner

from nas.search.history import History
from nas.search.request import SearchRequest
from nas.study.location import StudyLocation
from nas.study.store import Store
from tests.kits import warm

TINY_SPACE = """
stages = [1, 2]
blocks = [1, 2]
channels = [4, 6, 8]
kernels = 3
shortcut_kernels = [1, 3]
pool = 4
"""


class RequestOf:
    def __init__(self, directory: Path, space: Path) -> None:
        self._plain = {
            "max_parameters": 5_000_000,
            "trials": 3,
            "dataset": "digits",
            "data_dir": directory / "data",
            "studies_dir": directory / "studies",
            "epochs": 1,
            "subset": 0.2,
            "space": space,
            "precision": "float32",  # which is chosen by timing else, and so not always the same
        }

    def __call__(self, **changes: object) -> SearchRequest:
        return SearchRequest(**{**self._plain, **changes})  # type: ignore[arg-type]


def queue_design(location: StudyLocation, *, blocks_1: int, channels_1: int) -> None:
    """Queues a design of one stage in a study, as a person may with Optuna."""
    study = optuna.load_study(study_name=location.name, storage=location.url)
    fixed = {"stages": 1, "kernels_1": 3, "pool": 4}
    study.enqueue_trial({**fixed, "blocks_1": blocks_1, "channels_1": channels_1})


def running_trial(store: Store, worker: str) -> int:
    """Writes a trial of a worker, without a design, and returns its id."""
    history = History(store, NopPruner())
    history.refresh()
    trial = history.study.ask()
    trial.set_user_attr("worker", worker)
    return store.add(history.trial(trial)).id


_SEARCHES = """
import json, os, sys, time, torch
from nas.search.request import SearchRequest
from nas.search.events import EpochEnded
from nas.search.run import run_search

def slow(event):
    if isinstance(event, EpochEnded):
        time.sleep(float(sys.argv[3]))

children = []
for _ in range(int(sys.argv[1]) - 1):  # imported once: that takes longer than the searches
    children.append(os.fork())
    if children[-1] == 0:
        children.clear()
        break
torch.set_num_threads(1)
result = run_search(SearchRequest(**json.loads(sys.argv[2])), slow)
print(json.dumps([result.ending, result.newly_trained]), flush=True)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children) != 0)
"""


def start_processes(
    count: int, request: SearchRequest, pause: float = 0.0
) -> "subprocess.Popen[str]":
    """Starts searches, each a process; every one prints how it ended and what it trained.

    With a pause after every epoch, in seconds, trials take their time on a fast machine too.
    """
    values = json.dumps(dataclasses.asdict(request), default=str)
    return warm.Popen[str](
        [sys.executable, "-c", _SEARCHES, str(count), values, str(pause)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def trials_in(location: StudyLocation, state: str) -> int:
    """How many trials of the study are in a state; 0 while there is no study."""
    if location.path is None or not location.path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{location.path}?mode=ro", uri=True)) as database:
        query = "SELECT count(*) FROM trials WHERE state = ?"
        try:
            return int(database.execute(query, (state,)).fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # the tables are not made yet
