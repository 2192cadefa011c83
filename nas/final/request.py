"""What a person asks of a final training: checked before anything heavy is imported."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.architecture import PRESETS
from nas.errors import RequestError
from nas.runtime.precision import AUTO, Precision, check_precision_name
from nas.search.request import check_device_name, folder_of
from nas.study.location import StudyLocation
from nas.training.config import RECIPES
from nas.values import (
    Check,
    choices,
    flag,
    keep_plain,
    names,
    or_none,
    path,
    share,
    text,
    whole,
)

FINAL = "final"  # the folder of the exported model, among the files of a study
TRAIN = "train"
ALL = "train+validation"
PARTS = (TRAIN, ALL)
"""What the chosen design's networks, those that are tested, are trained on."""

_CHECKS: Mapping[str, Check] = {
    "study": text,
    "storage": or_none(text),
    "studies_dir": path,
    "data_dir": or_none(path),
    "skip_broken": or_none(flag),
    "drop_duplicates": or_none(flag),
    "subset": share,
    "top": whole,
    "seeds": whole,
    "recipe": text,
    "epochs": or_none(whole),
    "on": text,
    "baselines": names,
    "again": flag,
    "device": text,
    "precision": text,
    "workers": whole,
    "per_gpu": whole,
}


def final_folder(studies_dir: Path, location: StudyLocation) -> Path:
    """Where the model that a study's final training exports is."""
    return folder_of(studies_dir, location) / FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRequest:
    """One final training of a study's best designs. The same request again continues it.

    Raises:
        RequestError: a value is out of its range.
    """

    study: str
    storage: str | None = None  # an SQLAlchemy URL; None: a file in `studies_dir`
    studies_dir: Path = Path("studies")
    data_dir: Path | None = None  # None: where the study's last search read the images
    skip_broken: bool | None = None  # leave out files that are no images; None: as that search
    drop_duplicates: bool | None = (
        None  # of equal images train or test on one; None: as that search
    )
    subset: float = 1.0  # share of the training part, whatever the study's
    top: int = 3  # designs to train, the best of the study
    seeds: int = 3  # runs of each
    recipe: str = "long"
    epochs: int | None = None  # None: those of the recipe
    on: str = TRAIN  # one of PARTS
    baselines: tuple[str, ...] = ()  # names of nas.architecture.PRESETS
    again: bool = False  # read the test set once more
    device: str = "auto"
    precision: str = AUTO  # one of nas.runtime.precision.PRECISIONS; auto: by the device
    workers: int = 1  # processes on this machine
    per_gpu: int = 1  # of them, at most, on one GPU

    def __post_init__(self) -> None:
        keep_plain(self, _CHECKS)
        for value, known, option in (
            (self.recipe, tuple(RECIPES), "--recipe"),
            (self.on, PARTS, "--on"),
            *((name, tuple(PRESETS), "--baseline") for name in self.baselines),
        ):
            if value not in known:
                raise RequestError(f"{option}: expected {choices(value, known)}")
        check_device_name(self.device)
        check_precision_name(self.precision)

    def digest(
        self, keys: Sequence[str], images: str, precision: Precision, *, drop_duplicates: bool
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
        if drop_duplicates:  # not named before it was an option
            decisive["drop_duplicates"] = True
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
