"""The length of runs, the share of images and the limit of mult-adds that fit a time.

Nothing here measures or trains: `nas.search.estimate` measures this machine, and a study's own
trials say how fast they were.
"""

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace

_ORDER: tuple[tuple[str, float], ...] = (
    ("epochs", 5),
    ("max_mult_adds", 10),  # times those of the smallest design
    ("subset", 0.1),
    ("max_mult_adds", 3),
    ("epochs", 2),
    ("max_mult_adds", 1.5),
    ("epochs", 1),
)
"""What is given up for time, one after another, each until so little is left."""
_FEWEST_IMAGES = 2_000  # to train on: a smaller share of the images is not taken
_STEP = 0.84  # from one limit of mult-adds to the next: a factor of 2 in four steps
_SHARE = 0.02  # of the images, from one share to the next

TRAINED_SHARE = 0.75
"""Of the epochs, expected of a run where runs are stopped early; most searches save more."""
_PLANNED = 0.9  # of the time: machines are not equally fast all the time
_BETWEEN = 0.3  # seconds that a trial takes beside its epochs

EVALUATED = 1 / 3
"""Cost of an evaluated image, in images trained on: a backward pass costs two forward passes
(Hobbhahn and Sevilla 2021, "What's the backward-forward FLOP ratio")."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one worker for an image that it trains on, or for another unit of work."""

    fixed: float  # whatever the design
    per_mult_add: float

    @classmethod
    def of(cls, measured: Iterable[tuple[int, float]]) -> "Speed | None":
        """The line nearest to pairs of (mult-adds, seconds), by the squares of its relative errors.

        Neither part is negative. One design alone says nothing of the fixed part: a larger one is
        then taken to be slower in proportion.
        """
        pairs = [
            (1 / seconds, cost / seconds) for cost, seconds in measured if min(cost, seconds) > 0
        ]
        if not pairs:
            return None
        aa, ab, bb = (
            math.fsum(one[i] * one[j] for one in pairs) for i, j in ((0, 0), (0, 1), (1, 1))
        )
        a, b = (math.fsum(one[i] for one in pairs) for i in (0, 1))
        determinant = aa * bb - ab * ab
        if determinant > 1e-9 * aa * bb:
            fixed = (a * bb - b * ab) / determinant
            per_mult_add = (b * aa - a * ab) / determinant
            if per_mult_add < 0:
                return cls(a / aa, 0.0)
            if fixed >= 0:
                return cls(fixed, per_mult_add)
        return cls(0.0, b / bb)

    def seconds(self, mult_adds: float) -> float:
        """Of a design."""
        return self.fixed + self.per_mult_add * mult_adds

    def mult_adds(self, seconds: float) -> float:
        """Of the largest design that takes no longer; 0 where none does."""
        if seconds < self.fixed:
            return 0.0
        return (seconds - self.fixed) / self.per_mult_add if self.per_mult_add else math.inf


@dataclass(frozen=True, slots=True)
class Size:
    """How much each trial of a study may cost, as the options that set it."""

    epochs: int
    subset: float  # share of the training images
    max_mult_adds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What trials cost, before anything is chosen."""

    train_images: int  # all of them
    validation_images: int
    smallest: int  # mult-adds of the smallest design
    typical: int  # mult-adds of a design drawn within the limits that are given
    named: int = 0  # mult-adds of the largest design that is asked for by name
    stops_early: bool = True  # whether runs may be stopped early

    def images(self, size: Size) -> float:
        """Images that a full run trains on, and those it evaluates as so many of these."""
        images = size.subset * self.train_images + EVALUATED * self.validation_images
        return size.epochs * images

    def mult_adds(self, size: Size) -> int:
        """Mult-adds of a design to plan with: most that are drawn are close to a tight limit."""
        return self.typical if size.max_mult_adds is None else min(size.max_mult_adds, self.typical)

    def run_seconds(self, speed: Speed, size: Size) -> float:
        """Seconds of a full run of such a design."""
        return self.images(size) * speed.seconds(self.mult_adds(size))

    def trial_seconds(self, speed: Speed, size: Size) -> float:
        """Seconds that a trial takes on average, a conservative estimate."""
        share = TRAINED_SHARE if self.stops_early and size.epochs > 1 else 1.0
        return share * self.run_seconds(speed, size) + _BETWEEN


@dataclass(frozen=True, slots=True)
class Sized:
    """A size, and how many trials of it fit the time."""

    size: Size
    trials: int  # of those that are asked for
    trial_seconds: float  # on average


def size(
    speed: Speed,
    seconds: float,
    trials: int,
    workers: int,
    work: Work,
    start: Size,
    given: Set[str],
) -> Sized:
    """The largest size of which all trials fit the time; the smallest one where none does.

    More time, or a machine that is faster at everything, never makes any part of it smaller.

    Args:
        speed: of a worker.
        seconds: for all trials.
        trials: designs to train.
        workers: that train at the same time.
        work: what they cost.
        start: what holds without a limit of time.
        given: the fields of it that are not to be changed.
    """
    available = _PLANNED * seconds * workers
    overhead_mult_adds = speed.fixed / speed.per_mult_add if speed.per_mult_add else math.inf
    for chosen in _smaller_and_smaller(start, given, work, overhead_mult_adds):
        each = work.trial_seconds(speed, chosen)
        if each * trials <= available:
            return Sized(chosen, trials, each)
    return Sized(chosen, max(1, int(available / each)), each)


def _smaller_and_smaller(
    start: Size, given: Set[str], work: Work, overhead_mult_adds: float
) -> Iterator[Size]:
    """Sizes to choose from, each no larger in any part than the one before.

    Args:
        start: the largest.
        given: the parts that stay.
        work: what trials cost.
        overhead_mult_adds: below which most of the time is spent on what all designs need.
    """
    yield start
    now = start
    for name, least in _ORDER:
        if name not in given:
            for less in _with_less(name, least, now, work, overhead_mult_adds):
                yield (now := less)


def _with_less(
    name: str, least: float, now: Size, work: Work, overhead_mult_adds: float
) -> Iterator[Size]:
    """Sizes with less and less of one part, down to the least."""
    match name:
        case "epochs":
            for epochs in range(now.epochs - 1, int(least) - 1, -1):
                yield replace(now, epochs=epochs)
        case "subset":
            fewest = max(least, min(1.0, _FEWEST_IMAGES / work.train_images))
            for step in range(1, int((now.subset - fewest) / _SHARE + 1e-9) + 1):
                yield replace(now, subset=round(now.subset - step * _SHARE, 2))
        case "max_mult_adds":
            most = _STEP * work.mult_adds(now)
            while most >= max(least * work.smallest, overhead_mult_adds, work.named):
                rounded = _two_digits(most)
                yield replace(now, max_mult_adds=rounded)
                most = _STEP * rounded


def _two_digits(number: float) -> int:
    """A number rounded up to two digits, such as 67,000,000."""
    unit: int = 10 ** max(0, int(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit
