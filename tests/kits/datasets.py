"""What a dataset holds, and what is said where it cannot be read."""

from collections.abc import Callable

import pytest
import torch

from nas.data.catalogue import DataError
from nas.data.types import ImageDataset, Images
from tests.kits.training import channels_first


def rows(images: Images) -> set[bytes]:
    """The bytes of each image, channel after channel as in CIFAR's own files."""
    return {bytes(row.numpy().tobytes()) for row in channels_first(images.pixels_NHWC)}


def same(a: ImageDataset, b: ImageDataset) -> bool:
    """Whether their images are the same, in the same order."""
    return a.digest == b.digest and all(
        torch.equal(x.pixels_NHWC, y.pixels_NHWC) and torch.equal(x.labels_N, y.labels_N)
        for x, y in ((a.train, b.train), (a.validation, b.validation))
    )


def data_error(read: Callable[..., object], *arguments: object, **options: object) -> str:
    """The one line that is said where images cannot be read."""
    with pytest.raises(DataError) as caught:
        read(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
