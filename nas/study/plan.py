"""What a search is to do on an open study, and how that may end."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from nas.architecture import ImageInput
from nas.space import Limits, SearchSpace
from nas.study.trainer import Trainer


class SearchFailed(RuntimeError):
    """Training fails again and again, or the database is gone; the message says why."""


class SearchEnding(StrEnum):
    """Why a search returned."""

    DONE = "done"  # the asked number of designs is trained
    EXHAUSTED = "exhausted"  # every design of the space within the limits has been tried
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is to do; the same for all workers on a study but for seed and device."""

    trials: int  # designs trained in the study, by all
    space: SearchSpace
    limits: Limits
    input: ImageInput
    epochs: int  # of a full run
    seed: int
    sampler: Callable[[int], BaseSampler]  # for one proposal, by a seed of its own
    pruner: BasePruner
    train: Trainer
    clean_up: Callable[[], None] = lambda: None  # after every training, whatever came of it
    device: str = "cpu"  # in words
    timeout: float | None = None  # seconds after which no new trial starts
