"""The learning rate over a run, as a share of its peak."""

import math

from nas.training.config import Schedule, TrainingConfig


def rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step, from 0, of a run of this many steps.

    `COSINE` is that of Loshchilov and Hutter 2017 (arXiv:1608.03983) without restarts, `TRIANGLE`
    that of Smith and Topin 2018 (arXiv:1708.07120) without its tail. Both start with a straight
    warm-up, and their last step still moves.
    """
    if config.schedule is Schedule.CONSTANT:
        return 1.0
    if config.schedule is Schedule.STEP:
        passed: float = 0.1 ** sum(step >= share * steps for share in config.milestones)
        return passed
    peak = config.warmup * steps
    if step < peak:
        return (step + 1) / (math.floor(peak) + 1)
    left = (steps - step) / (steps - peak)
    if config.schedule is Schedule.COSINE:
        return 0.5 * (1 - math.cos(math.pi * left))
    return left
