"""The folder of an exported network: what its record says of it, and the int8 files added to it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from nas.data.catalogue import DataError
from nas.data.types import ImageDataset
from nas.errors import RequestError
from nas.export.formats import FORMATS, check_packages
from nas.export.loading import Classifier, load
from nas.export.spec import CARD, GRAPH, ModelError, ModelSpec
from nas.export.writing import add_files, write_model
from nas.final.card import model_card
from nas.final.int8 import make_int8
from nas.final.records import FinalRecord, Int8Record
from nas.model import ResNet
from nas.search.continuing import DataOptions, data_options
from nas.study.location import StudyError, StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.study.store import held as held_lock


@dataclass(frozen=True, slots=True)
class FinalResult:
    """A finished final training."""

    record: FinalRecord
    folder: Path  # of the exported model
    tested_now: bool  # False: the result of an earlier reading is still valid
    refused: tuple[str, ...] = ()  # why there is no int8 file, a line for each network


def locked(folder: Path) -> AbstractContextManager[None]:
    """A block in which no other process writes to a folder; a signal ends the wait for it."""
    return held_lock(FileLock(folder / ".lock"))


def write_network(
    folder: Path,
    network: ResNet,
    record: FinalRecord,
    dataset: ImageDataset,
    int8: Mapping[str, bytes],
) -> None:
    """Writes a tested network, in place of an older one.

    Raises:
        OSError: the folder cannot be written.
    """
    spec = spec_of(network, dataset)
    card = model_card(record)
    write_model(folder, network, spec, metrics=record.to_dict(), card=card, files=int8)


def spec_of(network: ResNet, dataset: ImageDataset) -> ModelSpec:
    """What a network that was trained on these images reads and answers."""
    return ModelSpec(
        architecture=network.architecture,
        input=dataset.input,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        bits=dataset.bits,
    )


def held_record(folder: Path) -> FinalRecord | None:
    """What a folder holds, without int8 files that are gone; None if it has no whole network."""
    try:
        held = FinalRecord.from_dict(load(folder).metrics)
    except (ModelError, ValueError):
        return None
    if not all((folder / name).is_file() for name in (GRAPH, CARD)):
        return None
    return replace(held, int8=_int8_there(held, folder))


def missing(names: Iterable[str], record: FinalRecord, held: FinalRecord | None) -> list[str]:
    """The formats whose files are to be made.

    Args:
        names: of the formats that are asked for.
        record: of its test; the int8 files that were tested belong to it.
        held: what the folder holds; None where it holds no network.
    """
    tested = [name for name, format in FORMATS.items() if format.file in record.int8_files]
    there = held.int8_files if held else ()
    return [name for name in dict.fromkeys([*tested, *names]) if FORMATS[name].file not in there]


def add_int8(
    folder: Path,
    names: Iterable[str],
    dataset: ImageDataset,
    *,
    most: float,
    tested: Sequence[Int8Record] = (),
) -> FinalResult:
    """Adds int8 files to the network in a folder; its test images are not read.

    Args:
        folder: of the network and its record.
        names: of the formats.
        dataset: that the network was trained on.
        most: percentage points of validation accuracy that may be lost.
        tested: files whose test accuracy is known; it holds for equal ones.

    Raises:
        ModelError: the folder holds no whole network of a final training.
        OSError: the folder cannot be written.
    """
    model = load(folder)
    held = _record(model, folder)
    int8 = make_int8(
        names, model.network, model.spec, dataset, on=held.on, limits=held.limits, most=most
    )
    tests = {record.sha256: record.test for record in (*held.int8, *tested)}
    files = {record.file: record for record in _int8_there(held, folder)}
    for accepted in int8.accepted:
        for made in accepted.records():
            files[made.file] = replace(made, test=tests.get(made.sha256))
    record = replace(held, int8=tuple(files.values()))
    add_files(folder, int8.contents, metrics=record.to_dict(), card=model_card(record))
    return FinalResult(record, folder, tested_now=False, refused=int8.refused)


def export_int8(
    folder: Path,
    names: Sequence[str],
    *,
    most: float,
    storage: str | None = None,
    data_dir: Path | None = None,
) -> FinalResult:
    """Adds int8 files to the network that a study's final training exported.

    Args:
        folder: of the network, where `nas final` wrote it.
        names: of the formats.
        most: percentage points of validation accuracy that may be lost.
        storage: URL of the study's database; None: its file lies beside its folder.
        data_dir: where the images are, if not where the search read them.

    Raises:
        RequestError: the study is not there, or a package is not installed.
        ModelError: the folder holds no whole network of a final training.
        DataError: the images cannot be had, or are others.
        OSError: the folder cannot be written.
    """
    check_packages(names)
    record = _record(load(folder), folder)
    folder = Path(os.path.abspath(folder))
    name = record.study if storage else folder.parent.name
    try:
        location = StudyLocation.at(name, studies_dir=folder.parent.parent, storage=storage)
        study = read_study(location)
    except StudyError as error:
        raise RequestError(
            f"{folder}: expected the model of a study that is still there, got none: {error}"
        ) from error
    data = data_options(study, data_dir=data_dir)
    dataset = data.load(record.subset)
    check_images(dataset, study, data)
    with locked(folder):
        return add_int8(folder, names, dataset, most=most)


def check_images(found: ImageDataset, study: StudyRecord, data: DataOptions) -> None:
    """Refuses other training and validation images than those of the study.

    Raises:
        DataError: they are others.
    """
    settings = study.settings
    if found.digest != settings.dataset_digest:
        raise DataError(
            f"expected the images of the study ({settings.dataset}, digest "
            f"{settings.dataset_digest}), got others in {data.data_dir} (digest "
            f"{found.digest}); name their folder with --data-dir, "
            "and give --skip-broken and --drop-duplicates as the search did"
        )


def _int8_there(record: FinalRecord, folder: Path) -> tuple[Int8Record, ...]:
    """The int8 files of a record that are in the folder, unchanged."""

    def is_there(file: Int8Record) -> bool:
        try:
            content = (folder / file.file).read_bytes()
        except OSError:
            return False
        return sha256(content).hexdigest() == file.sha256

    return tuple(filter(is_there, record.int8))


def _record(model: Classifier, folder: Path) -> FinalRecord:
    try:
        return FinalRecord.from_dict(model.metrics)
    except ValueError as error:
        raise ModelError(
            f"{folder}: expected a model that nas final exported, got {error}; export it again "
            "with nas final"
        ) from error
