"""What tests of exported models share: a network that is not trained, and photos of all kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nas.architecture import Architecture, ImageInput
from nas.data.types import ImageDataset
from nas.export.int8 import Int8Network, quantize
from nas.export.spec import ModelSpec
from nas.export.writing import write_model
from nas.model import ResNet, build
from nas.training.loop import train
from tests.kits.training import CPU, make_config

SMALL = Architecture(
    blocks=(1, 1), channels=(4, 6), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4
)


def make_spec(
    architecture: Architecture = SMALL,
    *,
    shape: tuple[int, int, int] = (3, 8, 10),
    classes: tuple[str, ...] = ("cat", "dog", "ship"),
) -> ModelSpec:
    channels, height, width = shape
    return ModelSpec(
        architecture=architecture,
        input=ImageInput(channels=channels, height=height, width=width, classes=len(classes)),
        classes=classes,
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )


def make_network(spec: ModelSpec, seed: int = 0) -> ResNet:
    """A network with random weights, and norm statistics as training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    network = build(spec.architecture, spec.input, generator=generator)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.normal_(0, 0.2, generator=generator)
    return network.eval()


def trained_on(dataset: ImageDataset, *, epochs: int) -> tuple[ModelSpec, ResNet]:
    """A small network after a few epochs on a dataset, with what it reads and answers."""
    design = Architecture(
        blocks=(2, 1), channels=(8, 12), kernels=(3, 3), shortcut_kernels=(1, 1), pool=4
    )
    spec = ModelSpec(
        architecture=design,
        input=dataset.input,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )
    network = make_network(spec)
    train(network, dataset, make_config(epochs=epochs, batch_size=32), seed=0, device=CPU)
    return spec, network


def write_network(folder: Path, spec: ModelSpec, metrics: Mapping[str, Any] | None = None) -> None:
    """The files of an exported network that was not trained."""
    write_model(folder, make_network(spec), spec, metrics=metrics or {}, card="")


def write_photos(folder: Path) -> list[str]:
    """One image file of each kind that needs care, with a scene that differs everywhere."""
    rows, columns = np.mgrid[0:300, 0:420]
    scene = np.stack([rows, columns, (rows * columns) // 64], axis=2).astype(np.uint8)
    photo = Image.fromarray(scene)
    mask = Image.fromarray(np.tile(np.arange(420) // 2, (300, 1)).astype(np.uint8))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    see_through = photo.copy()
    see_through.putalpha(mask)
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.png": (photo, {}),
        "large.jpg": (photo, {}),
        "sideways.jpg": (photo, {"exif": sideways}),
        "gray.png": (photo.convert("L"), {}),
        "alpha.png": (see_through, {}),
        "gray-alpha.png": (see_through.convert("LA"), {}),
        "palette.gif": (photo.quantize(32), {"transparency": 3}),
        "ink.jpg": (photo.convert("CMYK"), {}),
        "black-and-white.png": (photo.convert("1"), {}),
        "tiny.png": (photo.resize((5, 3)), {}),
    }
    folder.mkdir(exist_ok=True)
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return [str(folder / name) for name in kinds]


def make_images(spec: ModelSpec, count: int, seed: int = 0) -> Tensor:
    """Random uint8 images, (N, C, H, W)."""
    shape = (count, spec.input.channels, spec.input.height, spec.input.width)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def make_int8(spec: ModelSpec) -> Int8Network:
    """A network with random weights in int8."""
    return quantize(make_network(spec), spec, make_images(spec, 32))


def int8_logits(network: Int8Network, images_NCHW: Tensor) -> NDArray[np.int8]:
    """The logits as a device puts them out, (N, K)."""
    logits = network.logits(images_NCHW).numpy() / network.output.scale
    return np.round(logits + network.output.zero_point).astype(np.int8)


def as_read(network: Int8Network, images_NCHW: Tensor) -> NDArray[np.int8]:
    """What a device reads of images, (N, H, W, C)."""
    return network.read(images_NCHW).permute(0, 2, 3, 1).contiguous().numpy()
