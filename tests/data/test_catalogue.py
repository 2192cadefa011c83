"""What is known of each dataset, held to torchvision and to the docs."""

import subprocess
import sys

from torchvision import datasets

from nas.architecture import ImageInput
from nas.data.catalogue import DATASET_NAMES, DATASETS
from tests.kits.places import ROOT


def test_catalogue_needs_no_heavy_import() -> None:
    code = (
        "import sys; from nas.data.catalogue import DATASETS; "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_catalogue_matches_torchvision() -> None:
    assert DATASET_NAMES[0] == "auto"
    assert DATASET_NAMES[-1] == "folder"
    assert len(DATASETS["cifar100"].classes) == len(set(DATASETS["cifar100"].classes)) == 100
    assert sorted(DATASETS["cifar100"].classes) == list(DATASETS["cifar100"].classes)
    assert list(DATASETS["fashion-mnist"].classes) == datasets.FashionMNIST.classes
    assert DATASETS["digits"].input == ImageInput(channels=1, height=8, width=8, classes=10)
    assert {name for name, info in DATASETS.items() if info.horizontal_flip} == {
        "cifar10",
        "cifar100",
        "fashion-mnist",
    }


def test_docs_name_every_dataset() -> None:
    text = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    assert {name for name in DATASETS if f"`{name}`" not in text} == set()
