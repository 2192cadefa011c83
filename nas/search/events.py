"""What happens in a search: each event is a frozen dataclass, handed to one callable."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas.architecture import Architecture
from nas.counting import Count
from nas.search.evidence import Threshold
from nas.search.sizing import Size
from nas.study.location import StudyLocation
from nas.study.records import StudyRecord, TrialRecord
from nas.training.loop import EpochResult


@dataclass(frozen=True, slots=True)
class Loading:
    """Images are about to be read, which may take a while."""


@dataclass(frozen=True, slots=True)
class MeasuringLatency:
    """A few designs and their layers are about to be measured, for the limit of latency."""

    machine: Mapping[str, object]  # as `nas.export.timing.Stopwatch.machine` has it


@dataclass(frozen=True, slots=True)
class TimeSized:
    """How much a trial of a new study may cost was chosen by the time there is."""

    time: str  # the limit, as it is typed
    size: Size
    trial_seconds: float  # expected of a trial on average
    trials: int  # that are expected to fit
    asked: int  # trials
    otherwise: float | None  # seconds without the limit, where nobody asked for it
    command: str  # that repeats it without measuring


@dataclass(frozen=True, slots=True)
class Opened:
    """The study is open and its images are there; now the trials begin."""

    study: StudyRecord  # as it was found
    location: StudyLocation
    trials: int  # that are to be trained in the study when this search ends
    test_images: int  # none of them is read
    device: str
    precision: str  # of training, and why, where it was not asked for
    trial_seconds: float | None  # expected on average; None where nothing is known
    workers: int = 1  # of this search, that train at the same time
    seconds_left: float = math.inf  # until the option below ends the search
    ended_by: str = "--time"  # or --timeout
    pruner: str = "none"  # also where runs are too short to be stopped
    threads: int = 1  # of the CPU, that the search keeps busy


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A design is about to be trained."""

    number: int
    architecture: Architecture
    cost: Count
    threshold: Threshold | None = None  # of its next check, where the pruner can say it


@dataclass(frozen=True, slots=True)
class TrialContinued:
    """The trial goes on after epochs of its design that were done before, perhaps elsewhere."""

    number: int
    epochs: int


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """A trial has done an epoch."""

    number: int
    result: EpochResult
    threshold: Threshold | None = None  # of its next check, where the pruner can say it


@dataclass(frozen=True, slots=True)
class BatchesDone:
    """A trial is in the middle of an epoch. Comes about once a second."""

    number: int
    done: int
    batches: int  # of the epoch


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial of this search has its outcome, of whatever kind."""

    trial: TrialRecord


@dataclass(frozen=True, slots=True)
class EndedElsewhere:
    """A trial of another process on the same study has its outcome, or was ended by one."""

    trial: TrialRecord
    own: bool = False  # it was of this process, of which nothing was heard for too long


@dataclass(frozen=True, slots=True)
class Waiting:
    """All designs asked for are trained or in training, some of them in other processes."""

    running: int  # there


@dataclass(frozen=True, slots=True)
class Warned:
    """Something must be known before the trials begin."""

    warning: str


@dataclass(frozen=True, slots=True)
class CheckpointFailed:
    """Checkpoints cannot be written: a trial that is interrupted begins anew. Comes once."""

    reason: str


@dataclass(frozen=True, slots=True)
class CaptureFailed:
    """Steps are not replayed from a CUDA graph, so thin designs train slower."""

    reason: str


@dataclass(frozen=True, slots=True)
class DatabaseGone:
    """The database does not answer; it is tried again for some time."""

    reason: str
    patience: float  # seconds


@dataclass(frozen=True, slots=True)
class DatabaseBack:
    """The database answers again."""


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """One of several workers has ended before its time; the others go on."""

    reason: str


Event = (
    Loading
    | MeasuringLatency
    | TimeSized
    | Opened
    | TrialStarted
    | TrialContinued
    | EpochEnded
    | BatchesDone
    | TrialEnded
    | EndedElsewhere
    | Waiting
    | Warned
    | CheckpointFailed
    | CaptureFailed
    | DatabaseGone
    | DatabaseBack
    | WorkerFailed
)
OnEvent = Callable[[Event], None]


def ignore(event: object) -> None:
    """Does nothing about any event."""
