"""What happens in a final training: frozen dataclasses, handed to one callable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.final.records import FinalDesign
from nas.final.runs import Run, RunEvent
from nas.search.events import Loading, WorkerFailed
from nas.study.records import StudyRecord


@dataclass(frozen=True, slots=True)
class Opened:
    """The images are there; these runs are to be trained, as far as they are not done."""

    study: StudyRecord
    runs: Sequence[Run]
    epochs: int
    device: str  # in words
    precision: str  # and why, where it was not asked for
    left: Sequence[Run] = ()  # of the runs, those that are not done
    workers: int = 1  # that train at the same time
    threads: int = 1  # of the CPU, that they keep busy
    epoch_seconds: Mapping[str, float] = field(default_factory=dict)
    """Expected of each design, by the name of its runs; empty where nothing is known."""
    left_out: Sequence[str] = ()  # trials of higher accuracy in the search than some finalist


@dataclass(frozen=True, slots=True)
class DesignChosen:
    """The finalists are trained; the first is chosen, without a look at test images."""

    finalists: Sequence[FinalDesign]


@dataclass(frozen=True, slots=True)
class MoreRuns:
    """These are to be trained, too."""

    runs: Sequence[Run]
    what: str  # they are, in words
    left: Sequence[Run] = ()  # of them, those that are not done


@dataclass(frozen=True, slots=True)
class MakingInt8:
    """Int8 files of the network are about to be made, and judged on the validation images."""


@dataclass(frozen=True, slots=True)
class ReadingTestImages:
    """The test images are about to be read."""

    images: int


Event = (
    RunEvent
    | Loading
    | Opened
    | DesignChosen
    | MoreRuns
    | MakingInt8
    | ReadingTestImages
    | WorkerFailed
)
OnEvent = Callable[[Event], None]
