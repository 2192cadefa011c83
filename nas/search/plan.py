"""What a search is to do on an open study, and how that may end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from optuna.pruners import BasePruner

from nas.architecture import Architecture
from nas.search.candidates import Candidate, Candidates
from nas.search.fronts import ACCURACY
from nas.search.measuring import Latencies
from nas.search.trainer import Trainer
from nas.training.checkpoint import Checkpoint
from nas.training.tuning import Value


class SearchFailed(RuntimeError):
    """Training fails again and again, or the database is gone; the message says why."""


class SearchEnding(StrEnum):
    """Why a search returned."""

    DONE = "done"  # the asked number of designs is trained
    EXHAUSTED = "exhausted"  # every design of the space within the limits has been tried
    TIMEOUT = "timeout"  # of this search
    TIME_UP = "time_up"  # of all searches of the study


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is to do; the same for all workers on a study but for seed and device."""

    trials: int  # designs trained in the study, by all
    candidates: Candidates
    epochs: int  # of a full run
    seed: int
    pruner: BasePruner
    train: Trainer
    checkpoint: Callable[[Candidate], Checkpoint | None] = lambda candidate: None
    training_attributes: Callable[[Mapping[str, Value]], Mapping[str, Value]] = lambda values: {}
    presets: Mapping[str, Architecture] = field(default_factory=dict)  # to train first, by name
    objectives: tuple[str, ...] = (ACCURACY,)
    latencies: Latencies | None = None  # where they have a limit; `candidates` know their table
    clean_up: Callable[[], None] = lambda: None  # after every training, whatever came of it
    device: str = "cpu"  # in words
    timeout: float | None = None  # seconds after which no new trial starts
    time_limit: float = math.inf  # seconds that the study is searched, by all
