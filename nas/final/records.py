"""What a final training found, as plain typed values that JSON keeps."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, ImageInput
from nas.counting import LIMITED
from nas.latency import LatencyLimit
from nas.runtime.precision import Precision
from nas.shapes import check_fields, from_json
from nas.space import Limits
from nas.statistics import (
    Correct,
    Estimate,
    difference,
    mean_accuracy,
    standard_deviation,
    wilson_interval,
)
from nas.study.records import StudyRecord, with_costs
from nas.training.config import precision_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The accuracy of one design's runs on one set of images."""

    accuracies: tuple[float, ...]  # 0..1, a seed each
    mean: Estimate
    standard_deviation: float | None  # from seed to seed; None with one

    @classmethod
    def of(cls, correct_SI: Correct) -> "Measured":
        """From which images each run gets right."""
        return cls(
            accuracies=tuple(correct_SI.mean(axis=1).tolist()),
            mean=mean_accuracy(correct_SI),
            standard_deviation=standard_deviation(correct_SI),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """From what a design learned beside the labels, and what that brought."""

    teacher: str  # in words
    temperature: float
    weight: float  # of the teacher in the loss, 0..1
    gain: Estimate | None = None  # validation accuracy above its own without a teacher, if measured


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalDesign:
    """One design that was trained in full: a finalist of the study, or a reference."""

    name: str  # such as "trial 12" or the name of a preset
    architecture: Architecture
    parameters: int
    mult_adds: int
    activations: int | None = None  # this and the next ones: see `nas.counting.Count`
    peak_ram: int | None = None
    arena: int | None = None
    flash: int | None = None
    trial: int | None = None  # of a finalist
    search_accuracy: float | None = None  # of a finalist's trial, on the validation images, 0..1
    validation: Measured | None = None  # None: a run failed
    may_be_best: bool = False  # of a finalist: no other was shown to be better
    failed: str | None = None  # which runs, and why
    test: Measured | None = None  # of the chosen one and the references
    published: float | None = None  # accuracy of a reference elsewhere, 0..1
    source: str | None = None  # of `published`
    distilled: Distilled | None = None

    @property
    def is_reference(self) -> bool:
        """Whether it is no finalist."""
        return self.trial is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """How the exported network does on the test images of one class."""

    name: str
    images: int
    correct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A test image on which the exported network is confident and wrong."""

    file: str  # of its picture, relative to the model's folder
    label: int
    predicted: int
    probability: float  # of the predicted class, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The network that was exported, on the test images."""

    seed: int
    accuracy: Estimate  # Wilson's interval: this network, further images
    per_class: tuple[ClassResult, ...]  # in label order
    confusion: tuple[tuple[int, ...], ...]  # [label][predicted], images
    mistakes: tuple[Mistake, ...]  # the surest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Accuracy:
    """An int8 file on one set of images, beside the network in float32 on the same ones."""

    accuracy: Estimate  # Wilson's interval: this file, further images
    lost: Estimate  # of the accuracy in float32: of pairs, and below 0 where int8 is better

    @classmethod
    def of(cls, right_I: NDArray[np.bool_], in_float_I: NDArray[np.bool_]) -> "Int8Accuracy":
        """From which images the file gets right, and which the network in float32."""
        return cls(
            accuracy=wilson_interval(float(right_I.mean()), len(right_I)),
            lost=difference(in_float_I[None], right_I[None]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Record:
    """An int8 file of the exported network."""

    file: str  # in the model's folder
    bytes: int
    sha256: str  # of its content
    validation: Int8Accuracy
    test: Int8Accuracy | None = None  # None: it was made after the test images were read


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLatency:
    """How long a design takes for one image, as its search measured it."""

    limit: LatencyLimit
    ms: float
    machines: tuple[Mapping[str, object], ...]  # that have measured in its study: it was on one

    @classmethod
    def of(cls, study: StudyRecord, number: int | None) -> "MeasuredLatency | None":
        """The latency of a trial's design; None where it has no limit."""
        limit = study.settings.latency
        ms = next((trial.latency_ms for trial in study.trials if trial.number == number), None)
        if limit is None or ms is None:
            return None
        return cls(limit=limit, ms=ms, machines=study.latency_machines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much the chosen design's mean test accuracy is above a reference's."""

    reference: str
    architecture: Estimate  # under the same recipe and seeds, and the same teacher if there is one
    recipe: float | None  # what this recipe adds to the reference's published accuracy


BY_SCORE, BY_EXPECTATION = "accuracy in the search", "expected accuracy"
"""How finalists are taken: by the former in earlier versions, see `nas.search.expected`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRecord:
    """A final training, its choice, and its one look at the test images."""

    study: str
    dataset: str
    input: ImageInput
    classes: tuple[str, ...]
    notes: tuple[str, ...]  # about the data
    limits: Limits
    recipe_name: str
    recipe: Mapping[str, object]
    on: str
    subset: float
    seeds: tuple[int, ...]
    train_images: int  # that the tested networks were trained on
    validation_images: int
    test_images: int
    finalists: tuple[FinalDesign, ...]  # by mean validation accuracy, best first
    references: tuple[FinalDesign, ...]
    gains: tuple[Gain, ...]
    exported: Exported
    read: str  # when the test images were, ISO 8601
    readings: int  # of the test images, this one included
    seconds: float  # of training, summed over all runs
    devices: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    int8: tuple[Int8Record, ...] = ()
    latency: MeasuredLatency | None = None  # of the chosen design, where it has a limit
    finalists_by: str = BY_SCORE  # which designs of the search were taken

    @property
    def precision(self) -> Precision:
        """The arithmetic that the runs were trained in."""
        return precision_of(self.recipe)

    @property
    def int8_files(self) -> tuple[str, ...]:
        """The names of the int8 files."""
        return tuple(record.file for record in self.int8)

    @property
    def chosen(self) -> FinalDesign:
        """The finalist with the best mean validation accuracy."""
        return self.finalists[0]

    @property
    def others(self) -> tuple[FinalDesign, ...]:
        """The finalists of other designs: with a teacher the chosen design is there twice."""
        return tuple(design for design in self.finalists if design.trial != self.chosen.trial)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the limits stand among the others."""
        values = dataclasses.asdict(self)
        limits = values.pop("limits")
        return {**values, **limits}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FinalRecord":
        """The record that `to_dict` gave.

        Raises:
            ValueError: a value is missing or unknown, as in a study of another version.
        """
        try:
            limits = {c.maximum: values.get(c.maximum) for c in LIMITED.values()}
            others = {name: value for name, value in values.items() if name not in limits}
            record: FinalRecord = from_json(cls, {**others, "limits": limits})
            record = dataclasses.replace(
                record,
                finalists=tuple(with_costs(d, record.input) for d in record.finalists),
                references=tuple(with_costs(d, record.input) for d in record.references),
            )
            check_fields(record)
            precision_of(record.recipe)
            _check_classes(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a final training of another version: {error}") from error
        return record


def _check_classes(record: FinalRecord) -> None:
    """Raises a ValueError where what was exported is not about the classes, or nothing was."""
    exported, classes = record.exported, range(len(record.classes))
    labels = [label for m in exported.mistakes for label in (m.label, m.predicted)]
    if (
        not record.finalists
        or any(len(rows) != len(classes) for rows in (exported.confusion, *exported.confusion))
        or any(label not in classes for label in labels)
        or any(not 0 <= result.correct <= result.images for result in exported.per_class)
    ):
        raise ValueError("its results do not fit its classes")
