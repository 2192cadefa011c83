"""What a search is asked to do, checked in milliseconds before anything heavy is imported."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from nas.counting import COSTS
from nas.data.catalogue import DATASET_NAMES, DATASETS, OWN_FOLDER, folder_name
from nas.errors import RequestError
from nas.runtime.precision import AUTO, PRECISIONS
from nas.search.design_options import OF_STUDY, SIZED, DesignOptions
from nas.search.fronts import ACCURACY, check_objectives
from nas.study.location import (
    StudyError,
    StudyLocation,
    checkpoints_folder,
    default_study_name,
)
from nas.training.tuning import TUNABLE, check_names
from nas.values import (
    NO_LIMIT,
    duration,
    flag,
    keep_plain,
    names,
    option,
    path,
    real,
    seconds_of,
    seed,
    share,
    span,
    text,
    whole,
)

SAMPLERS = ("gp", "tpe", "random")
PRUNERS = ("evidence", "rungs", "median", "halving", "none")

DATA_DIR = Path("data")
SPLIT_SEED = 0  # fixed: the validation part must not change with the seed of a search
GRACE = 60.0  # seconds without a heartbeat after which a worker counts as dead
_PRUNERS_OF_FRONTS = ("evidence", "rungs", "none")

_OF_SEARCH = "as in the last search of --study"


def designs(name: str, value: object) -> int:
    """How many designs to train; on the command line also how many more. Raises as `whole`."""
    return whole(name, value)


def worker_count(name: str, value: object) -> int | str:
    """How many processes, or auto. Raises as `whole`."""
    return AUTO if isinstance(value, str) and value == AUTO else whole(name, value)


def silence(name: str, value: object) -> float:
    """Seconds without a heartbeat: at least 5, as SQLite's clock counts whole ones."""
    return real(name, value, least=5)


def time_limit(name: str, value: object) -> str:
    """How long, as `span` has it, or `auto` or `none`."""
    return value if value in (AUTO, NO_LIMIT) else span(name, value)


