"""What a second worker brings on two cores: designs trained per hour, one thread each.

The same designs of the bundled digits (random ones, none stopped early) are trained by one worker
with one thread and by two, in turn, several times::

    python benchmarks/workers.py --check

Measured on an otherwise idle 2-core Intel Xeon, one round of 12 designs: 39.5 s alone, 20.4 s by
two, 1.94 times as fast. Time is from the start of the first trial to the end of the last, so
loading is not in it. With `--check` the exit status is 1 when two are not 1.5 times as fast.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from machine import load, processor, software
from nas.study.location import StudyLocation
from nas.study.reader import read_study

LEAST = 1.5


def seconds(workers: int, trials: int, directory: Path) -> float:
    """How long that many workers take for the trials of a new study."""
    name = f"{workers}-workers-{len(list(directory.iterdir()))}"
    words = f"--budget 5e6 --dataset digits --sampler random --pruner none --trials {trials}"
    where = ["--studies-dir", str(directory), "--reports-dir", str(directory), "--study", name]
    subprocess.run(
        [sys.executable, "-m", "nas.search", *words.split(), "--workers", str(workers), *where],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found = read_study(StudyLocation.at(name, studies_dir=directory)).trials
    started = min(t.started for t in found if t.started)
    return (max(t.finished for t in found if t.finished) - started).total_seconds()


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when the goal is missed")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{processor()}, {load()}, {software('torch', 'optuna')}")
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(options.rounds):
            one, two = (seconds(n, options.trials, Path(directory)) for n in (1, 2))
            ratios.append(one / two)
            print(f"{options.trials} designs: {one:.1f} s alone, {two:.1f} s by two", flush=True)
    ratio = median(ratios)
    print(f"two workers are {ratio:.2f} times as fast as one (goal: {LEAST})")
    return 1 if options.check and ratio < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
