"""What tests of training share: small datasets, recipes and networks."""

import torch
from torch import Tensor

from nas.architecture import Architecture, ImageInput
from nas.data.types import ImageDataset, Images
from nas.model import ResNet, build
from nas.training.config import TrainingConfig

CPU = torch.device("cpu")
TINY = Architecture(blocks=(1, 1), channels=(8, 8), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4)


def make_dataset(
    *,
    train_images: int = 64,
    channels: int = 3,
    height: int = 8,
    width: int = 8,
    classes: int = 4,
    pixels_NCHW: Tensor | None = None,
) -> ImageDataset:
    """Random images whose class cannot be seen, only memorized; or those pixels to train on."""
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> Images:
        shape = (count, channels, height, width)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return Images(pixels, torch.arange(count) % classes)

    training = images(train_images)
    if pixels_NCHW is not None:
        training = Images(pixels_NCHW, training.labels_N)
    scaled = training.pixels_NCHW.float() / 255
    return ImageDataset(
        name="random",
        input=ImageInput(channels=channels, height=height, width=width, classes=classes),
        classes=tuple(f"class {i}" for i in range(classes)),
        train=training,
        validation=images(24),
        test_images=0,
        mean=tuple(scaled.mean(dim=(0, 2, 3)).tolist()),
        std=tuple(scaled.std(dim=(0, 2, 3)).tolist()),
        horizontal_flip=True,
        digest="0" * 16,
        subset=1.0,
        split_seed=0,
    )


def make_config(**changes: object) -> TrainingConfig:
    plain: dict[str, object] = {
        "epochs": 2,
        "batch_size": 16,
        "lr": 0.1,
        "label_smoothing": 0.0,
    }
    return TrainingConfig(**{**plain, **changes})  # type: ignore[arg-type]  # checked by itself


def make_model(dataset: ImageDataset, seed: int = 0) -> ResNet:
    return build(TINY, dataset.input, generator=torch.Generator().manual_seed(seed))


def normalized(pixels_NCHW: Tensor, dataset: ImageDataset) -> Tensor:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
    return (pixels_NCHW / 255 - mean) / std


def pixels_of(images_NCHW: Tensor, dataset: ImageDataset) -> Tensor:
    """The uint8 pixels that normalized images were made of."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
    return ((images_NCHW * std + mean) * 255).round().byte()
