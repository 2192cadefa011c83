"""What the report of a study costs: seconds and megabytes, at 50 and at 5,000 trials.

2.1 MB at 50 trials and 4.8 MB at 5,000; plotly 7.1.0, of which 2.0 MB are its library. Before the
figures had intervals it took 0.3 s at 50 trials and 2.8 s at 5,000, of which reading the study
takes 1.6 s; 2-core Intel Xeon, idle, Optuna 5.0.0, Python 3.11.

A study in SQLite on disk is filled with trials as a search leaves them, as in
`benchmarks/overhead.py`: the default space of 32x32 images, a budget of 5M, and 20 epochs reported
by every trial that trains, stopped early by the pruner. `read` is reading it, `report`
making the page and putting it on the disk. Run::

    python benchmarks/report.py --check

With `--check` the exit status is 1 when 50 trials cost more than 3 MB or 6 s, or 5,000 trials more
than 12 MB or 30 s. `--keep DIR` leaves studies and reports there, to be looked at.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import optuna

import overhead
from machine import load, processor, software
from nas.report.page import write_report
from nas.study.creation import begin_search
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudySettings
from nas.study.store import open_store

GOALS = {50: (3.0, 6.0), 5_000: (12.0, 30.0)}  # trials -> at most megabytes, seconds


def make_study(trials: int, directory: Path) -> StudyLocation:
    """A study of so many trials that count as trained."""
    location = StudyLocation.at(f"report-{trials}", studies_dir=directory)
    settings = StudySettings(
        dataset="cifar10",
        dataset_digest="none",
        input=overhead.CIFAR10,
        train_images=45_000,
        validation_images=5_000,
        subset=1.0,
        split_seed=0,
        limits=overhead.LIMITS,
        space=overhead.SPACE.to_dict(),
        recipe={"epochs": overhead.EPOCHS},
    )
    search = {"seed": 0, "sampler": "random", "pruner": "rungs", "objectives": ["val_accuracy"]}
    with open_store(location) as database, database.allocation_lock():
        begin_search(database.study, location, settings, search=search)
        overhead.fill(database, trials, "rungs")
    return location


def measure(location: StudyLocation, reports: Path) -> tuple[float, float, float]:
    """Seconds of reading the study, seconds of its report, and the megabytes of that."""
    began = time.perf_counter()
    study = read_study(location)
    read = time.perf_counter()
    path = write_report(study, reports)
    return read - began, time.perf_counter() - read, path.stat().st_size / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--trials", type=int, nargs="+", default=list(GOALS), metavar="N")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of every trial")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="of the studies and reports")
    options = parser.parse_args()
    overhead.EPOCHS = options.epochs
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{processor()}, {load()}")
    print(f"{software('optuna', 'plotly', 'pandas')}; {options.epochs} epochs\n")
    print(f"{'trials':>8}{'read':>8}{'report':>8}{'seconds':>9}{'MB':>7}")
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary)
        for trials in options.trials:
            location = make_study(trials, directory)
            read, report, megabytes = measure(location, directory / "reports")
            seconds = read + report
            print(f"{trials:>8,}{read:>8.1f}{report:>8.1f}{seconds:>9.1f}{megabytes:>7.1f}")
            most_megabytes, most_seconds = GOALS.get(trials, (float("inf"), float("inf")))
            missed |= megabytes > most_megabytes or seconds > most_seconds
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
