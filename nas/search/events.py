"""What a search tells whoever follows it."""

from dataclasses import dataclass

from nas.architecture import Architecture
from nas.counting import Count
from nas.search.request import SearchRequest
from nas.study.location import StudyLocation
from nas.study.records import StudyRecord, TrialRecord
from nas.training.loop import EpochResult


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known when the trials begin."""

    study: StudyRecord  # as it was found
    location: StudyLocation
    trials: int  # that are to be trained in the study when this search ends
    test_images: int  # none of them is read
    device: str
    precision: str  # of training, and why, where it was not asked for
    trial_seconds: float | None  # expected of a full run; on a GPU the first trial tells sooner
    workers: int = 1  # of this search, that train at the same time


class Observer:
    """Hears what a search does; every method may be overridden."""

    def loading(self, request: SearchRequest) -> None:
        """Images are about to be read, which may take a while."""

    def opened(self, opening: Opening) -> None:
        """The study is open and its images are there; now the trials begin."""

    def trial_started(self, number: int, architecture: Architecture, cost: Count) -> None:
        """A design is about to be trained."""

    def trial_continued(self, number: int, epochs: int) -> None:
        """The trial goes on after this many epochs that were done before, perhaps elsewhere."""

    def epoch_ended(self, number: int, result: EpochResult) -> None:
        """A trial has done an epoch."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial of this search has its outcome, of whatever kind."""

    def trial_lost(self, number: int) -> None:
        """A trial of this search goes on elsewhere: nothing was heard of this process too long."""

    def warned(self, warning: str) -> None:
        """Something about the study's place must be known."""

    def checkpoint_failed(self, reason: str) -> None:
        """Checkpoints cannot be written: a trial that is interrupted begins anew. Said once."""

    def capture_failed(self, reason: str) -> None:
        """Steps are not replayed from a CUDA graph, so thin designs train slower. Said once."""

    def database_gone(self, reason: str, patience: float) -> None:
        """The database does not answer; it is tried again for this many seconds."""

    def database_back(self) -> None:
        """The database answers again."""

    def worker_failed(self, reason: str) -> None:
        """One of several workers of this search has ended before its time; the others go on."""

    def named(self, name: str) -> None:
        """The name that this search has in its trials."""

    def ended_elsewhere(self, trial: TrialRecord) -> None:
        """A trial of another process on the same study has its outcome."""

    def waiting(self, running: int) -> None:
        """All designs asked for are trained or in training, this many of them elsewhere."""
