"""What is known of each dataset before anything is read; needs no torch and no NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nas.architecture import ImageInput


class DataError(ValueError):
    """The data cannot be used as asked.

    The message is one line that says what was expected, what came and what to do.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """One dataset that can be asked for by name."""

    name: str  # on the command line
    title: str  # in text
    input: ImageInput
    classes: tuple[str, ...]  # in label order
    horizontal_flip: bool  # whether a mirrored image still shows its class
    train_images: int  # with the validation part
    test_images: int


def _info(
    name: str,
    title: str,
    shape: tuple[int, int, int],
    classes: str,
    *,
    flip: bool,
    images: tuple[int, int],
) -> DatasetInfo:
    names = tuple(name.replace("_", " ") for name in classes.split())
    channels, height, width = shape
    return DatasetInfo(
        name=name,
        title=title,
        input=ImageInput(channels=channels, height=height, width=width, classes=len(names)),
        classes=names,
        horizontal_flip=flip,
        train_images=images[0],
        test_images=images[1],
    )


_DIGITS = "0 1 2 3 4 5 6 7 8 9"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot"

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            _info("cifar10", "CIFAR-10", (3, 32, 32), _CIFAR10, flip=True, images=(50_000, 10_000)),
            _info(
                "cifar100", "CIFAR-100", (3, 32, 32), _CIFAR100, flip=True, images=(50_000, 10_000)
            ),
            _info("svhn", "SVHN", (3, 32, 32), _DIGITS, flip=False, images=(73_257, 26_032)),
            _info(
                "fashion-mnist",
                "Fashion-MNIST",
                (1, 28, 28),
                _FASHION,
                flip=True,
                images=(60_000, 10_000),
            ),
            _info("mnist", "MNIST", (1, 28, 28), _DIGITS, flip=False, images=(60_000, 10_000)),
            _info(
                "digits",
                "the bundled handwritten digits",
                (1, 8, 8),
                _DIGITS,
                flip=False,
                images=(1_438, 359),
            ),
        )
    }
)
"""The datasets of a fixed shape, by name; `folder` has the shape of the person's own images."""

DATASET_NAMES: tuple[str, ...] = ("auto", *DATASETS, "folder")
"""What may be asked for: `auto` is CIFAR-10, or `digits` where that cannot be had."""
