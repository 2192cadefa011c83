"""What a study says of its searches, so that its name alone is enough to go on with it."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.data.catalogue import OWN_FOLDER
from nas.search.request import DATA_DIR, SPLIT_SEED, SearchRequest
from nas.space import SearchSpace, space_from_table
from nas.study.location import StudyError
from nas.study.records import StudyRecord
from nas.training.tuning import names_of

if TYPE_CHECKING:  # torch loads in seconds; bad usage must be known before
    from nas.data.types import ImageDataset

_BETWEEN = ("trials", "enqueue", "objectives", "sampler", "pruner", "seed", "time", "target")
"""Fields of a request that may change from one search of a study to the next."""

_OF_DATA = ("data_dir", "skip_broken", "drop_duplicates")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Which images, and how they are read."""

    dataset: str = "auto"
    data_dir: Path = DATA_DIR
    split_seed: int = SPLIT_SEED
    skip_broken: bool = False
    drop_duplicates: bool = False

    def load(self, subset: float = 1.0) -> "ImageDataset":
        """The training and validation part.

        Args:
            subset: share of each class of the training part.

        Raises:
            DataError: it cannot be had.
        """
        from nas.data.loading import load_dataset

        return load_dataset(
            self.dataset,
            self.data_dir,
            split_seed=self.split_seed,
            subset=subset,
            skip_broken=self.skip_broken,
            drop_duplicates=self.drop_duplicates,
        )


def of_search(request: SearchRequest) -> dict[str, object]:
    """What a study keeps of a search beside its settings; `continued` reads it."""
    kept = {name: getattr(request, name) for name in (*_BETWEEN, *_OF_DATA)}
    return {**kept, "data_dir": str(request.data_dir.absolute())}  # it may go on elsewhere


def continued(study: StudyRecord, given: Mapping[str, Any]) -> SearchRequest:
    """The request that goes on with a study as it was made and last searched.

    Args:
        study: to go on with.
        given: fields of the request that are asked for, which come before what the study says. With
            another dataset only the study's limits are kept.

    Raises:
        RequestError: a value is out of its range.
        StudyError: another version made the study, with a space that this one does not know.
    """
    settings, last = study.settings, _last(study)
    limits = dataclasses.asdict(settings.limits)
    if "target" in given:  # whose limits are to be those of the study
        limits |= {"max_arena": None, "max_flash": None}
    kept: dict[str, Any] = {"study": study.name, **limits}
    if settings.latency is not None:
        kept |= {
            "max_latency": settings.latency.max_ms,
            "latency_of": settings.latency.of,
            "latency_threads": settings.latency.threads,
        }
    if given.get("dataset") == "auto" and settings.dataset in ("cifar10", "digits"):
        given = {name: value for name, value in given.items() if name != "dataset"}
    if given.get("dataset", settings.dataset) == settings.dataset:
        data = data_options(study, **{name: given.get(name) for name in _OF_DATA})
        kept |= {
            **{name: last[name] for name in _BETWEEN if last.get(name) is not None},
            **{name: getattr(data, name) for name in _OF_DATA},
            "dataset": settings.dataset,
            "subset": settings.subset,
            "epochs": settings.epochs,
            "space": _space(study),
            "tune": names_of(settings.tuning),
        }
    return SearchRequest(**{**kept, **given})


def data_options(
    study: StudyRecord | None,
    *,
    dataset: str | None = None,
    data_dir: Path | None = None,
    skip_broken: bool | None = None,
    drop_duplicates: bool | None = None,
) -> DataOptions:
    """What is given; the rest as in the study's last search, if the dataset is the study's.

    The images of a study lie where the last of its searches read them whose folder is there. Where
    there is none, as on another machine, those of a known dataset lie in the default folder, or are
    downloaded to it; a person's own are missed where they were.
    """
    kept: dict[str, Any] = {}
    if study is not None and dataset in (None, study.settings.dataset):
        last = _last(study)
        kept = {name: last.get(name) is True for name in ("skip_broken", "drop_duplicates")}
        kept |= {"dataset": study.settings.dataset, "split_seed": study.settings.split_seed}
        if data_dir is None:
            kept["data_dir"] = _folder(study)
    given = {
        "dataset": dataset,
        "data_dir": data_dir,
        "skip_broken": skip_broken,
        "drop_duplicates": drop_duplicates,
    }
    return DataOptions(**{**kept, **{n: value for n, value in given.items() if value is not None}})


def _space(study: StudyRecord) -> SearchSpace:
    try:
        return space_from_table(study.settings.space, study.settings.input)
    except ValueError as error:
        raise StudyError(
            f"{study.name}: expected a study with a search space of this version of nas, got: "
            f"{error}; choose another name with --study"
        ) from error


def _folder(study: StudyRecord) -> Path:
    recorded = [
        Path(d) for s in reversed(study.searches) if isinstance(d := s.get("data_dir"), str)
    ]
    for folder in recorded:
        if os.path.isdir(folder):
            return folder
    return recorded[0] if recorded and study.settings.dataset == OWN_FOLDER else DATA_DIR


def _last(study: StudyRecord) -> Mapping[str, object]:
    return study.searches[-1] if study.searches else {}
