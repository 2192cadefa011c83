"""What is known of each dataset before anything is read; needs no torch and no NumPy."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nas.architecture import ImageInput

OWN_FOLDER = "folder"  # the dataset of a person's own images


class DataError(ValueError):
    """The data cannot be used as asked.

    The message is one line that says what was expected, what came and what to do.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """One dataset that can be asked for by name; an entry of `DATASETS` is all that declares it."""

    name: str  # on the command line
    title: str  # in text
    shape: tuple[int, int, int]  # channels, height and width
    classes: tuple[str, ...]  # in label order
    horizontal_flip: bool  # whether a mirrored image still shows its class
    test_images: int
    licence: str  # with its source
    torchvision: str | None = None  # its class: addresses, checksums and places of the files

    @property
    def input(self) -> ImageInput:
        """What a network for these images reads and answers."""
        return ImageInput.named(self.shape, self.classes)


def _names(words: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in words.split())


_DIGITS = tuple("0123456789")
_CIFAR10 = _names("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR100 = _names("""
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""")
_FASHION = _names("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot")

_KRIZHEVSKY = "no licence is stated by its authors (Krizhevsky 2009, University of Toronto)"

_ENTRIES = (
    DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        classes=_CIFAR10,
        horizontal_flip=True,
        test_images=10_000,
        licence=_KRIZHEVSKY,
        torchvision="CIFAR10",
    ),
    DatasetInfo(
        name="cifar100",
        title="CIFAR-100",
        shape=(3, 32, 32),
        classes=_CIFAR100,
        horizontal_flip=True,
        test_images=10_000,
        licence=_KRIZHEVSKY,
        torchvision="CIFAR100",
    ),
    DatasetInfo(
        name="svhn",
        title="SVHN",
        shape=(3, 32, 32),
        classes=_DIGITS,
        horizontal_flip=False,
        test_images=26_032,
        licence="for non-commercial use only (Netzer et al. 2011)",
        torchvision="SVHN",
    ),
    DatasetInfo(
        name="fashion-mnist",
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        classes=_FASHION,
        horizontal_flip=True,
        test_images=10_000,
        licence="MIT (Xiao et al. 2017, Zalando)",
        torchvision="FashionMNIST",
    ),
    DatasetInfo(
        name="mnist",
        title="MNIST",
        shape=(1, 28, 28),
        classes=_DIGITS,
        horizontal_flip=False,
        test_images=10_000,
        licence="CC BY-SA 3.0 (LeCun, Cortes and Burges)",
        torchvision="MNIST",
    ),
    DatasetInfo(
        name="digits",
        title="the bundled handwritten digits",
        shape=(1, 8, 8),
        classes=_DIGITS,
        horizontal_flip=False,
        test_images=359,
        licence="CC BY 4.0 (Alpaydin and Kaynak 1998, UCI repository; shipped with scikit-learn)",
    ),
)

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType({info.name: info for info in _ENTRIES})
"""The datasets of a fixed shape, by name; `folder` has the shape of the person's own images."""

DATASET_NAMES: tuple[str, ...] = ("auto", *DATASETS, OWN_FOLDER)
"""What may be asked for: `auto` is CIFAR-10, or `digits` where that cannot be had."""


def folder_name(folder: Path) -> str:
    """What a person calls an own folder, in letters that the name of a study may have.

    Accents are left out, and so is what has no such letters; without any it is ``folder``. A name
    that is a dataset's would be taken for that.
    """
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-.")[:80] or OWN_FOLDER
    return f"{name}-{OWN_FOLDER}" if name in DATASETS else name
