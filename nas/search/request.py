"""What a search is asked to do, checked in milliseconds before anything heavy is imported."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import COSTS, LIMITED, Cost, Count, count
from nas.data.catalogue import DATASET_NAMES, DATASETS, OWN_FOLDER, folder_name
from nas.devices import DEVICES, KEPT_BACK
from nas.errors import RequestError
from nas.latency import FLOAT, NETWORKS, LatencyLimit
from nas.runtime.precision import AUTO, PRECISIONS
from nas.search.fronts import ACCURACY, check_objectives
from nas.space import Limits, SearchSpace, default_space, load_space
from nas.study.location import (
    StudyError,
    StudyLocation,
    checkpoints_folder,
    default_study_name,
)
from nas.training.tuning import TUNABLE, check_names
from nas.values import (
    NO_LIMIT,
    amount,
    amount_or_none,
    choices,
    duration,
    flag,
    keep_options,
    keep_plain,
    latency,
    memory,
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

_FOR = "--for"
_OF_STUDY = "as in --study, or {default}"
_SIZED = "as in --study, or what fits --time, or {}"
_OF_SEARCH = "as in the last search of --study"


def designs(name: str, value: object) -> int:
    """How many designs to train; on the command line also how many more. Raises as `whole`."""
    return whole(name, value)


def space_of(name: str, value: object) -> Path | SearchSpace:
    """A space, or the path of its file. Raises as `path`."""
    return value if isinstance(value, SearchSpace) else path(name, value)


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
class SearchRequest:
    """One search. The same request again continues its study.

    Raises:
        RequestError: a value is out of its range.
    """

    max_parameters: int | None = option(
        None,
        amount,
        "maximum number of parameters, such as 5M, 5e6 or 5000000; a new study needs it, or "
        "another limit",
        otherwise=_OF_STUDY.format(default="none"),
        name=COSTS["parameters"].option,
    )
    trials: int = option(
        50,
        designs,
        "designs to train in the study, over all its searches; +N adds N to those already "
        "trained to the end or stopped early",
        otherwise=_OF_STUDY,
    )
    additional: bool = False  # whether `trials` are beyond those that it holds as this one begins
    dataset: str = option(
        "auto",
        text,
        f"one of {', '.join(DATASET_NAMES)}; auto: cifar10, or digits if the download fails",
        otherwise=_OF_STUDY,
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
        otherwise="name of the dataset or folder, and budget or device, such as cifar10-5M",
    )
    studies_dir: Path = option(Path("studies"), path, "folder of the studies")
    storage: str | None = option(
        None,
        text,
        "SQLAlchemy URL of the database that holds the study, instead of a file in --studies-dir",
        metavar="URL",
    )
    epochs: int | None = option(
        None, whole, "epochs per run", otherwise=_SIZED.format("by dataset size")
    )
    space: Path | SearchSpace | None = option(
        None,
        space_of,
        "TOML file with choices for N, B, C, F, K and P",
        otherwise="as in --study, or by image size",
    )
    max_mult_adds: int | str | None = option(
        None,
        amount_or_none,
        "maximum number of mult-adds per image, or none",
        otherwise=_SIZED.format("none"),
    )
    max_arena: int | None = option(
        None,
        memory,
        "maximum of RAM that TensorFlow Lite Micro needs for the network in int8, such as 256k",
        otherwise=_OF_STUDY.format(default="none"),
        name=COSTS["arena"].option,
    )
    max_flash: int | None = option(
        None,
        memory,
        "maximum size of the network's int8 file, such as 1M",
        otherwise=_OF_STUDY.format(default="none"),
        name=COSTS["flash"].option,
    )
    max_peak_ram: int | None = option(
        None,
        memory,
        "maximum of RAM for the tensors alone that are live at once",
        otherwise=_OF_STUDY.format(default="none"),
    )
    target: str | None = option(
        None,
        text,
        "device that the network is for, which sets --max-ram and --max-flash where they are not "
        f"given: {', '.join(DEVICES)}; {KEPT_BACK}",
        otherwise=_OF_STUDY.format(default="none"),
        name=_FOR,
        choices=tuple(DEVICES),
        metavar="DEVICE",
    )
    max_latency: float | None = option(
        None,
        latency,
        "maximum milliseconds for one image in ONNX Runtime on this machine's processor, such as "
        "5ms or 800us",
        otherwise="as in --study, or none",
    )
    latency_of: str = option(
        FLOAT,
        text,
        "the network that is timed: float as it is exported, or the same in int8",
        otherwise=_OF_STUDY,
        choices=NETWORKS,
    )
    latency_threads: int = option(1, whole, "threads that it is timed with", otherwise=_OF_STUDY)
    latency_anew: bool = option(
        False,
        flag,
        "measure anew on this machine what another one, or another ONNX Runtime, has measured in "
        "the study",
    )
    tune: tuple[str, ...] = option(
        (),
        names,
        f"also choose how each design is trained; comma-separated: {', '.join(TUNABLE)}",
        otherwise=_OF_STUDY,
    )
    enqueue: tuple[str, ...] = option(
        (),
        names,
        f"known designs to train first: {', '.join(PRESETS)}",
        otherwise=_OF_STUDY,
        metavar="PRESET",
        nargs="+",
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
        otherwise=_OF_STUDY,
    )
    sampler: str = option(
        "gp", text, "method that proposes designs", otherwise=_OF_STUDY, choices=SAMPLERS
    )
    pruner: str | None = option(
        None,
        text,
        "rule that stops runs early",
        otherwise=f"as in the study, or {PRUNERS[0]} in a new one",
        choices=PRUNERS,
    )
    seed: int = option(0, seed, "seed of proposals and training", otherwise=_OF_STUDY)
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
        keep_options(self)
        keep_plain(self, {"additional": flag})
        for name, most in self._of_target.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, most)
        if not self._maxima:
            raise RequestError(
                "--budget: expected the most parameters a design may have, such as 5M, or another "
                f"limit ({', '.join(c.option for c in LIMITED.values() if not c.always)}, {_FOR}), "
                "or the study to continue with --study, got none"
            )
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
        if self.max_latency is None:
            given = {
                "--latency-of": self.latency_of != FLOAT,
                "--latency-threads": self.latency_threads != 1,
                "--latency-anew": self.latency_anew,
            }
            for option_name in filter(given.__getitem__, given):
                raise RequestError(f"{option_name}: expected a --max-latency with it, got none")
        for name in self.enqueue:
            if name not in PRESETS:
                raise RequestError(f"--enqueue: expected {choices(name, PRESETS)}")
        check_device_name(self.device)

    @property
    def search_seconds(self) -> float:
        """Seconds that the study is searched; infinite without a limit, or where none is chosen."""
        return math.inf if self.time in (AUTO, NO_LIMIT) else seconds_of(self.time)

    @property
    def limits(self) -> Limits:
        """What a design may cost."""
        return Limits(**self._maxima)

    @property
    def _maxima(self) -> dict[str, int]:
        given = {cost.maximum: getattr(self, cost.maximum) for cost in LIMITED.values()}
        return {name: most for name, most in given.items() if most not in (None, NO_LIMIT)}

    @property
    def _of_target(self) -> dict[str, int]:
        """The limits of the device that the network is for."""
        if self.target is None:
            return {}
        device = DEVICES[self.target]
        return {"max_arena": device.max_arena, "max_flash": device.max_flash}

    def _option_of(self, cost: Cost) -> str:
        """The option that set a cost's limit."""
        most = getattr(self, cost.maximum)
        return f"{_FOR} {self.target}" if self._of_target.get(cost.maximum) == most else cost.option

    @property
    def latency(self) -> LatencyLimit | None:
        """What a design may take; None without a limit."""
        if self.max_latency is None:
            return None
        return LatencyLimit(
            max_ms=self.max_latency, of=self.latency_of, threads=self.latency_threads
        )

    def space_for(self, input: ImageInput) -> SearchSpace:
        """The space for these images.

        Raises:
            RequestError: its file cannot be used, or no design of it is within the limits.
        """
        try:
            if isinstance(self.space, SearchSpace):
                space = replace(self.space, input=input)
            else:
                space = load_space(self.space, input) if self.space else default_space(input)
        except OSError as error:
            raise RequestError(
                f"--space: expected a TOML file, got {self.space}: {error.strerror}"
            ) from error
        except ValueError as error:
            raise RequestError(f"--space: {error}") from error
        smallest = space.smallest(self.limits)
        for cost, value, most in self._exceeded(count(smallest, input)):
            raise RequestError(
                f"{self._option_of(cost)}: expected at least {cost.exactly(value)}, which the "
                f"smallest design of the space has ({smallest}, for {input}), got {most:,}"
            )
        return space

    def presets_for(self, input: ImageInput) -> dict[str, Architecture]:
        """The designs of `enqueue` by name; of two names for one network the first.

        Raises:
            RequestError: one cannot read these images, or is over a limit.
        """
        presets: dict[str, Architecture] = {}
        for name in self.enqueue:
            design = PRESETS[name]
            try:
                counted = count(design, input)
            except ValueError as error:
                raise RequestError(
                    f"--enqueue: expected designs that can read {input}, got {name}: {error}"
                ) from error
            for cost, value, most in self._exceeded(counted):
                raise RequestError(
                    f"--enqueue: expected designs of at most {cost.exactly(most)} "
                    f"({self._option_of(cost)}), got {name} with {value:,}"
                )
            if design.key not in {known.key for known in presets.values()}:
                presets[name] = design
        return presets

    def _exceeded(self, count: Count) -> Iterator[tuple[Cost, int, int]]:
        """Each cost that is above its limit, with its value and the limit."""
        for name, most in self.limits.items():
            value = getattr(count, name)
            if value > most:
                yield COSTS[name], value, most

    def location_for(self, dataset: str) -> StudyLocation:
        """Where the study of this dataset is.

        Raises:
            StudyError: its name cannot be a file name.
        """
        subject = folder_name(self.data_dir) if dataset == OWN_FOLDER else dataset
        default = default_study_name(subject, self.limits, self.target)
        return self._at(default if self.study is None else self.study)

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
        return self._at(default_study_name(OWN_FOLDER, self.limits, self.target))

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
