"""The runs of a final training over the workers of this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.data.catalogue import DataError
from nas.data.loading import load_dataset
from nas.data.types import ImageDataset
from nas.errors import RequestError
from nas.final.events import OnEvent
from nas.final.request import FinalRequest
from nas.final.runs import OnRunEvent, Run, RunEvent, RunFolder, RunResult, part_of, train_runs
from nas.runtime.arithmetic import choose
from nas.runtime.devices import open_device
from nas.runtime.pool import Report, WorkerError, run_workers, slots_for
from nas.runtime.precision import Precision
from nas.runtime.sharing import lock_of
from nas.search.continuing import DataOptions
from nas.search.events import WorkerFailed
from nas.text import are, plural
from nas.training.config import RECIPES, TrainingConfig
from nas.training.loop import task_of


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

    def train(self, runs: Sequence[Run], on_event: OnRunEvent) -> None:
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
        train_runs(folders, device=device, on_event=on_event, lock=lock)


@dataclass(frozen=True, slots=True)
class _Task:
    request: FinalRequest
    data: DataOptions
    folder: Path
    precision: Precision
    runs: tuple[Run, ...]


def train_all(
    final: FinalRuns,
    request: FinalRequest,
    runs: Sequence[Run],
    folder: Path,
    on_event: OnEvent,
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
        final.train(left, on_event)
    elif workers > 1:

        def on_end(number: int, reason: str | None) -> None:
            if reason is not None:
                failures.append(f"worker {number + 1} {reason}")
                on_event(WorkerFailed(failures[-1]))

        def on_report(number: int, event: RunEvent | WorkerError) -> None:
            if isinstance(event, WorkerError):
                on_end(number, event.reason)
            else:
                on_event(event)

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
        run_workers(_work, tasks, slots, on_report, on_end)
    results = [result for run in runs if (result := final.folder(run).result()) is not None]
    if len(results) < len(runs):
        why = "; ".join(failures) or "their files were removed meanwhile"
        missing = len(runs) - len(results)
        raise FinalFailed(f"{plural(missing, 'run')} {are(missing)} not done: {why}")
    return results


def _work(task: _Task, report: Report) -> None:
    """What a worker's process does."""
    try:
        runs = FinalRuns(task.request, task.data, task.folder, task.precision)
        runs.train(task.runs, report)
    except (RequestError, DataError, FinalFailed, OSError) as error:
        report(WorkerError(f"failed: {error}"))
