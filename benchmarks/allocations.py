"""How many workers one study on a database server carries: allocations per second.

An allocation is one decision of a search under the allocation lock: what is new is read, a design
is proposed, and its trial is written. So many processes search one study of a PostgreSQL server
that the benchmark starts, by the search's own loop, with the default sampler and pruner; all but
the training is real, and that is a sleep, after which recorded accuracies are reported::

    python benchmarks/allocations.py
    python benchmarks/allocations.py --processes 16 --trials 100 1000 --seconds 10

Shown for each number of trials that the study holds at the beginning: allocations per second over
all processes, refused proposals included, and how long one waited for its own, in milliseconds, the
median and 95 of 100. Where the processes ask for more than the study gives (`--processes` divided
by `--seconds`), the first number is the most there is, and the others are the queue before it.
Exit status 1 when a process failed, or the study does not hold exactly the trials asked for, all
different. Needs `os.fork`.
"""

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

import optuna
import torch

from machine import load, processor, software
from nas.runtime.liveness import worker_name
from nas.search.candidates import Candidate
from nas.search.events import Event, TrialEnded, TrialStarted
from nas.search.plan import Plan
from nas.search.pruners import make_pruner
from nas.search.request import PRUNERS, SAMPLERS
from nas.search.samplers import make_sampler
from nas.search.worker import Worker
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.store import open_store
from nas.training.checkpoint import Checkpoint
from nas.training.loop import Ending, EpochResult, OnBatches, OnEpoch, OnStart, TrainingResult
from overhead import CANDIDATES, EPOCHS, curve, make_study
from postgres import MISSING, serving


@dataclass(frozen=True)
class Sleeper:
    """Sleeps in place of training, and reports accuracies as of a design of this size."""

    seconds: float

    def __call__(
        self,
        candidate: Candidate,
        on_start: OnStart,
        on_epoch: OnEpoch,
        checkpoint: Checkpoint | None,
        on_batches: OnBatches | None,
    ) -> TrainingResult:
        """As `nas.search.trainer.Trainer`."""
        on_start(())
        done: list[EpochResult] = []
        for result in curve(candidate.cost, random.Random(candidate.key)):
            time.sleep(self.seconds / EPOCHS)
            done.append(replace(result, seconds=self.seconds / EPOCHS))
            if on_epoch(done[-1]):
                return TrainingResult(Ending.STOPPED, tuple(done), self.seconds)
        return TrainingResult(Ending.FINISHED, tuple(done), self.seconds)


class Clock:
    """Notes when each allocation of a process was there, and how long it took, but the first.

    That one reads the whole study.
    """

    def __init__(self) -> None:
        self.allocations: list[tuple[float, float]] = []  # moment, seconds
        self._asked: float | None = None

    def __call__(self, event: Event) -> None:
        """Follows the search."""
        if not isinstance(event, TrialStarted | TrialEnded):
            return
        now = time.monotonic()
        if self._asked is not None:
            self.allocations.append((now, now - self._asked))
        # A trial that was refused has not started: its end is an allocation, and asks for the next.
        self._asked = now if isinstance(event, TrialEnded) else None


def search(location: StudyLocation, plan: Plan, answer: Path) -> None:
    """What each process does."""
    clock = Clock()
    sampler = make_sampler(SAMPLERS[0], seed=0, domain=CANDIDATES.domain)
    with worker_name() as name, open_store(location) as store:
        Worker(name, store, plan, sampler, clock).run()
    answer.write_text(json.dumps(clock.allocations))


def start(location: StudyLocation, plan: Plan, answer: Path) -> int:
    """A process that searches; its id."""
    process = os.fork()
    if process:
        return process
    try:
        search(location, plan, answer)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def measure(
    location: StudyLocation, trials: int, *, processes: int, each: int, seconds: float
) -> tuple[list[tuple[float, float]], list[str]]:
    """The allocations in a study that holds so many trials, and what went wrong."""
    pruner = PRUNERS[0]
    make_study(location, trials, pruner)
    asked = trials + processes * each
    with tempfile.TemporaryDirectory() as directory:
        answers = [Path(directory) / f"{number}.json" for number in range(processes)]
        running = []
        for number, answer in enumerate(answers):
            plan = Plan(
                trials=asked,
                candidates=CANDIDATES,
                epochs=EPOCHS,
                seed=number,
                pruner=make_pruner(pruner, epochs=EPOCHS),
                train=Sleeper(seconds),
            )
            running.append(start(location, plan, answer))
        failed = sum(os.waitpid(process, 0)[1] != 0 for process in running)
        found = [
            tuple(a) for path in answers if path.exists() for a in json.loads(path.read_text())
        ]
    faults = [f"{failed} processes failed"] if failed else []
    study = read_study(location)
    if study.trained != asked:
        faults.append(f"{study.trained} designs trained, {asked} asked for")
    designs = [t.architecture for t in study.trials if t.counts]
    if len(set(designs)) != len(designs):
        faults.append("a design was trained twice")
    return found, faults


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500, 1_000], metavar="N")
    parser.add_argument("--each", type=int, default=4, help="trials per process that are measured")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a training that is a sleep")
    options = parser.parse_args(words)
    if MISSING is not None:
        print(f"error: {MISSING}", file=sys.stderr)
        return 2
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    assert CANDIDATES.domain.pool  # every search makes it when it first proposes; now all share it
    gc.freeze()  # or every process would write to, and so own, most of what all share
    print(f"{processor()}, {load()}, {software('optuna', 'sqlalchemy')}")
    print(f"{options.processes} processes that each ask again after {options.seconds:g} s\n")
    print(f"{'trials':>8}{'allocations/s':>15}{'median, ms':>12}{'95%, ms':>10}")
    bad = False
    with serving(f"-c max_connections={2 * options.processes + 20}") as server:
        for trials in options.trials:
            location = StudyLocation.at(
                f"allocations-{trials}", studies_dir="studies", storage=server.url
            )
            found, faults = measure(
                location,
                trials,
                processes=options.processes,
                each=options.each,
                seconds=options.seconds,
            )
            moments, waits = zip(*found, strict=True)
            rate = (len(found) - 1) / (max(moments) - min(moments))
            print(
                f"{trials:>8,}{rate:>15.1f}{1e3 * median(waits):>12.0f}"
                f"{1e3 * quantiles(waits, n=20)[-1]:>10.0f}"
                + ("  " + "; ".join(faults) if faults else ""),
                flush=True,
            )
            bad |= bool(faults)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
