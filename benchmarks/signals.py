"""Interrupts real commands at random moments, and looks at what they say and what is left.

Each round starts a command on the bundled digits, sends it SIGINT as a terminal does (to it and its
workers) or SIGTERM as a scheduler does (to it alone) at any moment from its first line to its last,
and then runs the same command to its end::

    python benchmarks/signals.py --rounds 50
    python benchmarks/signals.py --rounds 10 --case final --signal SIGTERM
    python benchmarks/signals.py --rounds 10 --twice

A round is good when the command ends with 130 and neither a traceback nor an ignored exception is
on stderr, the study is whole and no trial in it runs, and the same command then gives what it
gives undisturbed: the same designs with the same accuracies, weights equal bit for bit; with two
workers as many designs, all different. With `--twice` a second signal follows at once, which ends
the command as a kill does: trials may then be left running, and their designs are trained again.
Exit status 1 when a round is not good. Needs Linux's /proc.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import torch

from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
SPACE = """
stages = [1, 2]
blocks = [1, 2]
channels = [4, 6, 8]
kernels = 3
shortcut_kernels = [1, 3]
pool = 4
"""
STUDY = "digits-5M"
SEARCH = ("nas.search", "--budget", "5M", "--dataset", "digits", "--space", "tiny.toml")
SHORT = ("--subset", "0.3", "--trials", "4", "--epochs", "8")
PAUSE = 0.2  # seconds between two signals, which are one and the same if they come together
LAST_RESORT = 600  # seconds until a command that hangs is given up


@dataclass(frozen=True)
class Case:
    """A command, and what must be the same when it was interrupted and run again."""

    name: str
    arguments: Sequence[str]  # of Python, after -m
    result: Callable[[Path], Any]  # of the folder it ran in


def searched(folder: Path) -> dict[str, float]:
    """The accuracies of the trained designs, by design."""
    study = read_study(StudyLocation.at(STUDY, studies_dir=folder / "studies"))
    counted = [t for t in study.trials if t.counts]
    found = {str(t.architecture): t.curve[-1][1] for t in counted}
    if len(found) < len(counted):
        raise ValueError("a design was trained twice")
    return found


def how_many(folder: Path) -> int:
    """How many designs were trained, all different."""
    return len(searched(folder))


def trained(folder: Path) -> Any:
    """The epochs and the weights of a run."""
    epochs = json.loads((folder / "run" / "metrics.json").read_text())["epochs"]
    weights = load_checkpoint(folder / "run" / "last.pt")["run"]["model"]
    return [[e[name] for name in ("train_loss", "val_loss")] for e in epochs], plain(weights)


def finished(folder: Path) -> Any:
    """What a final training measured, and the weights it exported."""
    study = read_study(StudyLocation.at(STUDY, studies_dir=folder / "studies"))
    (reading,) = study.readings
    assert reading.result is not None
    model = folder / "studies" / STUDY / "final" / "model.safetensors"
    return reading.result["finalists"], reading.networks, model.read_bytes()


def plain(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Tensors as values that can be compared."""
    return {name: tensor.tolist() for name, tensor in state.items()}


DESIGN = ("--blocks", "1,1", "--channels", "8,8", "--pool", "4")
CASES = (
    Case("search", (*SEARCH, *SHORT), searched),
    Case("search --workers 2", (*SEARCH, *SHORT, "--workers", "2"), how_many),
    Case(
        "train",
        ("nas.train", *DESIGN, "--dataset", "digits", "--epochs", "20", "--out", "run", "--resume"),
        trained,
    ),
    Case(
        "final",
        ("nas.final", "--study", STUDY, "--recipe", "fast", "--epochs", "12", "--seeds", "2"),
        finished,
    ),
)


def start(case: Case, folder: Path) -> "Popen[str]":
    """The command in its folder; returns once it hears signals."""
    process = Popen(
        [sys.executable, "-m", *case.arguments],
        cwd=folder,
        text=True,
        stdout=PIPE,
        stderr=PIPE,
        # One thread: on networks this small two would wait for each other, above all under load.
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # a terminal's Ctrl-C reaches all processes of one
    )
    while process.poll() is None and not hears(process.pid, signal.SIGTERM):
        time.sleep(0.001)
    return process


