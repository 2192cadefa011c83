"""Final trainings that end in a moment."""

import dataclasses

from nas.final.request import FinalRequest
from nas.training.config import Task, TrainingConfig, fast

STUDY = "digits-5M"


def request_of(**changes: object) -> FinalRequest:
    plain = {"study": STUDY, "recipe": "fast", "epochs": 2, "top": 2, "seeds": 2, "subset": 0.2}
    return FinalRequest(**{**plain, **changes})  # type: ignore[arg-type]


def fast_before(task: Task) -> TrainingConfig:
    """The recipe `fast` of a version that has another one."""
    return dataclasses.replace(fast(task), lr=0.1)
