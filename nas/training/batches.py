"""Training batches made on the device: shuffled, cut, flipped, varied, normalized and mixed.

Shapes: N images, H x W pixels, C channels, K classes. Pixels stay uint8 until a batch needs them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.data.types import ImageDataset
from nas.training.config import Augment, Border, TrainingConfig
from nas.training.trivial import trivial_augment


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
    """

    def __init__(self, dataset: ImageDataset, config: TrainingConfig, *, seed: int) -> None:
        images = dataset.train
        self._config = config
        self._seed = seed
        self._labels_N = images.labels_N
        self._classes = dataset.input.classes
        self._device = images.pixels_NCHW.device
        self._generator = torch.Generator(device=self._device)
        self._normalize = Normalize(dataset.mean, dataset.std, self._device)
        self._height, self._width = dataset.input.height, dataset.input.width
        self._padding = config.crop_padding if Augment.CROP in config.augment else 0
        self._pixels_NHWC = (
            bordered(images.pixels_NCHW, self._padding, config.border)
            .permute(0, 2, 3, 1)
            .contiguous()
        )
        self._flipped_first_N = torch.randint(
            2, (len(images),), generator=self._generator.manual_seed(seed), device=self._device
        )
        self.batch_size = min(config.batch_size, len(images))
        self.per_epoch = len(images) // self.batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1."""
        entropy = (self._seed, number)
        host = np.random.default_rng(entropy)  # decides per batch, without asking the device
        self._generator.manual_seed(int(host.integers(2**63)))
        order_N = torch.randperm(
            len(self._labels_N), generator=self._generator, device=self._device
        )
        for step in range(self.per_epoch):
            chosen_N = order_N[step * self.batch_size : (step + 1) * self.batch_size]
            yield self._batch(chosen_N, number, host)

    def _batch(self, chosen_N: Tensor, epoch: int, host: np.random.Generator) -> Batch:
        augment = self._config.augment
        pixels_NHWC = self._pixels_NHWC[
            chosen_N[:, None, None],
            self._rows()[:, :, None],
            self._columns(chosen_N, epoch)[:, None, :],
        ]
        if Augment.TRIVIAL in augment:
            pixels_NHWC = trivial_augment(pixels_NHWC, self._generator)
        images_NCHW = self._normalize(pixels_NHWC)
        labels_N = self._labels_N[chosen_N]
        if Augment.CUTOUT in augment:
            images_NCHW = images_NCHW * self._cutout_mask()
        if Augment.MIXUP in augment:
            return self._mixup(images_NCHW, labels_N, host)
        if Augment.CUTMIX in augment:
            return self._cutmix(images_NCHW, labels_N, host)
        return Batch(images_NCHW, labels_N)

    def _rows(self) -> Tensor:
        line_H = torch.arange(self._height, device=self._device)
        return line_H + self._shifts()

    def _columns(self, chosen_N: Tensor, epoch: int) -> Tensor:
        line_W = torch.arange(self._width, device=self._device)
        if Augment.FLIP in self._config.augment:
            flipped_N = self._random(2)
        elif Augment.ALTERNATING_FLIP in self._config.augment:
            flipped_N = (self._flipped_first_N[chosen_N] + epoch)[:, None] % 2
        else:
            return line_W + self._shifts()
        return torch.where(flipped_N.bool(), line_W.flip(0), line_W) + self._shifts()

    def _shifts(self) -> Tensor:
        return self._random(2 * self._padding + 1)

    def _random(self, high: int) -> Tensor:
        shape = (self.batch_size, 1)
        return torch.randint(high, shape, generator=self._generator, device=self._device)

    def _cutout_mask(self) -> Tensor:
        """(N, 1, H, W): 0 in a square around a random pixel, 1 elsewhere.

        DeVries and Taylor 2017 (arXiv:1708.04552): the square may reach over the border, and what
        it covers becomes the mean colour.
        """
        size = self._config.cutout_size
        inside = []
        for length in (self._height, self._width):
            first_N1 = self._random(length) - size // 2
            line = torch.arange(length, device=self._device)
            inside.append((line >= first_N1) & (line < first_N1 + size))
        rows_NH, columns_NW = inside
        return ~(rows_NH[:, None, :, None] & columns_NW[:, None, None, :])

    def _mixup(self, images_NCHW: Tensor, labels_N: Tensor, host: np.random.Generator) -> Batch:
        """Zhang et al. 2018 (arXiv:1710.09412): each image blended with another of its batch."""
        share = float(host.beta(self._config.mix_alpha, self._config.mix_alpha))
        other_N = self._permutation()
        images_NCHW = torch.lerp(images_NCHW[other_N], images_NCHW, share)
        return Batch(images_NCHW, self._mixed_targets(labels_N, other_N, share))

    def _cutmix(self, images_NCHW: Tensor, labels_N: Tensor, host: np.random.Generator) -> Batch:
        """Yun et al. 2019 (arXiv:1905.04899): a box of each image comes from another."""
        share = float(host.beta(self._config.mix_alpha, self._config.mix_alpha))
        cut = math.sqrt(1 - share)
        spans = []
        for length in (self._height, self._width):
            center = int(host.integers(length))
            half = int(length * cut) // 2
            spans.append(slice(max(0, center - half), min(length, center + half)))
        rows, columns = spans
        other_N = self._permutation()
        images_NCHW = images_NCHW.clone(memory_format=torch.preserve_format)
        images_NCHW[:, :, rows, columns] = images_NCHW[other_N][:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        kept = 1 - area / (self._height * self._width)
        return Batch(images_NCHW, self._mixed_targets(labels_N, other_N, kept))

    def _permutation(self) -> Tensor:
        return torch.randperm(self.batch_size, generator=self._generator, device=self._device)

    def _mixed_targets(self, labels_N: Tensor, other_N: Tensor, share: float) -> Tensor:
        targets_NK = F.one_hot(labels_N, self._classes).float()
        return torch.lerp(targets_NK[other_N], targets_NK, share)


def bordered(pixels_NCHW: Tensor, padding: int, border: Border) -> Tensor:
    """The images with a border, (N, C, H + 2 padding, W + 2 padding)."""
    if border is Border.ZERO:
        return F.pad(pixels_NCHW, [padding] * 4)
    for dim in (2, 3):
        size = pixels_NCHW.shape[dim]
        line = torch.arange(-padding, size + padding, device=pixels_NCHW.device)
        if size > 1:  # to and fro, as often as the border needs
            line = line.remainder(2 * (size - 1))
            line = torch.where(line >= size, 2 * (size - 1) - line, line)
        else:
            line = torch.zeros_like(line)
        pixels_NCHW = pixels_NCHW.index_select(dim, line)
    return pixels_NCHW
