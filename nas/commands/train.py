"""`nas train`: one design, one recipe."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture
from nas.commands import arguments, design
from nas.counting import count, shown_costs
from nas.errors import RequestError
from nas.runtime import signals
from nas.runtime.precision import AUTO, PRECISIONS, Precision
from nas.search.continuing import DataOptions, data_options
from nas.search.request import SearchRequest, check_device_name
from nas.study.location import StudyLocation
from nas.text import in_one_line, percent, plural
from nas.training.config import RECIPES, Augment, Schedule, Task, TrainingConfig, recipe_of
from nas.training.optimizers import Optimizer
from nas.training.tuning import with_augment

if TYPE_CHECKING:  # torch loads in seconds; bad usage must be known before
    from nas.data.types import ImageDataset
    from nas.study.records import StudyRecord, TrialRecord
    from nas.training.loop import EpochResult

SUMMARY = "train one design with one recipe"

_PAGE = "curves.html"
_RECIPE = "fast"  # that of a new search
_ONE_VALUE = "Expected more than 1 value per channel"  # torch's, of a batch norm
_AUGMENTS = ("none", "standard", *Augment)
_WHOLE: Mapping[str, Any] = {"type": arguments.whole_number, "metavar": "N"}
_REAL: Mapping[str, Any] = {"type": arguments.real, "metavar": "X"}
_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "epochs": {**_WHOLE, "help": "number of epochs"},
    "optimizer": {"choices": tuple(Optimizer), "help": "optimizer"},
    "lr": {**_REAL, "help": "peak learning rate"},
    "momentum": {**_REAL, "help": "momentum, for optimizers that have one"},
    "batch_size": {**_WHOLE, "help": "images per step"},
    "schedule": {"choices": tuple(Schedule), "help": "schedule of the learning rate"},
    "weight_decay": {**_REAL, "help": "weight decay"},
    "label_smoothing": {**_REAL, "help": "share of the target spread over all classes"},
    "ema": {**_REAL, "help": "decay per step of the averaged weights"},
}
"""The fields of a recipe that options change, and how these are read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas train`."""
    which = parser.add_argument_group("design, by preset, by fields or from a study")
    design.add_design_options(which)
    arguments.add_options(which, SearchRequest, "study", "studies_dir", "storage")
    which.add_argument(
        "--trial", metavar="N", help="trial of --study: its number, or best (default: best)"
    )
    data = parser.add_argument_group("images")
    arguments.add_options(
        data, SearchRequest, "dataset", "data_dir", "subset", "skip_broken", "drop_duplicates"
    )
    recipe = parser.add_argument_group("recipe and changes to it")
    recipe.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        help=f"named recipe to start from (default: that of the trial or of the run that --resume "
        f"continues, else {_RECIPE})",
    )
    for name, settings in _CHANGES.items():
        recipe.add_argument(f"--{name.replace('_', '-')}", **settings)
    recipe.add_argument(
        "--augment",
        metavar="LIST",
        help=f"comma-separated: {', '.join(_AUGMENTS)}; standard is crop and flip",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--seed", type=arguments.seed, default=0, metavar="N", help="seed of everything random"
    )
    arguments.add_options(run, SearchRequest, "device", "threads")
    run.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="arithmetic of training; auto: as in --study or in the run that --resume continues, "
        "else bfloat16 on a GPU that has it, else float32",
    )
    run.add_argument(
        "--out",
        type=arguments.path,
        metavar="DIR",
        help="folder of the run (default: one in runs/ with the names of design, dataset, recipe, "
        "changes and seed)",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out, with the other options unchanged",
    )
    arguments.add_json_option(run)


def run(options: argparse.Namespace) -> int:
    """Trains, prints a row per epoch, and keeps checkpoints, metrics and the learning curve."""
    check_device_name(options.device)
    used = design.given_fields(options)
    if used and options.study is not None:
        raise RequestError(f"expected --study or {used[0]}, got both")
    if options.study is None and (options.trial is not None or options.storage is not None):
        raise RequestError("expected --study with --trial and --storage, got no --study")
    if options.study is None:
        try:
            architecture = design.design_of(options)
        except ValueError as error:
            raise RequestError(str(error)) from error
        name = options.preset or _file_name(architecture)
        subject = _Subject(architecture, name, _data_options(options, None))
    else:
        subject = _from_study(options)
        architecture, name = subject.architecture, subject.name
    changes = _changes(options)
    if not options.resume:  # else they change the recipe of a run that is yet to be found
        try:  # with stand-in sizes: bad values are known before images are read
            task = Task(arguments.image_input((3, 32, 32), 10), 50_000, True)
            _recipe(options, subject.recipe, task, changes)
        except ValueError as error:
            raise RequestError(str(error)) from error

    from nas.data.sources import check_place

    check_place(subject.data.dataset, subject.data.data_dir)

    from nas.commands.messages import warning_line
    from nas.report.run import write_run_page
    from nas.runtime.arithmetic import ChosenPrecision, choose, supports
    from nas.runtime.devices import device_name, is_out_of_memory, open_device
    from nas.search.events import CaptureFailed
    from nas.training.checkpoint import CheckpointError
    from nas.training.folder import BEST, LAST, METRICS, train_in_folder
    from nas.training.loop import Ending, best_epoch, task_of
    from nas.training.plan import RunPlan

    signals.check()  # one that came while these were loaded
    device = open_device(options.device, options.threads)
    where = device_name(device)
    precision = choose(options.precision, device)
    dataset = subject.data.load(options.subset or 1.0)
    for note in dataset.notes:
        print("NOTE:", note, file=sys.stderr)
    folder = options.out or Path("runs") / _run_name(name, dataset, options, changes)
    recipe, before, made = subject.recipe, subject.precision, "as in the study"
    recipe_name = options.recipe or ("that of the study" if options.study else _RECIPE)
    if options.resume and options.recipe is None and (kept := _kept_recipe(folder)):
        recipe, before, made = kept, kept.precision, "as in the run"
        recipe_name = "that the run began with"
    if options.precision == AUTO and before is not None and supports(device, before):
        precision = ChosenPrecision(before, made)
    try:
        cost = count(architecture, dataset.input)
    except ValueError as error:
        raise RequestError(
            f"expected a design that can read {dataset.input}, got {architecture}: {error}; "
            "choose another design or --dataset"
        ) from error
    try:
        config = _recipe(options, recipe, task_of(dataset, device), changes)
        config = dataclasses.replace(config, precision=precision.precision)
    except ValueError as error:
        raise RequestError(str(error)) from error
    plan = RunPlan(
        architecture=architecture,
        dataset=dataset.to(device),
        config=config,
        seed=options.seed,
    )
    table = _Table(quiet=options.json)

    def on_start(done: "Sequence[EpochResult]") -> None:
        print(
            f"{architecture}: {cost}; {dataset.name}: {len(dataset.train):,} training and "
            f"{plural(len(dataset.validation), 'validation image')}; "
            f"{plural(config.epochs, 'epoch')} in {precision} on {where}; in {folder}",
            file=sys.stderr,
        )
        for result in done:
            table.row(result)

    def on_epoch(result: "EpochResult") -> bool:
        table.row(result)
        return False

    try:
        result = train_in_folder(
            plan,
            folder,
            device=device,
            resume=options.resume,
            on_start=on_start,
            on_epoch=on_epoch,
        )
    except CheckpointError as error:
        raise RequestError(str(error)) from error
    except OSError as error:
        print(f"error: {folder} cannot be written: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, ValueError, MemoryError) as error:
        if is_out_of_memory(error):
            why = f"out of memory on {where}; a smaller --batch-size or a smaller design needs less"
        elif str(error).startswith(_ONE_VALUE):
            why = "training failed: a --batch-size above 1 is needed where the last map is 1x1"
        else:
            raise
        print(f"error: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume continues", file=sys.stderr)
        return signals.INTERRUPTED
    if result.not_captured:
        print(warning_line(CaptureFailed(result.not_captured)), file=sys.stderr)
    if result.ending is Ending.DIVERGED:
        print(f"error: {result.reason}; a lower --lr may help", file=sys.stderr)
        return 1
    best = best_epoch(result.epochs)
    about = {
        "design": str(architecture),
        **{c.units: f"{getattr(cost, c.name):,}" for c in shown_costs(())},
        "dataset": dataset.name,
        "recipe": recipe_name,
        **{n.replace("_", " "): str(v) for n, v in config.to_dict().items()},
        "seed": str(options.seed),
        "device": str(device),
    }
    write_run_page(folder / _PAGE, name, result.epochs, about)
    if options.json:
        print((folder / METRICS).read_text(encoding="utf-8"), end="")
        return 0
    print(
        f"\nbest    {percent(best.val_accuracy)} validation accuracy after epoch {best.epoch}\n"
        f"last    {percent(result.val_accuracy)} after epoch {result.epochs[-1].epoch}\n"
        f"files   {folder}: {BEST}, {LAST}, {METRICS}, {_PAGE}"
    )
    return 0


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is trained, and how the study trained it if it is of one."""

    architecture: Architecture
    name: str
    data: DataOptions
    recipe: TrainingConfig | None = None
    precision: Precision | None = None


class _Table:
    """The epochs on stdout, in the columns of a lab report."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._begun = False

    def row(self, result: "EpochResult") -> None:
        """One more epoch."""
        if self._quiet:
            return
        if not self._begun:
            print("epoch  train loss  validation loss  accuracy  images/s")
            self._begun = True
        print(
            f"{result.epoch:>5}  {result.train_loss:>10.4f}  {result.val_loss:>15.4f}  "
            f"{result.val_accuracy:>8.2%}  {result.images_per_second:>8,.0f}",
            flush=True,
        )


def _from_study(options: argparse.Namespace) -> _Subject:
    """A trial, to be trained as it was, unless an option says how."""
    location = StudyLocation.at(
        options.study, studies_dir=options.studies_dir, storage=options.storage
    )
    from nas.search.recipe import trial_recipe
    from nas.study.reader import read_study

    study = read_study(location)
    if study.doubts:
        print("NOTE:", in_one_line(study.doubts), file=sys.stderr)
    trial = _trial(study, options.trial or "best")
    assert trial.architecture is not None
    if options.subset is None and options.dataset in (None, study.settings.dataset):
        options.subset = study.settings.subset
    recipe: TrainingConfig | None = None
    if options.recipe is None:
        recipe = trial_recipe(study.settings, trial.training)
        if recipe is None:
            raise RequestError(
                f"--study: expected one whose recipe this version of nas knows, got {study.name}; "
                "name another with --recipe"
            )
    return _Subject(
        trial.architecture,
        f"{study.name}-trial-{options.trial or 'best'}",
        _data_options(options, study),
        recipe,
        study.settings.precision,
    )


def _data_options(options: argparse.Namespace, study: "StudyRecord | None") -> DataOptions:
    return data_options(
        study,
        dataset=options.dataset,
        data_dir=options.data_dir,
        skip_broken=options.skip_broken,
        drop_duplicates=options.drop_duplicates,
    )


def _trial(study: "StudyRecord", wanted: str) -> "TrialRecord":
    if wanted == "best":
        if study.incumbent is None:
            raise RequestError(
                "--trial: expected a study with a design trained to the end, got none in "
                f"{study.name}; continue the search, or name a trial"
            )
        return study.incumbent
    found = [t for t in study.trials if str(t.number) == wanted and t.architecture]
    if not found:
        raise RequestError(
            f"--trial: expected best or the number of a trial with a design, got {wanted!r}"
        )
    return found[0]


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    changes = {n: getattr(options, n) for n in _CHANGES if getattr(options, n) is not None}
    return changes if options.precision == AUTO else {**changes, "precision": options.precision}


def _kept_recipe(folder: Path) -> TrainingConfig | None:
    """The recipe of the run in a folder; None where none can be read, which is told later."""
    from nas.training.checkpoint import load_checkpoint
    from nas.training.folder import LAST

    try:
        return recipe_of(load_checkpoint(folder / LAST)["identity"]["recipe"])
    except (KeyError, TypeError, ValueError):
        return None


def _recipe(
    options: argparse.Namespace,
    start: TrainingConfig | None,  # of a trial, or of a run that goes on
    task: Task,
    changes: dict[str, Any],
) -> TrainingConfig:
    config = start or RECIPES[options.recipe or _RECIPE](task)
    if options.augment is not None:
        augment: list[str] = []
        for name in options.augment.split(","):
            if name == "standard":
                augment += [Augment.CROP, *task.flip]
            elif name != "none":
                augment.append(name)
        if tuple(augment) != config.augment:
            config = with_augment(config, augment, task)
    return dataclasses.replace(config, **changes)


def _run_name(
    name: str, dataset: "ImageDataset", options: argparse.Namespace, changes: dict[str, Any]
) -> str:
    """A folder of its own for every run."""
    parts = [name, dataset.name]
    if dataset.subset < 1:
        parts.append(f"subset-{dataset.subset:g}")
    parts.append(options.recipe or _RECIPE)  # also of a trial, as before studies kept theirs
    parts += [f"{option.replace('_', '-')}-{value}" for option, value in changes.items()]
    if options.augment is not None:
        parts.append(options.augment.replace(",", "+"))
    return "-".join([*parts, f"seed{options.seed}"])


def _file_name(architecture: Architecture) -> str:
    return str(architecture).replace(" ", "-").replace(",", ".")
