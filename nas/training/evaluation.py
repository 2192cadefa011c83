"""Logits, loss and accuracy of a network on a set of images.

Shapes: N images, H x W pixels, C channels, K classes.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from nas.data.types import ImageDataset, Images
from nas.runtime import signals
from nas.runtime.arithmetic import arithmetic
from nas.runtime.precision import Precision
from nas.training.batches import Normalize

_BATCH = 64  # images: a CPU is fastest while a batch's maps stay in its cache
_PADDED = 128  # images on a GPU, where each new shape costs a search for kernels


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a network does on a set of images."""

    loss: float  # mean cross-entropy, natural logarithm
    accuracy: float  # 0..1

    @classmethod
    def of(cls, logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Self:
        """From its logits for them."""
        right_N = logits_NK.argmax(dim=1) == labels_N
        loss = F.cross_entropy(logits_NK, labels_N)
        return cls(loss.item(), right_N.float().mean().item())


def evaluate(model: nn.Module, images: Images, dataset: ImageDataset) -> Evaluation:
    """Loss and accuracy of the model on images, as `predict` reads them."""
    return Evaluation.of(predict(model, images, dataset), images.labels_N)


def predict(
    model: nn.Module,
    images: Images,
    dataset: ImageDataset,
    *,
    normalize: Normalize | None = None,
    batch_size: int | None = None,
    precision: Precision = Precision.FLOAT32,
) -> torch.Tensor:
    """The model's logits for images, (N, K) in float32 on their device; normalized likewise.

    Args:
        model: on the device of the images.
        images: N of them.
        dataset: whose training part says how to normalize.
        normalize: that of the dataset, where it is there: a new one is copied from the host.
        batch_size: images at a time; the last batch is filled up to it, so that the model sees one
            shape only. None: what suits the device.
        precision: float32, the default, is what whoever loads the exported network computes in.
    """
    device = images.pixels_NHWC.device
    normalize = normalize or Normalize(dataset.mean, dataset.std, device)
    if batch_size is None and device.type == "cuda":
        batch_size = _PADDED
    model.eval()
    logits = []
    with torch.inference_mode(), arithmetic(device, precision):
        for pixels_NHWC in torch.split(images.pixels_NHWC, batch_size or _BATCH):
            signals.check()
            missing = (batch_size or 0) - len(pixels_NHWC)
            filled = F.pad(pixels_NHWC, (0,) * 7 + (missing,)) if missing > 0 else pixels_NHWC
            logits.append(model(normalize(filled)).float()[: len(pixels_NHWC)])
    return torch.cat(logits)
