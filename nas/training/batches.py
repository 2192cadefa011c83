"""Training batches made on the device: shuffled, cut, flipped, varied, normalized and mixed.

Shapes: N images, H x W pixels, C channels, K classes. Pixels stay uint8 until a batch needs them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.data.types import ImageDataset, Images
from nas.training.config import Augment, Border, TrainingConfig
from nas.training.trivial import DRAWS, trivial_augment


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and what they should be taken for."""

    images_NCHW: Tensor  # float32, normalized, in channels_last memory
    targets: Tensor  # labels (N), int64; or shares of classes (N, K), float32, of mixed images


class Normalize:
    """Pixels (N, H, W, C) uint8 -> (N, C, H, W) float32 in channels_last memory."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        std_C = torch.tensor(std, device=device)
        self._scale = 1 / (255 * std_C)
        self._shift = -torch.tensor(mean, device=device) / std_C

    def __call__(self, pixels_NHWC: Tensor) -> Tensor:
        """The normalized images."""
        return torch.addcmul(self._shift, pixels_NHWC, self._scale).permute(0, 3, 1, 2)


class TrainBatches:
    """The batches of one epoch after another; an epoch's depend on the seed and its number alone.

    Every image comes at most once in an epoch; what fills no batch is left out. Shuffle, crop and
    flip are one gather.

    Args:
        dataset: whose training part it is, resident on a device.
        config: the recipe.
        seed: of order and augmentation.
        values_at_once: pixel values that are prepared together, for several steps if they are so
            many; the batches are the same whatever it is.
    """

    def __init__(
        self, dataset: ImageDataset, config: TrainingConfig, *, seed: int, values_at_once: int = 0
    ) -> None:
        images = dataset.train
        self._config = config
        self._seed = seed
        self._labels_N = images.labels_N
        self._classes = dataset.input.classes
        self._device = images.pixels_NHWC.device
        self._generator = torch.Generator(device=self._device)
        self.normalize = Normalize(dataset.mean, dataset.std, self._device)
        self._height, self._width = dataset.input.height, dataset.input.width
        padding = config.crop_padding if Augment.CROP in config.augment else 0
        self._pixels_NHWC = _bordered_once(images, padding, config.border)
        self._flipped_first_N = torch.randint(
            2, (len(images),), generator=self._generator.manual_seed(seed), device=self._device
        )
        self.batch_size = min(config.batch_size, len(images))
        self.per_epoch = len(images) // self.batch_size
        values = self.batch_size * images.pixels_NHWC[0].numel()
        self._steps_at_once = min(max(1, values_at_once // values), self.per_epoch)
        self._ranges = self._make_ranges(padding)

    def _make_ranges(self, padding: int) -> Mapping[str, int]:
        """What is drawn for each image, in this order: a number from 0 to below the value."""
        augment = self._config.augment
        ranges = {"row": 2 * padding + 1}
        if Augment.FLIP in augment:
            ranges["flip"] = 2
        ranges["column"] = 2 * padding + 1
        if Augment.TRIVIAL in augment:
            ranges |= zip(("operation", "strength", "sign"), DRAWS, strict=True)
        if Augment.CUTOUT in augment:
            ranges |= {"cutout_row": self._height, "cutout_column": self._width}
        return ranges

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1."""
        entropy = (self._seed, number)
        host = np.random.default_rng(entropy)  # decides per batch, without asking the device
        self._generator.manual_seed(int(host.integers(2**63)))
        order_N = torch.randperm(
            len(self._labels_N), generator=self._generator, device=self._device
        )
        mixes = {Augment.MIXUP: self._mixup, Augment.CUTMIX: self._cutmix}
        mix = next((mixes[a] for a in self._config.augment if a in mixes), None)
        for first in range(0, self.per_epoch, self._steps_at_once):
            steps = min(self._steps_at_once, self.per_epoch - first)
            chosen_N = order_N[first * self.batch_size : (first + steps) * self.batch_size]
            drawn, others = self._draw(steps, others=mix is not None)
            images_NCHW = self._prepare(chosen_N, drawn, number)
            labels_N = self._labels_N[chosen_N]
            for step in range(steps):
                own = slice(step * self.batch_size, (step + 1) * self.batch_size)
                batch = Batch(images_NCHW[own], labels_N[own])
                yield mix(batch, others[step], host) if mix else batch

    def _draw(self, steps: int, *, others: bool) -> tuple[Mapping[str, Tensor], list[Tensor]]:
        """Random numbers for the images of some steps, and who is mixed with whom in each.

        They are drawn step by step, so that they do not depend on how many steps there are.
        """
        shape = (len(self._ranges), steps, self.batch_size)
        drawn = torch.empty(shape, dtype=torch.int64, device=self._device)
        permutations = []
        for step in range(steps):
            for row, high in zip(drawn, self._ranges.values(), strict=True):
                row[step].random_(0, high, generator=self._generator)
            if others:
                permutations.append(
                    torch.randperm(self.batch_size, generator=self._generator, device=self._device)
                )
        return dict(zip(self._ranges, drawn.flatten(1), strict=True)), permutations

    def _prepare(self, chosen_N: Tensor, drawn: Mapping[str, Tensor], epoch: int) -> Tensor:
        """The chosen images, cut, flipped, varied and normalized."""
        rows_NH = torch.arange(self._height, device=self._device) + drawn["row"][:, None]
        pixels_NHWC = self._pixels_NHWC[
            chosen_N[:, None, None],
            rows_NH[:, :, None],
            self._columns(chosen_N, drawn, epoch)[:, None, :],
        ]
        if "operation" in drawn:
            pixels_NHWC = trivial_augment(
                pixels_NHWC, drawn["operation"], drawn["strength"], drawn["sign"]
            )
        images_NCHW = self.normalize(pixels_NHWC)
        if "cutout_row" in drawn:
            images_NCHW = images_NCHW * self._cutout_mask(drawn)
        return images_NCHW

    def _columns(self, chosen_N: Tensor, drawn: Mapping[str, Tensor], epoch: int) -> Tensor:
        line_W = torch.arange(self._width, device=self._device)
        if "flip" in drawn:
            flipped_N = drawn["flip"].bool()
        elif Augment.ALTERNATING_FLIP in self._config.augment:
            flipped_N = ((self._flipped_first_N[chosen_N] + epoch) % 2).bool()
        else:
            return line_W + drawn["column"][:, None]
        columns_NW = torch.where(flipped_N[:, None], line_W.flip(0), line_W)
        return columns_NW + drawn["column"][:, None]

    def _cutout_mask(self, drawn: Mapping[str, Tensor]) -> Tensor:
        """(N, 1, H, W): 0 in a square around a random pixel, 1 elsewhere.

        DeVries and Taylor 2017 (arXiv:1708.04552): the square may reach over the border, and what
        it covers becomes the mean colour.
        """
        size = self._config.cutout_size
        inside = []
        for length, name in ((self._height, "cutout_row"), (self._width, "cutout_column")):
            first_N1 = drawn[name][:, None] - size // 2
            line = torch.arange(length, device=self._device)
            inside.append((line >= first_N1) & (line < first_N1 + size))
        rows_NH, columns_NW = inside
        return ~(rows_NH[:, None, :, None] & columns_NW[:, None, None, :])

    def _mixup(self, batch: Batch, other_N: Tensor, host: np.random.Generator) -> Batch:
        """Zhang et al. 2018 (arXiv:1710.09412): each image blended with another of its batch."""
        share = float(host.beta(self._config.mix_alpha, self._config.mix_alpha))
        images_NCHW = torch.lerp(batch.images_NCHW[other_N], batch.images_NCHW, share)
        return Batch(images_NCHW, self._mixed_targets(batch.targets, other_N, share))

    def _cutmix(self, batch: Batch, other_N: Tensor, host: np.random.Generator) -> Batch:
        """Yun et al. 2019 (arXiv:1905.04899): a box of each image comes from another."""
        share = float(host.beta(self._config.mix_alpha, self._config.mix_alpha))
        cut = math.sqrt(1 - share)
        spans = []
        for length in (self._height, self._width):
            center = int(host.integers(length))
            half = int(length * cut) // 2
            spans.append(slice(max(0, center - half), min(length, center + half)))
        rows, columns = spans
        images_NCHW = batch.images_NCHW.clone(memory_format=torch.preserve_format)
        images_NCHW[:, :, rows, columns] = batch.images_NCHW[other_N][:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        kept = 1 - area / (self._height * self._width)
        return Batch(images_NCHW, self._mixed_targets(batch.targets, other_N, kept))

    def _mixed_targets(self, labels_N: Tensor, other_N: Tensor, share: float) -> Tensor:
        targets_NK = F.one_hot(labels_N, self._classes).float()
        return torch.lerp(targets_NK[other_N], targets_NK, share)


# Of each training part the last bordered images: the runs of a search share them.
_kept: WeakKeyDictionary[Images, tuple[int, Border, Tensor]] = WeakKeyDictionary()


def _bordered_once(images: Images, padding: int, border: Border) -> Tensor:
    """`bordered`, made when it is not the last one."""
    kept = _kept.get(images)
    if kept is None or kept[:2] != (padding, border):
        pixels_NHWC = bordered(images.pixels_NHWC, padding, border)
        _kept[images] = kept = (padding, border, pixels_NHWC)
    return kept[2]


def bordered(pixels_NHWC: Tensor, padding: int, border: Border) -> Tensor:
    """The images with a border, (N, H + 2 padding, W + 2 padding, C)."""
    if border is Border.ZERO:
        return F.pad(pixels_NHWC, [0, 0] + [padding] * 4)
    for dim in (1, 2):
        size = pixels_NHWC.shape[dim]
        line = torch.arange(-padding, size + padding, device=pixels_NHWC.device)
        if size > 1:  # to and fro, as often as the border needs
            line = line.remainder(2 * (size - 1))
            line = torch.where(line >= size, 2 * (size - 1) - line, line)
        else:
            line = torch.zeros_like(line)
        pixels_NHWC = pixels_NHWC.index_select(dim, line)
    return pixels_NHWC