def check_device_name(name: str) -> None:
    """Refuses what can be no device.

    Raises:
        RequestError: it is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise RequestError(
            f"--device: expected auto, cpu or a CUDA device of this machine such as cuda:0, "
            f"got {name!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest(DesignOptions):
    """One search. The same request again continues its study.

    Raises:
        RequestError: a value is out of its range.
    """

    trials: int = option(
        50,
        designs,
        "designs to train in the study, over all its searches; +N adds N to those already "
        "trained to the end or stopped early",
        otherwise=OF_STUDY,
    )
    additional: bool = False  # whether `trials` are beyond those that it holds as this one begins
    dataset: str = option(
        "auto",
        text,
        f"one of {', '.join(DATASET_NAMES)}; auto: cifar10, or digits if the download fails",
        otherwise=OF_STUDY,
        choices=DATASET_NAMES,
        metavar="NAME",
    )
    data_dir: Path = option(
        DATA_DIR,
        path,
        "folder of the images",
        otherwise=f"where the last search of --study read them, or {DATA_DIR}",
    )
    subset: float | None = option(
        None,
        share,
        "share of the training images to use; the validation images stay whole",
        otherwise="as in --study, or 1.0",
    )
    skip_broken: bool = option(
        False,
        flag,
        "skip image files that cannot be read, instead of stopping at them",
        otherwise=_OF_SEARCH,
    )
    drop_duplicates: bool = option(
        False,
        flag,
        "keep only the first of identical training images, and none of those found in two classes",
        otherwise=_OF_SEARCH,
    )
    study: str | None = option(
        None,
        text,
        "name of the study",
        otherwise="name of the dataset or folder, and limits or device, such as cifar10-5M",
    )
    studies_dir: Path = option(Path("studies"), path, "folder of the studies")
    storage: str | None = option(
        None,
        text,
        "SQLAlchemy URL of the database that holds the study, instead of a file in --studies-dir",
        metavar="URL",
    )
    epochs: int | None = option(
        None, whole, "epochs per run", otherwise=SIZED.format("by dataset size")
    )
    tune: tuple[str, ...] = option(
        (),
        names,
        f"also choose how each design is trained; comma-separated: {', '.join(TUNABLE)}",
        otherwise=OF_STUDY,
    )
    like: str | None = option(
        None,
        text,
        "an earlier study, of any limits or images; its best designs that fit this search are "
        "trained first",
        otherwise="none",
        metavar="STUDY",
    )
    objectives: tuple[str, ...] = option(
        (ACCURACY,),
        names,
        f"{ACCURACY}, or {ACCURACY},parameters for the best design of every size",
        otherwise=OF_STUDY,
    )
    sampler: str = option(
        "gp", text, "method that proposes designs", otherwise=OF_STUDY, choices=SAMPLERS
    )
    pruner: str | None = option(
        None,
        text,
        "rule that stops runs early",
        otherwise=f"as in the study, or {PRUNERS[0]} in a new one",
        choices=PRUNERS,
    )
    seed: int = option(0, seed, "seed of proposals and training", otherwise=OF_STUDY)
    device: str = option("auto", text, "auto, cpu, cuda or cuda:N")
    precision: str = option(
        AUTO,
        text,
        "arithmetic of training; auto: as in the study, or in a new one bfloat16 if the device "
        "is faster with it",
        choices=PRECISIONS,
    )
    time: str = option(
        AUTO,
        time_limit,
        "time limit over all searches of the study, such as 90s, 30m, 2h, 1d or none; a new "
        "study is sized to fit it",
        otherwise="as in --study, or none; 30m in a new one of over an hour without a GPU",
    )
    timeout: float | None = option(
        None, duration, "start no trial of this search after this time", otherwise="none"
    )
    workers: int | str = option(
        1,
        worker_count,
        "processes on this machine, each with its own GPU or its share of the threads; auto: one "
        "per core on a CPU with small images and enough work, else one",
        otherwise=AUTO,
    )
    threads: int | None = option(
        None, whole, "CPU threads of each process", otherwise="its share of the cores"
    )
    per_gpu: int = option(1, whole, "workers that may share a GPU")
    grace: float = option(
        GRACE,
        silence,
        "seconds without a heartbeat after which a worker counts as dead and its design is "
        "queued again",
    )

    def __post_init__(self) -> None:
        DesignOptions.__post_init__(self)  # super() fails where a dataclass has slots
        keep_plain(self, {"additional": flag})
        try:
            object.__setattr__(self, "tune", check_names(self.tune))
        except ValueError as error:
            raise RequestError(f"--tune: {error}") from error
        try:
            object.__setattr__(self, "objectives", check_objectives(self.objectives))
        except ValueError as error:
            raise RequestError(f"--objectives: {error}") from error
        for name in self.objectives[1:]:
            if name not in self.limits:
                raise RequestError(
                    f"--objectives: expected {COSTS[name].option} with {name}, as the front's "
                    "upper end, got none"
                )
        if len(self.objectives) > 1 and self.pruner not in (None, *_PRUNERS_OF_FRONTS):
            raise RequestError(
                f"--objectives: expected --pruner {' or '.join(_PRUNERS_OF_FRONTS)} with a front, "
                f"since others judge small designs by large ones, got {self.pruner!r}"
            )
        check_device_name(self.device)

    @property
    def search_seconds(self) -> float:
        """Seconds that the study is searched; infinite without a limit, or where none is chosen."""
        return math.inf if self.time in (AUTO, NO_LIMIT) else seconds_of(self.time)

    def location_for(self, dataset: str) -> StudyLocation:
        """Where the study of this dataset is.

        Raises:
            StudyError: its name cannot be a file name.
        """
        subject = folder_name(self.data_dir) if dataset == OWN_FOLDER else dataset
        return self._at(self._default_name(subject) if self.study is None else self.study)

    def location_like(self) -> StudyLocation | None:
        """Where the study of `like` is, beside that of the search.

        Raises:
            RequestError: its name cannot be a study's.
        """
        if self.like is None:
            return None
        try:
            return self._at(self.like)
        except StudyError as error:
            raise RequestError(f"--like: {str(error).removeprefix('--study: ')}") from error

    def location_before(self) -> StudyLocation:
        """Where the study of an own folder lay when all those of one budget had one name."""
        return self._at(self._default_name(OWN_FOLDER))

    def _default_name(self, subject: str) -> str:
        return default_study_name(subject, self.limits, self.target, self.max_latency)

    def _at(self, name: str) -> StudyLocation:
        return StudyLocation.at(name, studies_dir=self.studies_dir, storage=self.storage)

    def checkpoints_for(self, location: StudyLocation) -> Path:
        """Where the checkpoints of running trials of this study lie."""
        return checkpoints_folder(self.studies_dir, location)

    def check(self) -> None:
        """Refuses what is known to be impossible before any image is read.

        `auto` may end on CIFAR-10 or on the digits; it is refused when neither can work.

        Raises:
            RequestError: as `space_for` and `presets_for`.
            StudyError: the study's place cannot be used.
        """
        self.location_like()
        names = ("cifar10", "digits") if self.dataset == "auto" else (self.dataset,)
        errors = []
        for name in names:
            if name not in DATASETS:
                self.location_for(name)
                return  # a person's own folder: known once it is read
            try:
                self.space_for(DATASETS[name].input)
                self.presets_for(DATASETS[name].input)
                self.location_for(name).check()
            except ValueError as error:
                errors.append(error)
        if len(errors) == len(names):
            raise errors[0]
