"""What tests of training share: small datasets, recipes and networks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.architecture import Architecture, ImageInput
from nas.data.types import ImageDataset, Images
from nas.model import FusedNorm, ResNet, build
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
    pixels_NHWC: Tensor | None = None,
) -> ImageDataset:
    """Random images whose class cannot be seen, only memorized; or those pixels to train on."""
    generator = torch.Generator().manual_seed(1)

    def images(count: int) -> Images:
        shape = (count, channels, height, width)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return Images(pixels.permute(0, 2, 3, 1).contiguous(), torch.arange(count) % classes)

    training = images(train_images)
    if pixels_NHWC is not None:
        training = Images(pixels_NHWC, training.labels_N)
    scaled = channels_first(training.pixels_NHWC).contiguous().float() / 255
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


def channels_first(pixels_NHWC: Tensor) -> Tensor:
    """The images as torchvision takes them, (N, C, H, W)."""
    return pixels_NHWC.permute(0, 3, 1, 2)


def normalized(pixels_NHWC: Tensor, dataset: ImageDataset) -> Tensor:
    """The images as a network reads them, (N, C, H, W)."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
    return (channels_first(pixels_NHWC) / 255 - mean) / std


def pixels_of(images_NCHW: Tensor, dataset: ImageDataset) -> Tensor:
    """The uint8 pixels that normalized images were made of, (N, C, H, W)."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
    return ((images_NCHW * std + mean) * 255).round().byte()


def norm_that(adds: bool) -> FusedNorm:
    """Norm, addition and ReLU by torch's own functions, with a planted fault or without."""

    def norm(
        x_NCHW: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        running_mean_C: Tensor,
        running_var_C: Tensor,
        *,
        added_NCHW: Tensor | None,
        relu: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        out = F.batch_norm(x_NCHW, running_mean_C, running_var_C, training=True, momentum=momentum)
        out = out * weight_C[:, None, None] + bias_C[:, None, None]
        out = out + added_NCHW if added_NCHW is not None and adds else out
        return out.relu() if relu else out

    return norm