def hears(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    (caught,) = (line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def is_over(process: int) -> bool:
    """Whether a child has ended, though its memory may still be given back; signals change nothing.

    Its parent has not asked for its status yet.
    """
    return not Path(f"/proc/{process}/cmdline").read_bytes()


def made(folder: Path, study: Path | None) -> Path:
    """A new folder for a command, with a study in it if it needs one."""
    (folder / "studies").mkdir(parents=True)
    (folder / "tiny.toml").write_text(SPACE)
    if study is not None:
        shutil.copy(study, folder / "studies")
    return folder


def undisturbed(case: Case, folder: Path) -> float:
    """Runs a command to its end; returns how many seconds it heard signals."""
    process = start(case, folder)
    began = time.monotonic()
    _, errors = process.communicate(timeout=LAST_RESORT)
    assert process.returncode == 0, errors
    return time.monotonic() - began


def interrupted(
    case: Case, folder: Path, numbers: Sequence[signal.Signals], seconds: float
) -> list[str]:
    """Runs a command and sends it signals after some seconds; what is wrong then.

    Nothing is, and nothing was shown, where the command was done before.
    """
    process = start(case, folder)
    time.sleep(seconds)
    expected = 0 if is_over(process.pid) else 130
    for i, number in enumerate(numbers if expected else ()):
        if i:
            time.sleep(PAUSE)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)  # it is there until it is asked how it ended
    _, errors = process.communicate(timeout=LAST_RESORT)
    found = []
    if process.returncode != expected:
        found.append(f"exit status {process.returncode}, not {expected}: {errors}")
    if any(word in errors for word in ("Traceback", "Exception ignored")):
        found.append(f"stderr: {errors}")
    path = folder / "studies" / f"{STUDY}.db"
    return found + faults_of_study(path, may_run=len(numbers) > 1)


def faults_of_study(path: Path, *, may_run: bool) -> list[str]:
    """What is wrong with a study's file after a command has ended."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        answer = database.execute("PRAGMA quick_check").fetchone()[0]
        found = [] if answer == "ok" else [f"the study is damaged: {answer}"]
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'trials'").fetchall()
        running = "SELECT count(*) FROM trials WHERE state = 'RUNNING'"
        if tables and not may_run and (count := database.execute(running).fetchone()[0]):
            found.append(f"{count} trials run")
    return found


def faults(
    case: Case, folder: Path, expected: Any, numbers: Sequence[signal.Signals], seconds: float
) -> list[str]:
    """What is wrong with a command that is interrupted and then run again."""
    found = interrupted(case, folder, numbers, seconds)
    again = start(case, folder)
    _, errors = again.communicate(timeout=LAST_RESORT)
    if again.returncode != 0:
        return [*found, f"run again, exit status {again.returncode}: {errors}"]
    if case.result(folder) != expected:
        found.append("run again it gives another result")
    return found


def measure(
    case: Case,
    rounds: int,
    choices: Sequence[Sequence[signal.Signals]],
    rng: random.Random,
    place: Path,
) -> int:
    """Prints every round of a case, each with one of the choices; returns how many are good."""
    study = None
    if case.arguments[0] == "nas.final":
        undisturbed(CASES[0], made(place / "searched", None))
        study = place / "searched" / "studies" / f"{STUDY}.db"
    whole = made(place / "whole", study)
    seconds = undisturbed(case, whole)
    expected = case.result(whole)
    good = 0
    for i in range(rounds):
        numbers, moment = rng.choice(choices), rng.uniform(0, seconds)
        folder = made(place / str(i), study)
        found = faults(case, folder, expected, numbers, moment)
        good += not found
        said = "; ".join(found) or "good"
        sent = " and ".join(number.name for number in numbers)
        print(f"{case.name}: {sent} after {moment:.2f} of {seconds:.2f} s: {said}", flush=True)
        shutil.rmtree(folder)
    return good


def main(argv: Sequence[str] | None = None) -> int:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of each case")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--case", choices=names, help="one alone (default: all)")
    parser.add_argument("--signal", choices=("SIGINT", "SIGTERM"), help="default: both")
    parser.add_argument("--twice", action="store_true", help="send the other one, too, at once")
    options = parser.parse_args(argv)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a script's job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or the commands ignore it, too
    choices = [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
    choices = [c for c in choices if options.signal in (None, c[0].name)]
    sent = [choice[: 2 if options.twice else 1] for choice in choices]
    rng = random.Random(options.seed)
    lines, bad = [], 0
    for case in CASES:
        if options.case in (None, case.name):
            with tempfile.TemporaryDirectory() as place:
                good = measure(case, options.rounds, sent, rng, Path(place))
            lines.append(f"{case.name}: {good} of {options.rounds} rounds good")
            bad += options.rounds - good
    print("\n".join(lines))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
