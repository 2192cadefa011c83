"""The runs of a final training over the workers of this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.data.catalogue import DataError
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.errors import RequestError
from nas.final.request import FinalRequest
from nas.final.runs import Run, RunFolder, RunObserver, RunResult, part_of, train_runs
from nas.runtime.arithmetic import choose
from nas.runtime.devices import open_device
from nas.runtime.pool import Say, run_workers, slots_for
from nas.runtime.precision import Precision
from nas.runtime.sharing import lock_of
from nas.search.continuing import DataOptions
from nas.text import are, plural
from nas.training.config import RECIPES, TrainingConfig
from nas.training.loop import EpochResult, task_of


class FinalFailed(RuntimeError):
    """The training came to no end; the message says why."""


class FinalRuns:
    """What all runs of one final training have in common.

    Args:
        request: what was asked.
        data: which images, and how they are read.
        folder: where the folders of the runs lie.
        precision: of the runs.

    Raises:
        DataError: the dataset cannot be had.
    """

    def __init__(
        self,
        request: FinalRequest,
        data: DataOptions,
        folder: Path,
        precision: Precision,
    ) -> None:
        self.data = data
        self.dataset = load_dataset(
            data.dataset,
            data.data_dir,
            split_seed=data.split_seed,
            subset=request.subset,
            skip_broken=data.skip_broken,
            drop_duplicates=data.drop_duplicates,
        )
        self._request = request
        self._folder = folder
        self.precision = precision
        self._parts: dict[str, ImageDataset] = {}

    def part(self, on: str) -> ImageDataset:
        """The images that runs on this part train on."""
        if on not in self._parts:
            self._parts[on] = part_of(self.dataset, on)
        return self._parts[on]

    def config(self, on: str) -> TrainingConfig:
        """The recipe of runs on this part."""
        config = RECIPES[self._request.recipe](task_of(self.part(on)))
        config = replace(config, precision=self.precision)
        epochs = self._request.epochs
        return replace(config, epochs=epochs) if epochs else config

    def folder(self, run: Run) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self._folder, run, self.part(run.on), self.config(run.on))

    def train(self, runs: Sequence[Run], observer: RunObserver) -> None:
        """Trains the runs that are not done, in this process; returns when all are.

        Raises:
            RequestError: this device lacks the precision; the GPUs of a machine may differ.
            OSError: a folder cannot be written.
            KeyboardInterrupt: on a signal.
        """
        device = open_device(self._request.device)
        choose(self.precision, device)  # or refuse
        folders = []
        for on in dict.fromkeys(run.on for run in runs):
            there = self.part(on).to(device)
            config = self.config(on)
            folders += [RunFolder(self._folder, run, there, config) for run in runs if run.on == on]
        lock = lock_of(device, self._request.per_gpu)
        train_runs(folders, device=device, observer=observer, lock=lock)


@dataclass(frozen=True, slots=True)
class _Task:
    request: FinalRequest
    data: DataOptions
    folder: Path
    precision: Precision
    runs: tuple[Run, ...]


class _Listener:
    """Hands on what workers say."""

    def __init__(self, observer: Any) -> None:
        self.failures: list[str] = []
        self._observer = observer

    def hear(self, number: int, event: str, *said: Any) -> None:
        """Hands on an event, or keeps why a worker failed."""
        if event == "failure":
            self.ended(number, said[0])
        else:
            getattr(self._observer, event)(*said)

    def ended(self, number: int, reason: str | None) -> None:
        """Tells of a worker that died."""
        if reason is not None:
            self.failures.append(f"worker {number + 1} {reason}")
            self._observer.worker_failed(self.failures[-1])


class _Relay(RunObserver):
    def __init__(self, say: Say) -> None:
        self._say = say

    def run_started(self, run: Run, epochs_done: int) -> None:
        self._say("run_started", run, epochs_done)

    def epoch_ended(self, run: Run, result: EpochResult) -> None:
        self._say("epoch_ended", run, result)

    def capture_failed(self, reason: str) -> None:
        self._say("capture_failed", reason)

    def run_ended(self, run: Run, val_accuracy: float | None, seconds: float) -> None:
        self._say("run_ended", run, val_accuracy, seconds)


def train_all(
    final: FinalRuns,
    request: FinalRequest,
    runs: Sequence[Run],
    folder: Path,
    observer: Any,  # nas.final.final.FinalObserver
) -> list[RunResult]:
    """Trains the runs that are not done, with as many workers as are asked for.

    Raises:
        FinalFailed: all workers died.
        OSError: a folder cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM.
    """
    for run in runs:
        final.folder(run).forget_lack_of_memory()
    left = [run for run in runs if final.folder(run).result() is None]
    workers = min(request.workers, len(left))
    failures: list[str] = []
    if workers == 1:
        final.train(left, observer)
    elif workers > 1:
        listener = _Listener(observer)
        slots = slots_for(request.device, workers, request.per_gpu)
        tasks = [
            _Task(
                replace(request, workers=1, device=slot.device),
                final.data,
                folder,
                final.precision,
                tuple(left),
            )
            for slot in slots
        ]
        run_workers(_work, tasks, slots, listener)
        failures = listener.failures
    results = [result for run in runs if (result := final.folder(run).result()) is not None]
    if len(results) < len(runs):
        why = "; ".join(failures) or "their files were removed meanwhile"
        missing = len(runs) - len(results)
        raise FinalFailed(f"{plural(missing, 'run')} {are(missing)} not done: {why}")
    return results


def _work(task: _Task, say: Say) -> None:
    """What a worker's process does."""
    try:
        runs = FinalRuns(task.request, task.data, task.folder, task.precision)
        runs.train(task.runs, _Relay(say))
    except (RequestError, DataError, FinalFailed, OSError) as error:
        say("failure", f"failed: {error}")
