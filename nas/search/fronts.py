"""Searching for a whole front: the most accurate design of every size, in one study.

The study stays one that maximizes `val_accuracy`, since Optuna stops no trial early in a study of
several objectives (`Trial.should_prune` raises). Instead each proposal gets a budget of its own, so
that designs of all sizes are tried, and a run is compared with those of designs no larger.
"""

import math
import random
from collections.abc import Sequence

from nas.counting import LIMITED, count
from nas.space import Limits, SearchSpace
from nas.values import did_you_mean

ACCURACY = "val_accuracy"


def check_objectives(objectives: Sequence[str]) -> tuple[str, ...]:
    """`val_accuracy`, alone or with one of `LIMITED` after it, against which it is weighed.

    Raises:
        ValueError: anything else.
    """
    found = tuple(objectives)
    if found[:1] != (ACCURACY,) or len(found) > 2 or not set(found[1:]) <= set(LIMITED):
        raise ValueError(
            f"expected {ACCURACY}, or {' or '.join(f'{ACCURACY},{size}' for size in LIMITED)}, "
            f"got {','.join(map(str, found))!r}{did_you_mean(found[-1] if found else '', LIMITED)}"
        )
    return found


def proposal_limits(
    objectives: Sequence[str], space: SearchSpace, limits: Limits, rng: random.Random
) -> Limits:
    """The limits of one proposal; the search's own without a second objective.

    The limit of the second objective is a `proposal_budget` from the smallest design of the space
    within the limits on; at least that design is within what comes back.
    """
    if len(objectives) < 2:
        return limits
    size = objectives[1]
    smallest = getattr(count(space.smallest(limits, by=size), space.input), size)
    return limits.with_maximum(size, proposal_budget(smallest, limits[size], rng))


def proposal_budget(smallest: int, limit: int, rng: random.Random) -> int:
    """A limit for one proposal, log-uniform in `smallest..limit`: every doubling is as likely.

    Raises:
        ValueError: `smallest` is below 1 or above the limit.
    """
    if not 1 <= smallest <= limit:
        raise ValueError(f"smallest must be in 1..{limit:,}, got {smallest:,}")
    drawn = round(math.exp(rng.uniform(math.log(smallest), math.log(limit))))
    return min(max(drawn, smallest), limit)  # rounding must not leave the range
