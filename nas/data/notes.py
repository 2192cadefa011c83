"""What a reader must know of images, as notes of one sentence or two; none where all is well.

Shapes: N images, C channels, H x W pixels, L levels of a pixel.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.data.duplicates import of_two_classes
from nas.text import are, percent, plural, whole

# Largest class over smallest from which the classes are called unbalanced: with two classes always
# giving the same answer is then right for 3 of 4 images. SVHN has 2.98.
UNBALANCED = 3
FEW = 10  # training images per class, below which a subset trains on almost nothing

FLAT = 8  # levels of 256 from the darkest to the brightest pixel, below which one sees nothing
NARROW = 32  # levels of 256, as few as 16-bit images have where a bright pixel hides that 12 matter
ALMOST_ALL = 0.99  # of all pixels


def note_on_balance(
    classes: Sequence[str], training_N: NDArray[np.int64], validating_N: NDArray[np.int64]
) -> list[str]:
    """What an accuracy hides where one class has many more images than another, by their labels."""
    counts = np.bincount(training_N, minlength=len(classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNBALANCED * counts[least]:
        return []
    share = float(np.mean(validating_N == most))
    return [
        f"the classes are unbalanced: {plural(int(counts[most]), 'training image')} of "
        f"{classes[most]}, {counts[least]:,} of {classes[least]}. Always answering {classes[most]} "
        "would reach "
        f"{percent(share)} validation accuracy, so a high accuracy can hide errors on rare classes"
    ]


def note_on_subset(subset: float, images: int, classes: int) -> list[str]:
    """That a subset leaves so few training images that nothing is learned."""
    if images >= FEW * classes:
        return []
    return [
        f"a subset of {subset:g} leaves {plural(images, 'training image')} for "
        f"{plural(classes, 'class', 'classes')}, fewer than {FEW} per class: accuracies will mean "
        "little"
    ]


def note_on_contrast(pixels_NHWC: NDArray[np.uint8]) -> list[str]:
    """How many images show nothing, since all their pixels are almost equal."""
    channels_NP = [channel.reshape(len(channel), -1) for channel in np.moveaxis(pixels_NHWC, -1, 0)]
    contrast_N = np.max([np.ptp(levels_NP, axis=1) for levels_NP in channels_NP], axis=0)
    flat = int((contrast_N < FLAT).sum())
    if not flat:
        return []
    return [
        f"{flat:,} of {plural(len(contrast_N), 'training image')} {are(flat)} of one colour, or "
        f"within {FLAT} of 256 levels of it: check that they were saved correctly"
    ]


def note_on_levels(counts_CL: NDArray[np.int64]) -> list[str]:
    """That almost all pixels have almost the same level, by how many have each of 256 levels."""
    up_to_L = np.concatenate([[0], counts_CL.sum(axis=0).cumsum()])
    within = up_to_L[NARROW:] - up_to_L[:-NARROW]  # by the lowest of the levels
    low = int(within.argmax())
    if within[low] < ALMOST_ALL * up_to_L[-1]:
        return []
    return [
        f"the training images are nearly constant: {percent(within[low] / up_to_L[-1])} of their "
        f"pixels lie within {NARROW} of 256 levels ({low} to {low + NARROW - 1}): check that they "
        "were saved correctly, and that no few odd pixels of 16-bit images keep the others dark"
    ]


def note_on_duplicates(
    first_N: NDArray[np.int64], labels_N: NDArray[np.int64], validating_N: NDArray[np.bool_]
) -> list[str]:
    """How many training images are equal to others, and what that makes of the accuracy."""
    repeated = int((first_N != np.arange(len(first_N))).sum())
    if not repeated:
        return []
    known = int(np.isin(first_N[validating_N], first_N[~validating_N]).sum())
    doubtful = int(of_two_classes(first_N, labels_N).sum())
    images = plural(len(first_N), "training image")
    parts = [f"{repeated:,} of {images} {'duplicates' if repeated == 1 else 'duplicate'} another"]
    if known:
        parts.append(
            f"{known:,} of {plural(int(validating_N.sum()), 'validation image')} {are(known)} "
            "also used for training, so the validation accuracy is partly memorization"
        )
    if doubtful:
        parts.append(f"{whole(doubtful)} {are(doubtful)} in two classes at once")
    none = ", and none of those in two classes" if doubtful else ""
    return [f"{'; '.join(parts)}: --drop-duplicates keeps one of each{none}"]
