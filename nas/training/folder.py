"""A run with its files: checkpoints after every epoch, metrics, and where it goes on from."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.architecture import Architecture
from nas.counting import count
from nas.data.types import ImageDataset
from nas.files import remove_unfinished, replacing
from nas.model import build
from nas.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nas.training.config import DEFAULTS, TrainingConfig
from nas.training.loop import EpochResult, OnEpoch, Run, TrainingResult, best_epoch, finish

LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One design, one recipe, one seed, on one dataset: what a run is, before it begins."""

    architecture: Architecture
    dataset: ImageDataset
    config: TrainingConfig
    seed: int

    def identity(self) -> dict[str, Any]:
        """What a run that continues must share, as plain values."""
        return {
            "design": str(self.architecture),
            "dataset": self.dataset.name,
            "images": self.dataset.digest,
            "subset": self.dataset.subset,
            "seed": self.seed,
            "recipe": self.config.identity(),
        }


def train_in_folder(
    plan: RunPlan,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    on_start: Callable[[list[EpochResult]], None] = lambda done: None,
    on_epoch: OnEpoch = lambda result: False,
) -> TrainingResult:
    """Trains and keeps everything in a folder, so that a stopped run can be continued exactly.

    After every epoch `last.pt` holds the whole state, `best.pt` the weights with the highest
    validation accuracy so far (the first of equals), and `metrics.json` the epochs.

    Args:
        plan: what to train.
        folder: made if it is not there.
        device: where to train.
        resume: continue from `last.pt`; without one, begin.
        on_start: called once the run can begin, with the epochs that are already done.
        on_epoch: called after every epoch; True stops the run.

    Raises:
        CheckpointError: the folder holds a run and `resume` is False, or another run than this
            one, or its checkpoint is damaged.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    last = folder / LAST
    if last.exists() and not resume:
        raise CheckpointError(
            f"--out: expected a folder without a run, got {folder} with {LAST}; "
            "continue it with --resume, or name another folder"
        )
    if not last.exists() and ((folder / BEST).exists() or (folder / METRICS).exists()):
        raise CheckpointError(
            f"--out: expected an empty folder or a run with {LAST}, got {folder} with other files "
            "of a run; name another folder"
        )
    identity = {**plan.identity(), "device": device.type}
    model = build(
        plan.architecture,
        plan.dataset.input,
        generator=torch.Generator().manual_seed(plan.seed),
        zero_last_gamma=plan.config.zero_last_gamma,
    )
    run = Run(model, plan.dataset, plan.config, seed=plan.seed, device=device)
    if last.exists():
        content = load_checkpoint(last)
        try:
            _check_same_run(last, content["identity"], identity)
            run.load_state(content["run"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{last}: expected the state of a run, got a checkpoint of another kind "
                f"({type(error).__name__})"
            ) from error
        _write_metrics(folder / METRICS, plan, run.history, device)
    on_start(run.history)

    def after_epoch(result: EpochResult) -> bool:
        if best_epoch(run.history) is result:
            save_checkpoint(
                folder / BEST,
                {
                    "identity": identity,
                    "architecture": dataclasses.asdict(plan.architecture),
                    "input": dataclasses.asdict(plan.dataset.input),
                    "model": run.eval_model.state_dict(),
                    "epoch": dataclasses.asdict(result),
                },
            )
        save_checkpoint(last, {"identity": identity, "run": run.state()})
        _write_metrics(folder / METRICS, plan, run.history, device)
        return on_epoch(result)

    return finish(run, after_epoch)


def _check_same_run(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    flat_before = {**before, **DEFAULTS, **before["recipe"]}
    flat_now = {**now, **DEFAULTS, **now["recipe"]}
    changed = [
        f"{name} {flat_before.get(name)} before, {flat_now.get(name)} now"
        for name in flat_now
        if name != "recipe" and flat_before.get(name) != flat_now[name]
    ]
    if changed:
        raise CheckpointError(
            f"{path}: expected the same run to continue, got {'; '.join(changed)}; "
            "take those settings, or another folder with --out"
        )


def _write_metrics(
    path: Path,
    plan: RunPlan,
    history: list[EpochResult],
    device: torch.device,
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
