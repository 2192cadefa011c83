"""What a person asks of a final training: checked before anything heavy is imported."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from nas.architecture import PRESETS
from nas.errors import RequestError
from nas.export.formats import FORMATS
from nas.export.spec import DESCRIPTION
from nas.runtime.precision import AUTO, PRECISIONS, Precision
from nas.search.request import SearchRequest, check_device_name
from nas.space import Limits
from nas.study.location import StudyLocation, folder_of
from nas.training.config import RECIPES
from nas.values import (
    NO_LIMIT,
    Option,
    choices,
    flag,
    keep_options,
    names,
    option,
    points,
    share,
    text,
    whole,
)

FINAL = "final"  # the folder of the exported model, among the files of a study
RUNS = "runs"  # in it, a folder for each run
RESULT = "result.json"  # in that, of a run that is done
TRAIN = "train"
ALL = "train+validation"
PARTS = (TRAIN, ALL)
"""What the chosen design's networks, those that are tested, are trained on."""

NO_TEACHER = "none"
ENSEMBLE = "ensemble"  # of the chosen design's own runs
LARGER = "larger"  # the chosen design with twice the channels

_AS_SEARCH = {field.name: field.metadata for field in fields(SearchRequest)}


def final_folder(studies_dir: Path, location: StudyLocation) -> Path:
    """Where the model that a study's final training exports is."""
    return folder_of(studies_dir, location) / FINAL


def model_folder(given: Path) -> Path:
    """The folder of the model that is meant: for a study's folder that of its final training.

    Raises:
        RequestError: the study has none yet.
    """
    final = given / FINAL
    if (given / DESCRIPTION).exists() or not (final.is_dir() or Path(f"{given}.db").exists()):
        return given
    if not (final / DESCRIPTION).exists():
        command = ["python", "-m", "nas.final", "--study", given.name]
        if str(given.parent) != "studies":
            command += ["--studies-dir", str(given.parent)]
        raise RequestError(
            f"{given}: expected a study with a final training, got one without; to make it, run "
            f"{shlex.join(command)}"
        )
    return final


def checked_formats(given: Sequence[str], *others: str) -> tuple[str, ...]:
    """The names of formats, each once.

    Args:
        given: the names.
        others: what may be given alone instead.

    Raises:
        RequestError: one is not the name of a format.
    """
    for name in given:
        if name in others:
            raise RequestError(f"--export: expected {name} alone, got {','.join(given)}")
        if name not in FORMATS:
            raise RequestError(f"--export: expected {choices(name, (*FORMATS, *others))}")
    return tuple(dict.fromkeys(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRequest:
    """One final training of designs of a study. The same request again continues it.

    Raises:
        RequestError: a value is out of its range.
    """

    study: str = field(metadata={"option": Option(text, "name of the study")})
    studies_dir: Path = field(default=Path("studies"), metadata=_AS_SEARCH["studies_dir"])
    storage: str | None = field(default=None, metadata=_AS_SEARCH["storage"])
    top: int = option(
        3, whole, "how many of the study's designs to train, those of the highest expected accuracy"
    )
    seeds: int = option(3, whole, "runs per design, each with its own seed")
    recipe: str = option("long", text, "how every run is trained", choices=tuple(RECIPES))
    epochs: int | None = option(None, whole, "epochs per run", otherwise="the recipe's")
    baselines: tuple[str, ...] = option(
        (),
        names,
        f"known designs to train and test in the same way for comparison: {', '.join(PRESETS)}",
        name="--baseline",
        metavar="PRESET",
        nargs="+",
    )
    on: str = option(TRAIN, text, "images that the tested networks are trained on", choices=PARTS)
    teacher: str = option(
        NO_TEACHER,
        text,
        "train the chosen design once more from the probabilities of a teacher, and choose between "
        "both: none; ensemble, the runs without a teacher; larger, the design with twice the "
        "channels; or a known design, as for --baseline",
        choices=(NO_TEACHER, ENSEMBLE, LARGER, *PRESETS),
        metavar="TEACHER",
    )
    again: bool = option(
        False,
        flag,
        "read the test images once more, which the report will state, and replace the exported "
        "model",
    )
    export: tuple[str, ...] | None = option(
        None,
        names,
        f"int8 files to make of the model; comma-separated: {', '.join(FORMATS)}; or {NO_LIMIT}",
        otherwise="tflite if the study has a limit of RAM or flash, else none",
    )
    max_int8_loss: float = option(
        1.0,
        points,
        "percentage points of validation accuracy that an int8 file may lose; one that loses more "
        "is not written",
    )
    data_dir: Path | None = field(default=None, metadata=_AS_SEARCH["data_dir"])
    skip_broken: bool | None = field(default=None, metadata=_AS_SEARCH["skip_broken"])
    drop_duplicates: bool | None = option(
        None,
        flag,
        "leave out training images as the search did, and do not test on images that a network "
        "has seen or on duplicates of another test image",
        otherwise="as in the last search of --study",
    )
    subset: float = option(
        1.0, share, "share of the training images to use; the validation images stay whole"
    )
    device: str = field(default="auto", metadata=_AS_SEARCH["device"])
    precision: str = option(
        AUTO,
        text,
        "arithmetic of training; auto: bfloat16 on a GPU that has it, else float32",
        choices=PRECISIONS,
    )
    workers: int | str = field(default=1, metadata=_AS_SEARCH["workers"])
    threads: int | None = field(default=None, metadata=_AS_SEARCH["threads"])
    per_gpu: int = field(default=1, metadata=_AS_SEARCH["per_gpu"])

    def __post_init__(self) -> None:
        keep_options(self)
        for name in self.baselines:
            if name not in PRESETS:
                raise RequestError(f"--baseline: expected {choices(name, PRESETS)}")
        if self.export is not None:
            made = () if self.export == (NO_LIMIT,) else checked_formats(self.export, NO_LIMIT)
            object.__setattr__(self, "export", made)
        check_device_name(self.device)

    def formats(self, limits: Limits) -> tuple[str, ...]:
        """The int8 files to make for a study with these limits, by the names of their formats."""
        if self.export is not None:
            return self.export
        return ("tflite",) if limits.of_memory else ()

    def digest(
        self, keys: Sequence[str], *, images: str, precision: Precision, drop_duplicates: bool
    ) -> str:
        """What decides which networks are tested, in 16 hex digits.

        Args:
            keys: of the designs that are trained.
            images: the digest of the dataset.
            precision: that they are trained in.
            drop_duplicates: whether of equal images one is trained or tested on.
        """
        decisive = {
            "designs": list(keys),
            "images": images,
            "subset": self.subset,
            "seeds": self.seeds,
            "recipe": self.recipe,
            "epochs": self.epochs,
            "on": self.on,
            "baselines": list(self.baselines),
        }
        if precision is not Precision.FLOAT32:  # else it is that of versions without a choice
            decisive["precision"] = precision
        if self.teacher != NO_TEACHER:  # as that of versions without one
            decisive["teacher"] = self.teacher
        if drop_duplicates:  # not named before it was an option
            decisive["drop_duplicates"] = True
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
