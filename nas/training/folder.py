"""A run with its files: checkpoints after every epoch, metrics, and where it goes on from."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from nas.counting import count
from nas.files import remove_unfinished, replacing
from nas.training.checkpoint import CheckpointError, save_checkpoint
from nas.training.loop import EpochResult, OnEpoch, OnStart, TrainingResult, best_epoch, finish
from nas.training.plan import RunPlan

LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.json"


def train_in_folder(
    plan: RunPlan,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    on_start: OnStart = lambda done: None,
    on_epoch: OnEpoch = lambda result: False,
) -> TrainingResult:
    """Trains and keeps everything in a folder, so that a stopped run can be continued exactly.

    After every epoch `last.pt` holds the whole state, `best.pt` the weights with the highest
    validation accuracy so far (the first of equals), and `metrics.json` the epochs. Of these
    `last.pt` is written first, and the others are made of it where a run goes on.

    Args:
        plan: what to train.
        folder: made if it is not there.
        device: where to train.
        resume: continue from `last.pt`; without one, begin.
        on_start: called once the run can begin, with the epochs that are already done.
        on_epoch: called after every epoch; True stops the run.

    Raises:
        CheckpointError: another process trains in the folder, or it holds a run and `resume` is
            False, or another run than this one, or its checkpoint is damaged.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"--out: expected a folder that no other process trains in, got {folder}; wait until "
            "that ends, or name another folder"
        ) from error
    with lock:
        remove_unfinished(folder)
        _check(folder, resume=resume)
        return _train(plan, folder, device, on_start, on_epoch)


def _check(folder: Path, *, resume: bool) -> None:
    """Refuses a folder in which a run must not begin, or has nothing to go on from."""
    last = folder / LAST
    if last.exists() and not resume:
        raise CheckpointError(
            f"--out: expected a folder without a run, got {folder} with {LAST}; "
            "continue it with --resume, or name another folder"
        )
    if not last.exists() and ((folder / BEST).exists() or (folder / METRICS).exists()):
        raise CheckpointError(
            f"--out: expected an empty folder or a run with {LAST}, got {folder} with other files "
            "of a run; remove them, or name another folder"
        )


def _train(
    plan: RunPlan, folder: Path, device: torch.device, on_start: OnStart, on_epoch: OnEpoch
) -> TrainingResult:
    run = plan.begin(device)
    checkpoint = plan.checkpoint(folder / LAST, device, kept=True)

    def keep() -> None:
        best = best_epoch(run.history)
        if best is run.history[-1]:
            save_checkpoint(
                folder / BEST,
                {
                    "identity": checkpoint.identity,
                    "architecture": dataclasses.asdict(plan.architecture),
                    "input": dataclasses.asdict(plan.dataset.input),
                    "model": run.eval_model.state_dict(),
                    "epoch": dataclasses.asdict(best),
                },
            )
        _write_metrics(folder / METRICS, plan, run.history, device)

    def after_start(done: Sequence[EpochResult]) -> None:
        if done:
            keep()  # which a killed process may not have done after its last epoch
        on_start(done)

    def after_epoch(result: EpochResult) -> bool:
        keep()
        return on_epoch(result)

    return finish(run, on_start=after_start, on_epoch=after_epoch, checkpoint=checkpoint)


def _write_metrics(
    path: Path, plan: RunPlan, history: Sequence[EpochResult], device: torch.device
) -> None:
    cost = count(plan.architecture, plan.dataset.input)
    document = {
        **plan.identity(),
        "recipe": plan.config.to_dict(),
        **dataclasses.asdict(cost),
        "train_images": len(plan.dataset.train),
        "validation_images": len(plan.dataset.validation),
        "device": device.type,
        "torch": torch.__version__,
        "best": dataclasses.asdict(best_epoch(history)),
        "epochs": [dataclasses.asdict(result) for result in history],
    }
    with replacing(path) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())
