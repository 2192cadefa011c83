"""Kills one of three workers at a random moment, again and again, and looks at what is left.

Each round starts three workers on a new study of the bundled digits, kills one (SIGKILL), or stops
it for longer than the grace period (`--stop`: SIGSTOP, then SIGCONT), and lets the others end::

    python benchmarks/kills.py --rounds 20
    python benchmarks/kills.py --rounds 3 --stop
    python benchmarks/kills.py --rounds 20 --storage postgresql+psycopg://postgres@127.0.0.1/postgres

A round is good when the study holds exactly the trials asked for, all different, no trial runs or
waits, none failed but that of the dead worker, the numbers have no gap, no checkpoint is left, and
the same search again changes nothing. The accuracy of a design that was trained again must also be
that of the same design trained without interruption. Exit status 1
when a round is not good. Needs `os.fork`.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

import optuna
import torch

from nas.data.loading import load_dataset
from nas.runtime.devices import find_device
from nas.search.candidates import candidate_of
from nas.search.recipe import search_recipe
from nas.search.request import SPLIT_SEED, SearchRequest
from nas.search.run import run_search
from nas.search.trainer import CandidateTraining
from nas.study.location import StudyError
from nas.study.reader import read_study
from nas.study.records import DIED, Outcome, StudyRecord, TrialRecord
from signals import SPACE

WORKERS = 3
TRIALS = 9


def start(request: SearchRequest) -> int:
    """A process that searches; its id."""
    process = os.fork()
    if process:
        return process
    try:
        run_search(request)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def wait_for_a_trial(request: SearchRequest) -> None:
    """Until the study has begun."""
    location = request.location_for("digits")
    while True:
        with suppress(StudyError):  # not made yet
            if read_study(location).trials:
                return
        time.sleep(0.1)


def accuracy(trial: TrialRecord, request: SearchRequest) -> float | None:
    """The validation accuracy of a trial's design, trained in one go."""
    dataset = load_dataset(
        request.dataset, request.data_dir, split_seed=SPLIT_SEED, subset=request.subset or 1.0
    )
    training = CandidateTraining(
        dataset=dataset,
        config=search_recipe(dataset, torch.device("cpu"), request.epochs),
        seed=request.seed,
        device=find_device("cpu"),
    )
    assert trial.architecture is not None
    candidate = candidate_of(trial.architecture, {}, request.space_for(dataset.input))
    epochs = trial.curve[-1][0]
    result = training.train(candidate, lambda done: None, lambda r: r.epoch == epochs, None)
    return result.val_accuracy


def faults(request: SearchRequest, study: StudyRecord, ends: list[int], killed: int) -> list[str]:
    """What is wrong with a study after a round."""
    found = []
    trained = [t for t in study.trials if t.counts]
    if len(trained) != request.trials:
        found.append(f"{len(trained)} designs trained, {request.trials} asked for")
    if len({t.architecture for t in trained}) != len(trained):
        found.append("a design was trained twice")
    if any(t.outcome is None for t in study.trials):
        found.append("a trial runs or waits")
    died = {t.architecture for t in study.trials if t.reason == DIED}
    if study.outcomes[Outcome.FAILED] > study.interrupted:
        found.append("a trial failed")
    if [t.number for t in study.trials] != list(range(len(study.trials))):
        found.append("numbers have gaps")
    if any(end != 0 for i, end in enumerate(ends) if i != killed):
        found.append(f"a worker that was not killed ended with {ends}")
    folder = request.checkpoints_for(request.location_for("digits"))
    if folder.exists():
        found.append("checkpoints are left")
    for trial in trained:
        if trial.architecture in died and trial.val_accuracy != accuracy(trial, request):
            found.append(f"trial {trial.number} was continued to another accuracy")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", action="store_true", help="stop and revive instead of killing")
    parser.add_argument("--storage", help="a database server instead of SQLite")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    bad = retried = 0
    with tempfile.TemporaryDirectory() as directory:
        space = Path(directory) / "space.toml"
        space.write_text(SPACE)
        for i in range(options.rounds):
            request = SearchRequest(
                max_parameters=4_000,
                trials=TRIALS,
                dataset="digits",
                space=space,
                epochs=20,
                subset=0.5,
                studies_dir=Path(directory) / "studies",
                storage=options.storage,
                study=f"kills-{os.getpid()}-{i}",
                grace=5,
                precision="float32",
            )
            workers = [start(request) for _ in range(WORKERS)]
            killed = rng.randrange(WORKERS)
            moment = rng.uniform(0, 6)
            wait_for_a_trial(request)
            time.sleep(moment)
            with suppress(ProcessLookupError):
                os.kill(workers[killed], signal.SIGSTOP if options.stop else signal.SIGKILL)
            if options.stop:
                time.sleep(3 * request.grace)
                os.kill(workers[killed], signal.SIGCONT)
                killed = -1  # it must end well, too
            ends = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
            location = request.location_for("digits")
            study = read_study(location)
            found = faults(request, study, ends, killed)
            again = start(request)
            if os.waitpid(again, 0)[1] or read_study(location).trials != study.trials:
                found.append("the same search again is not done at once")
            again = study.interrupted
            retried += again
            bad += bool(found)
            said = "; ".join(found) or "good"
            print(
                f"round {i}: after {moment:.1f} s, {again} trained again: {said}",
                flush=True,
            )
    print(f"{options.rounds - bad} of {options.rounds} rounds good, {retried} trained again")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
