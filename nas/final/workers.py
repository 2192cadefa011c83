"""The runs of a final training over the workers of this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from nas.data.catalogue import DataError
from nas.data.types import ImageDataset, Images
from nas.errors import RequestError
from nas.final.events import MoreRuns, OnEvent
from nas.final.records import FinalRecord
from nas.final.request import ALL, FinalRequest
from nas.final.runs import (
    OnRunEvent,
    Run,
    RunEnded,
    RunEvent,
    RunFolder,
    RunResult,
    train_runs,
)
from nas.runtime.arithmetic import choose
from nas.runtime.devices import find_device, open_device
from nas.runtime.machine import Share, free_bytes, usable_cores, workers_for
from nas.runtime.pool import Report, WorkerError, run_workers, slots_for
from nas.runtime.precision import Precision
from nas.runtime.sharing import lock_of
from nas.search.continuing import DataOptions
from nas.search.events import WorkerFailed
from nas.text import are, plural
from nas.training.config import RECIPES, TrainingConfig, recipe_of
from nas.training.loop import task_of
from nas.training.teacher import Teacher


class FinalFailed(RuntimeError):
    """The training came to no end; the message says why."""


@dataclass(frozen=True, kw_only=True)
class FinalRuns:
    """The runs of one final training."""

    request: FinalRequest
    data: DataOptions
    folder: Path  # where those of the runs lie
    precision: Precision
    tested: FinalRecord | None = None  # runs that were made before

    @cached_property
    def dataset(self) -> ImageDataset:
        """The training and validation images, on the CPU.

        Raises:
            DataError: the dataset cannot be had.
        """
        return self.data.load(self.request.subset)

    @cached_property
    def _joined(self) -> ImageDataset:
        """The dataset with the validation images among those that are trained on.

        What is measured on those says nothing any more.
        """
        parts = (self.dataset.train, self.dataset.validation)
        joined = Images(
            torch.cat([part.pixels_NHWC for part in parts]),
            torch.cat([part.labels_N for part in parts]),
        )
        return replace(self.dataset, train=joined)

    def part(self, on: str) -> ImageDataset:
        """The images that runs on this part train on."""
        return self._joined if on == ALL else self.dataset

    def config(self, on: str) -> TrainingConfig:
        """The recipe of runs on this part, sized to the device, too.

        Of tested runs it is theirs: a name may have meant something else on their day or device.
        """
        if self.tested and self.tested.on == on and (config := recipe_of(self.tested.recipe)):
            return config
        task = task_of(self.part(on), find_device(self.request.device))
        config = RECIPES[self.request.recipe](task)
        epochs = self.request.epochs or config.epochs
        return replace(config, precision=self.precision, epochs=epochs)

    def run_folder(self, run: Run, there: ImageDataset | None = None) -> RunFolder:
        """The folder of a run, whose teacher is trained.

        Args:
            run: which.
            there: the images that it trains on, where they are on a device already.

        Raises:
            RequestError: the weights of its teacher are missing or damaged.
        """
        if run.teacher and run.teacher not in self._teachers:
            networks = [self.run_folder(taught).network() for taught in run.teacher]
            self._teachers[run.teacher] = Teacher(networks)
        return RunFolder(
            self.folder,
            run,
            there or self.part(run.on),
            self.config(run.on),
            self._teachers[run.teacher] if run.teacher else None,
        )

    @cached_property
    def _teachers(self) -> dict[tuple[Run, ...], Teacher]:
        """Those that were read, in this process."""
        return {}

    def left(self, runs: Sequence[Run]) -> list[Run]:
        """Those of the runs that are not done, or had too little memory."""
        results = [(run, self.run_folder(run).result()) for run in runs]
        return [run for run, result in results if result is None or result.out_of_memory]

    def share(self, runs: Sequence[Run]) -> Share:
        """How many processes train so many runs, and on how many threads each."""
        request, parts = self.request, (self.dataset.train, self.dataset.validation)
        asked, useful = request.workers, max(1, len(runs))
        return workers_for(
            asked if isinstance(asked, str) else min(asked, useful),
            request.threads,
            device=find_device(request.device),
            input=self.dataset.input,
            images=sum(map(len, parts)),
            useful=useful,
            cores=usable_cores(),
            free=free_bytes(),
        )

    def train(self, runs: Sequence[Run], threads: int, on_event: OnRunEvent) -> None:
        """Trains the runs that are not done, in this process; returns when all are.

        Raises:
            RequestError: this device lacks the precision, as GPUs of a machine may differ; or the
                weights of a teacher are missing or damaged.
            OSError: a folder cannot be written.
            KeyboardInterrupt: on a signal.
        """
        device = open_device(self.request.device, threads)
        choose(self.precision, device)  # or refuse
        folders = []
        for on in dict.fromkeys(run.on for run in runs):
            there = self.part(on).to(device)
            folders += [self.run_folder(run, there) for run in runs if run.on == on]
        lock = lock_of(device, self.request.per_gpu)
        train_runs(folders, device=device, on_event=on_event, lock=lock)

    def train_more(
        self, runs: Sequence[Run], results: list[RunResult], what: str, on_event: OnEvent
    ) -> None:
        """As `train_all`, with what comes of runs that are not among the results added to them."""
        there = {result.run for result in results}
        if more := [run for run in runs if run not in there]:
            left = self.left(more)
            on_event(MoreRuns(more, what, left))
            results += self.train_all(more, left, on_event)

    def train_all(
        self, runs: Sequence[Run], left: Sequence[Run], on_event: OnEvent
    ) -> list[RunResult]:
        """Trains the runs that are not done, with as many workers as are asked for.

        Those share the machine out, each with as many threads as the others.

        Args:
            runs: to be done in the end.
            left: of them, those that are not done, as `left` gave them.
            on_event: gets what happens, and the end of each run that is left.

        Returns:
            What came of the runs.

        Raises:
            FinalFailed: all workers died.
            OSError: a folder cannot be written.
            KeyboardInterrupt: on Ctrl-C or SIGTERM.
        """
        request = self.request
        for run in left:
            self.run_folder(run).forget_lack_of_memory()
        share = self.share(left)
        failures: list[str] = []
        ended: set[Run] = set()
        if left and share.workers == 1:
            self.train(left, share.threads, on_event)
        elif left:

            def on_end(number: int, reason: str | None) -> None:
                if reason is not None:
                    failures.append(f"worker {number + 1} {reason}")
                    on_event(WorkerFailed(failures[-1]))

            def on_report(number: int, event: RunEvent | WorkerError) -> None:
                if isinstance(event, WorkerError):
                    on_end(number, event.reason)
                    return
                if isinstance(event, RunEnded):  # every worker says so of each run
                    if event.run in ended:
                        return
                    ended.add(event.run)
                on_event(event)

            slots = slots_for(request.device, share.workers, request.per_gpu, share.threads)
            tasks = [
                _Task(
                    replace(self, request=replace(request, device=slot.device)),
                    tuple(left),
                    share.threads,
                )
                for slot in slots
            ]
            run_workers(_work, tasks, slots, on_report, on_end)
        found = [self.run_folder(run).result() for run in runs]
        results = [result for result in found if result is not None]
        if len(results) < len(runs):
            why = "; ".join(failures) or "their files have been removed"
            missing = len(runs) - len(results)
            raise FinalFailed(f"{plural(missing, 'run')} {are(missing)} unfinished: {why}")
        return results


@dataclass(frozen=True, slots=True)
class _Task:
    final: FinalRuns
    runs: tuple[Run, ...]
    threads: int


def _work(task: _Task, report: Report) -> None:
    """What a worker's process does."""
    try:
        task.final.train(task.runs, task.threads, report)
    except (RequestError, DataError, FinalFailed, OSError) as error:
        report(WorkerError(f"failed: {error}"))
