"""How well the remaining time of a search is told after a fifth of its runs.

::

    python benchmarks/remaining_time.py [STUDY.db ...]
    python benchmarks/remaining_time.py --real 3 [--busy]

The first replays studies that are finished (those in studies/ and others that are named): when each
of their runs began and ended, and after how many epochs, is in the database. At the end of the run
with which a fifth is done, `nas.search.remaining.time_left` is asked as in that search, and what it
says is compared with the time that the rest took. With --real small searches of the digits are run
first and replayed as well; --busy has as many other processes compute meanwhile as there are cores.
The factor is that between the middle of the range and the truth; 1.0 is right.
"""

import argparse
import contextlib
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna

from nas.search.remaining import RunTime, TimeLeft, time_left
from nas.search.request import SearchRequest
from nas.search.run import run_search
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord, TrialRecord
from nas.values import NO_LIMIT, seconds_of

STUDIES = Path(__file__).parents[1] / "studies"
_PAUSE = 60.0  # seconds without a run after which it is another search
_FEWEST = 10  # runs of a search that is replayed
_AT = 0.2  # of the runs


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a finished search."""

    worker: str
    began: datetime
    ended: datetime
    seconds: float  # of training
    share: float  # of a full run's epochs


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was said of a search, and what was true."""

    said: TimeLeft
    true: float  # seconds

    @property
    def factor(self) -> float:
        """Of what was said over what was true."""
        return max(self.said.middle, 1e-9) / max(self.true, 1e-9)


def runs_of(study: StudyRecord) -> list[Run]:
    """The runs of its longest search, in the order of their ends."""
    records = (_run(trial, study.settings.epochs) for trial in study.trials)
    found = sorted(filter(None, records), key=lambda run: run.began)
    searches: list[list[Run]] = [[]]
    for run in found:
        before = max((run.ended for run in searches[-1]), default=run.began)
        if (run.began - before).total_seconds() > _PAUSE:
            searches.append([])
        searches[-1].append(run)
    longest = max(searches, key=len)
    return sorted(longest, key=lambda run: run.ended)


def _run(trial: TrialRecord, epochs: int) -> Run | None:
    if not (trial.counts and trial.started and trial.finished and trial.seconds and trial.curve):
        return None
    share = trial.curve[-1][0] / epochs
    return Run(str(trial.worker), trial.started, trial.finished, trial.seconds, share)


def times_of(runs: Sequence[Run]) -> list[RunTime]:
    """As `nas.search.remaining.Pace` measures them."""
    times, before = [], dict[str, datetime]()
    for run in runs:
        begun = before.get(run.worker, run.began)
        times.append(RunTime(run.seconds, (run.ended - begun).total_seconds(), run.share))
        before[run.worker] = run.ended
    return times


def replayed(study: StudyRecord, at: float = _AT) -> Replayed | None:
    """What would have been said when this share of the runs had ended; None of too few runs."""
    runs = runs_of(study)
    if len(runs) < _FEWEST:
        return None
    search = study.searches[-1] if study.searches else {}
    done = math.ceil(at * len(runs))
    began, now, end = min(run.began for run in runs), runs[done - 1].ended, runs[-1].ended
    elapsed = (now - began).total_seconds()
    limit = str(search.get("time") or NO_LIMIT)
    wanted = search.get("trials")
    said = time_left(
        max(len(runs), wanted if isinstance(wanted, int) else 0) - done,
        ended=times_of(runs[:done]),
        running=[(now - run.began).total_seconds() for run in runs[done:] if run.began < now],
        workers=int(str(search.get("workers") or 1)),
        pruner=str(search.get("pruner") or "rungs"),  # the only one before it was kept
        limit=math.inf if limit == NO_LIMIT else seconds_of(limit) - elapsed,
    )
    return None if said is None else Replayed(said, (end - now).total_seconds())


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("studies", nargs="*", type=Path, help="databases of finished studies")
    parser.add_argument("--real", type=int, default=0, help="searches of the digits to run first")
    parser.add_argument("--trials", type=int, default=20, help="designs of each")
    parser.add_argument("--busy", action="store_true", help="other processes compute meanwhile")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, _others(options.busy):
        real = [_searched(Path(folder), i, options.trials) for i in range(options.real)]
        files = [*sorted(STUDIES.glob("*.db")), *options.studies, *real]
        return _print(files)


def _searched(folder: Path, seed: int, trials: int) -> Path:
    """The database of a search of the digits; the odd ones are short."""
    epochs = 4 if seed % 2 else None
    request = SearchRequest(
        max_parameters=5_000_000,
        dataset="digits",
        studies_dir=folder,
        study=f"real-{seed}",
        trials=trials,
        seed=seed,
        workers="auto",
        epochs=epochs,
        time=NO_LIMIT,
    )
    run_search(request)
    return folder / f"real-{seed}.db"


@contextlib.contextmanager
def _others(wanted: bool) -> Iterator[None]:
    """Processes that compute for nothing."""
    context = multiprocessing.get_context("spawn")
    number = multiprocessing.cpu_count() if wanted else 0
    others = [context.Process(target=_spin, daemon=True) for _ in range(number)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def _spin() -> None:
    while True:
        pass


def _print(files: Sequence[Path]) -> int:
    print(
        "| study | runs | said, seconds | true | factor | in the range |\n|---|---|---|---|---|---|"
    )
    found: list[Replayed] = []
    for file in files:
        study = read_study(StudyLocation.at(file.stem, studies_dir=file.parent))
        result = replayed(study)
        if result is None:
            continue
        found.append(result)
        said, inside = result.said, result.said.low <= result.true <= result.said.high
        print(
            f"| {file.parent.name}/{file.stem} | {len(runs_of(study))} | {said.low:.0f} to "
            f"{said.high:.0f} | {result.true:.0f} | {result.factor:.2f} | "
            f"{'yes' if inside else 'no'} |"
        )
    near = sum(1 / 1.5 <= result.factor <= 1.5 for result in found)
    print(f"\nwithin a factor of 1.5: {near} of {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
