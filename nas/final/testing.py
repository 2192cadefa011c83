"""The one look at the test images: all chosen networks on all of them, in one go.

Shapes: N images, K classes, S seeds.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nas.data.catalogue import DATASETS, DataError
from nas.data.duplicates import digests_of, first_of_each
from nas.data.loading import load_test
from nas.data.types import ImageDataset, Images
from nas.export.int8_files import Quantized
from nas.files import replacing
from nas.final.int8 import Right, right_answers, right_in_int8
from nas.final.records import ClassResult, Exported, Mistake
from nas.model import ResNet
from nas.search.continuing import DataOptions
from nas.statistics import Correct, wilson_interval
from nas.text import percent, plural
from nas.training.evaluation import predict

MISTAKES = "mistakes"  # the folder of their pictures
_MISTAKES = 24  # kept at most


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """What the networks say of the test images."""

    images: Images  # on the CPU
    notes: tuple[str, ...]  # what was done to them
    correct: Mapping[str, Correct]  # by the name of the design, (S, N)
    probabilities_NK: NDArray[np.float32]  # of the network that is exported
    int8: tuple[Right, ...]  # which images its int8 networks classify rightly

    @property
    def right_N(self) -> Right:
        """Which images the exported network classifies rightly."""
        right_N: Right = self.probabilities_NK.argmax(axis=1) == self.images.labels_N.numpy()
        return right_N

    def is_as_published(self, dataset: str) -> bool:
        """Whether the images are those that others published results on."""
        info = DATASETS.get(dataset)
        return info is not None and len(self.images) == info.test_images


def test_once(
    networks: Mapping[str, Sequence[ResNet]],
    exported: ResNet,
    int8: Sequence[Quantized],
    dataset: ImageDataset,
    data: DataOptions,
    device: torch.device,
) -> Tested:
    """Reads the test images and has every network classify them.

    Args:
        networks: by the name of their design, one for each seed.
        exported: one of them.
        int8: what was made of that one.
        dataset: whose test part it is.
        data: where they lie, and how they are read.
        device: where to compute.

    Raises:
        DataError: the test part cannot be read, or without the duplicates nothing is left of it.
    """
    part = load_test(
        data.dataset,
        data.data_dir,
        split_seed=data.split_seed,
        skip_broken=data.skip_broken,
    )
    images, notes = part.images, part.notes
    seen_N, repeated_N = _duplicates(images, dataset)
    if data.drop_duplicates:
        images, notes_of_dropped = _without(images, seen_N, repeated_N)
        notes += notes_of_dropped
    there = images.to(device)
    correct: dict[str, Correct] = {}
    probabilities_NK = np.empty((0, 0), dtype=np.float32)
    for name, runs in networks.items():
        rows = []
        for network in runs:
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            logits_NK = predict(network, there, dataset)
            rows.append(right_answers(logits_NK, there))
            if network is exported:
                probabilities_NK = logits_NK.softmax(dim=1).cpu().numpy()
            network.to("cpu")
        correct[name] = np.stack(rows)
    in_int8 = tuple(right_in_int8(network, images) for network in int8)
    look = Tested(images, notes, correct, probabilities_NK, in_int8)
    if data.drop_duplicates:
        return look
    return replace(look, notes=notes + _notes_on_duplicates(seen_N, repeated_N, look.right_N))


def _duplicates(
    images: Images, dataset: ImageDataset
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which test images equal one that is trained or validated on, and which an earlier one."""
    tested = digests_of(images.pixels_NHWC.numpy())
    seen = {
        digest
        for part in (dataset.train, dataset.validation)
        for digest in digests_of(part.pixels_NHWC.cpu().numpy())
    }
    seen_N = np.array([digest in seen for digest in tested])
    return seen_N, first_of_each(tested) != np.arange(len(tested))


