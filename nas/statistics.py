"""How sure accuracies are: intervals, differences, and which designs cannot be told apart.

Two things make an accuracy uncertain: the seed of a run, and which images happen to be in the set.
Both are taken as drawn at random, so an interval is about further seeds and further images of the
same kind. Shapes: S seeds, I images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Correct = NDArray[np.bool_]
"""Whether a design's runs classify images correctly, (S, I): a row per seed."""

_CONFIDENCE = 0.95
_Z = 1.959963984540054  # two-sided 95% of a normal distribution


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


def wilson_interval(share: float, images: int) -> Estimate:
    """A share observed on a number of images, and its 95% Wilson score interval.

    Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    Raises:
        ValueError: the share is outside 0..1, or there are no images.
    """
    _check_share(share, images)
    z2 = _Z**2 / images
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / images + z2 / (4 * images))
    # The share is inside by definition; rounding must not put it outside.
    return Estimate(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def difference_interval(share: float, images: int, than: float, than_images: int) -> Estimate:
    """How far one share is above another, each of its own images, and the 95% interval.

    Agresti and Caffo 2000, Am. Stat. 54, 280-288: one success and one failure are added to each.
    Of shares of the same images it is too wide rather than too narrow: what both find easy or
    difficult is in it twice.

    Raises:
        ValueError: a share is outside 0..1, or there are no images.
    """
    middles, variance = [], 0.0
    for value, count in ((share, images), (than, than_images)):
        _check_share(value, count)
        middle = (value * count + 1) / (count + 2)
        middles.append(middle)
        variance += middle * (1 - middle) / (count + 2)
    gap, half = middles[0] - middles[1], _Z * math.sqrt(variance)
    return Estimate(share - than, max(-1.0, gap - half), min(1.0, gap + half))


def visible_difference(share: float, images: int) -> float:
    """The smallest fall from a share that so many other images can show, by `difference_interval`.

    1 where they can show none. Of two designs on the same images it is rather too large than too
    small, as the interval is.

    Raises:
        ValueError: the share is outside 0..1, or there are no images.
    """
    _check_share(share, images)
    falls = (fewer / images for fewer in range(1, math.floor(share * images) + 1))
    shown = (
        fall
        for fall in falls
        if difference_interval(share, images, max(0.0, share - fall), images).low > 0
    )
    return next(shown, 1.0)


def standard_deviation(correct_SI: Correct) -> float | None:
    """Of the accuracy from seed to seed, 0..1; None with one seed."""
    accuracies_S = correct_SI.mean(axis=1)
    return float(accuracies_S.std(ddof=1)) if len(accuracies_S) > 1 else None


def mean_accuracy(correct_SI: Correct) -> Estimate:
    """The mean accuracy over seeds, 0..1, and its 95% interval for further seeds and images.

    The variance of the mean is that of the seeds plus that of the images, each with its degrees of
    freedom (Welch 1947, Biometrika 34, 28-35; Satterthwaite 1946). The images' part is taken as
    Agresti and Coull do (1998, Am. Stat. 52, 119-126), two successes and two failures added, so
    that no mistake at all is not taken for certainty. Rather too wide than too narrow: what differs
    between two runs on the same image is in both parts. With one seed only the images are in it.

    Raises:
        ValueError: there are no runs or no images.
    """
    seeds, images = _shape(correct_SI)
    accuracies_S = correct_SI.mean(axis=1)
    mean = float(accuracies_S.mean())
    middle = (mean * images + 2) / (images + 4)
    of_images = middle * (1 - middle) / (images + 4)
    of_seeds = float(accuracies_S.var(ddof=1)) / seeds if seeds > 1 else 0.0
    half = _half_width((of_seeds, seeds - 1), (of_images, images - 1))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(mean, min(low, mean), max(high, mean))


def difference(correct_SI: Correct, than_SI: Correct) -> Estimate:
    """By how much the first design's mean accuracy is above the second's, with a 95% interval.

    Both are measured on the same images, so only images on which they differ count (a paired
    comparison); their seeds are independent. With one seed only the images are in it.

    Raises:
        ValueError: there are no runs or images, or the images are not the same number.
    """
    seeds, images = _shape(correct_SI)
    other_seeds, other_images = _shape(than_SI)
    if images != other_images:
        raise ValueError(f"images must be the same for both, got {images} and {other_images}")
    value = float(correct_SI.mean() - than_SI.mean())
    parts = [(_variance_of_images(correct_SI, than_SI), images - 1)]
    for runs_SI, runs in ((correct_SI, seeds), (than_SI, other_seeds)):
        if runs > 1:
            parts.append((float(runs_SI.mean(axis=1).var(ddof=1)) / runs, runs - 1))
    half = _half_width(*parts)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def cannot_be_told_apart(designs: Sequence[Correct]) -> tuple[bool, ...]:
    """For each design, whether it may be the best of all, going by these runs.

    Multiple comparisons with the best (Hsu 1984, Ann. Stat. 12, 1136-1144): a design is out when
    another one's mean accuracy is above its own by more than Dunnett's one-sided 95% bound allows,
    so that the truly best one stays in at least 95% of all cases, however many there are. The
    variance from seed to seed is pooled over the designs; that of the images is of the pair.
    With one seed each, nothing is known of the seeds, and no design is out.

    Raises:
        ValueError: there is no design, or they differ in their numbers of runs or images.
    """
    if not designs:
        raise ValueError("designs must be at least one, got none")
    shapes = {_shape(correct_SI) for correct_SI in designs}
    if len(shapes) > 1:
        raise ValueError(f"designs must have equal numbers of runs and images, got {shapes}")
    seeds, _ = shapes.pop()
    if len(designs) == 1 or seeds == 1:
        return (True,) * len(designs)
    means = [float(correct_SI.mean()) for correct_SI in designs]
    of_seeds = float(np.mean([c.mean(axis=1).var(ddof=1) for c in designs]))
    bound = dunnett_bound(len(designs) - 1, len(designs) * (seeds - 1))

    def out(i: int) -> bool:
        return any(
            means[j] - means[i]
            > bound * math.sqrt(2 * of_seeds / seeds + _variance_of_images(designs[i], other_SI))
            for j, other_SI in enumerate(designs)
            if j != i
        )

    return tuple(not out(i) for i in range(len(designs)))


def dunnett_bound(others: int, freedom: int) -> float:
    """Dunnett's one-sided 95% critical value, for comparing `others` groups with one of equal size.

    The d for which P(T_1 <= d, ..., T_others <= d) = 0.95, where the T are differences to one group
    over their standard error, t distributed and correlated by one half (Dunnett 1955, J. Am. Stat.
    Assoc. 50, 1096-1121, table 1a). `freedom` is that of the pooled variance, in degrees.
    """
    # T = (Z - Z0) / (sqrt(2) S): the Z are independent once Z0 and S are given.
    points, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()
    shares = (np.arange(400) + 0.5) / 400
    spread = np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)

    def missing(d: float) -> float:
        inside = special.ndtr(d * math.sqrt(2) * spread[:, None] + points) ** others
        return float((inside @ weights).mean() - _CONFIDENCE)

    return float(optimize.brentq(missing, 0.1, 100.0, xtol=1e-6))


def _check_share(share: float, images: int) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in 0..1, got {share}")
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")


def _shape(correct_SI: Correct) -> tuple[int, int]:
    if correct_SI.ndim != 2 or 0 in correct_SI.shape:
        raise ValueError(f"expected runs x images, at least 1x1, got {correct_SI.shape}")
    return correct_SI.shape[0], correct_SI.shape[1]


def _variance_of_images(correct_SI: Correct, than_SI: Correct) -> float:
    """Of the difference of two mean accuracies, from which images there are.

    With half an image more in each of the four cells of right and wrong, so that few mistakes are
    not taken for certainty (Agresti and Min 2005, Stat. Med. 24, 729-740).
    """
    differences_I = correct_SI.mean(axis=0) - than_SI.mean(axis=0)
    images = len(differences_I) + 2
    mean = float(differences_I.sum()) / images
    return (float((differences_I**2).sum() + 1) / images - mean**2) / images


def _half_width(*parts: tuple[float, int]) -> float:
    """Half of a 95% interval, from variances that add up and their degrees of freedom."""
    known = [(variance, freedom) for variance, freedom in parts if variance > 0 and freedom > 0]
    total = sum(variance for variance, _ in known)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in known)
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom)) * math.sqrt(total)
