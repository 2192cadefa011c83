"""Datasets by name: how they are split, thinned, scaled and moved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.data.catalogue import DATASETS, DataError
from nas.data.loading import load_dataset, load_test
from nas.data.types import Images
from nas.errors import RequestError
from tests.kits.datasets import data_error, rows, same
from tests.kits.images import write_ants_and_bees


def test_digits_are_split_into_disjoint_parts_that_are_everything(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_dataset("digits", tmp_path / "missing", split_seed=3)
    test = load_test("digits", tmp_path / "missing", split_seed=3).images
    info = DATASETS["digits"]
    assert data.input == info.input
    assert len(data.train) + len(data.validation) == 1_438
    assert data.test_images == len(test) == info.test_images
    parts = [rows(data.train), rows(data.validation), rows(test)]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    every = {
        np.rint(image * (255 / 16)).astype(np.uint8).tobytes() for image in load_digits().images
    }
    assert set().union(*parts) == every
    per_class = torch.bincount(data.validation.labels_N)
    assert per_class.min() >= 27
    assert per_class.max() <= 30
    assert not (tmp_path / "missing").exists()


def test_a_split_follows_its_seed_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = load_dataset("digits", tmp_path)
    torch.manual_seed(2)
    np.random.seed(2)
    assert same(first, load_dataset("digits", tmp_path))
    assert not same(first, load_dataset("digits", tmp_path, split_seed=1))


def test_a_subset_thins_the_training_part_only(tmp_path: Path) -> None:
    whole = load_dataset("digits", tmp_path)
    part = load_dataset("digits", tmp_path, subset=0.1)
    assert rows(part.train) < rows(whole.train)
    assert torch.equal(part.validation.pixels_NHWC, whole.validation.pixels_NHWC)
    assert (part.mean, part.std, part.digest) == (whole.mean, whole.std, whole.digest)
    shares = torch.bincount(part.train.labels_N) / torch.bincount(whole.train.labels_N)
    assert bool(((shares > 0.09) & (shares < 0.11)).all())
    tiny = load_dataset("digits", tmp_path, subset=1e-9)
    assert torch.bincount(tiny.train.labels_N).tolist() == [1] * 10


def test_mean_and_std_are_those_of_the_training_part(tmp_path: Path) -> None:
    data = load_dataset("folder", write_ants_and_bees(tmp_path))
    scaled = data.train.pixels_NHWC.double() / 255
    assert data.mean == pytest.approx(scaled.mean(dim=(0, 1, 2)).tolist())
    assert data.std == pytest.approx(scaled.std(dim=(0, 1, 2), correction=0).tolist())


def test_a_dataset_moves_to_a_device(tmp_path: Path) -> None:
    moved = load_dataset("digits", tmp_path).to("meta")
    assert moved.train.pixels_NHWC.device.type == moved.validation.labels_N.device.type == "meta"


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    assert "got 'cifar'" in data_error(load_dataset, "cifar", tmp_path)
    for subset in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(RequestError, match="subset must be above 0"):
            load_dataset("digits", tmp_path, subset=subset)
    with pytest.raises(RequestError, match="split_seed must be"):
        load_dataset("digits", tmp_path, split_seed=-1)
    with pytest.raises(DataError, match="'auto'"):
        load_test("auto", tmp_path)
    with pytest.raises(ValueError, match="uint8"):
        Images(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64))