def _without(
    images: Images, seen_N: NDArray[np.bool_], repeated_N: NDArray[np.bool_]
) -> tuple[Images, tuple[str, ...]]:
    """The test images that are no duplicates, and a note about the others."""
    kept_N = ~(seen_N | repeated_N)
    if kept_N.all():
        return images, ()
    if not kept_N.any():
        raise DataError(
            f"expected test images that the networks have not seen, got {len(kept_N):,} that are "
            "all among the training images: test on other images"
        )
    seen = int(seen_N.sum())
    duplicates = {
        "a training or validation image": seen,
        "another test image": int((~kept_N).sum()) - seen,
    }
    dropped = [f"{plural(n, 'duplicate')} of {what}" for what, n in duplicates.items() if n]
    note = f"left out of {plural(len(kept_N), 'test image')}: {' and '.join(dropped)}"
    kept = torch.from_numpy(kept_N)
    return Images(images.pixels_NHWC[kept], images.labels_N[kept]), (note,)


def _notes_on_duplicates(
    seen_N: NDArray[np.bool_], repeated_N: NDArray[np.bool_], right_N: NDArray[np.bool_]
) -> tuple[str, ...]:
    """What duplicates make of the test accuracy.

    Args:
        seen_N: which test images equal one that is trained or validated on.
        repeated_N: which equal an earlier test image.
        right_N: which the exported network classifies rightly.
    """
    notes = []
    tested = plural(len(seen_N), "test image")
    if seen_N.any():
        without = "none is left without them"
        if not seen_N.all():
            share = percent(float(right_N[~seen_N].mean()))
            without = (
                f"on the other {(~seen_N).sum():,} the accuracy of the exported network is "
                f"{share} (--drop-duplicates leaves the duplicates out)"
            )
        notes.append(
            f"{seen_N.sum():,} of {tested} duplicate a training or validation image, so the test "
            f"accuracy is partly memorization: {without}"
        )
    if repeated_N.any():
        notes.append(f"{repeated_N.sum():,} of {tested} duplicate another test image")
    return tuple(notes)


def exported_record(tested: Tested, classes: Sequence[str], seed: int) -> Exported:
    """How the exported network does, class by class, and where it is sure and wrong."""
    labels_N = tested.images.labels_N.numpy()
    probabilities_NK = tested.probabilities_NK
    predicted_N = probabilities_NK.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels_N, predicted_N), 1)
    share = float((labels_N == predicted_N).mean())
    return Exported(
        seed=seed,
        accuracy=wilson_interval(share, len(labels_N)),
        per_class=tuple(
            ClassResult(name=name, images=int(row.sum()), correct=int(row[i]))
            for i, (name, row) in enumerate(zip(classes, confusion, strict=True))
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        mistakes=tuple(
            Mistake(
                file=f"{MISTAKES}/{rank}.png",
                label=int(labels_N[i]),
                predicted=int(predicted_N[i]),
                probability=float(probabilities_NK[i].max()),
            )
            for rank, i in enumerate(_surest_mistakes(tested))
        ),
    )


def _surest_mistakes(tested: Tested) -> list[int]:
    """The numbers of the images that are classified wrongly with the highest probability."""
    surest_N = tested.probabilities_NK.max(axis=1)
    wrong_N = ~tested.right_N
    order = np.argsort(-np.where(wrong_N, surest_N, -1.0), kind="stable")
    return [int(i) for i in order[: min(_MISTAKES, int(wrong_N.sum()))]]


def write_pictures(look: Tested, mistakes: Sequence[Mistake], folder: Path) -> None:
    """Writes the images of the mistakes into the folder of the model, in place of earlier ones."""
    for old in (folder / MISTAKES).glob("*.png"):
        old.unlink()
    for i, mistake in zip(_surest_mistakes(look), mistakes, strict=True):
        pixels = look.images.pixels_NHWC[i].numpy()
        picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        whole = io.BytesIO()
        picture.save(whole, format="PNG")
        path = folder / mistake.file
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as file:
            file.write(whole.getbuffer())
