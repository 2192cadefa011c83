"""Chance and noise of a study: what guessing reaches, and what its images cannot show."""

from dataclasses import replace

import pytest
import torch

from nas.data.types import Images
from nas.study.chance import at_chance, chance_of, guessing_in_words, noise_in_words
from nas.study.records import StudyRecord
from tests.kits.records import SETTINGS, study, trial


def of_images(images: int, *accuracies: float, chance: float | None = None) -> StudyRecord:
    record = study(*(trial(n, accuracy=accuracy) for n, accuracy in enumerate(accuracies)))
    searches = () if chance is None else ({"chance": chance},)
    return replace(record, settings=replace(SETTINGS, validation_images=images), searches=searches)


def test_chance_is_the_largest_class_where_a_search_has_noted_it() -> None:
    labels_N = torch.tensor([0, 1, 1, 2, 1])
    images = Images(torch.zeros(5, 2, 2, 1, dtype=torch.uint8), labels_N)
    assert images.largest_share == 0.6
    assert chance_of(of_images(30)) == 0.1  # ten classes
    assert chance_of(of_images(30, chance=0.6)) == 0.6


@pytest.mark.parametrize(
    ("images", "accuracy", "guessed"),
    [(5_000, 0.1, True), (5_000, 0.12, False), (30, 0.2, True), (30, 0.3, False), (0, 0.1, False)],
)
def test_a_trial_is_at_chance_within_its_interval(
    images: int, accuracy: float, guessed: bool
) -> None:
    record = of_images(images, accuracy)
    assert at_chance(record, record.trials[0]) is guessed
    unmeasured = replace(record.trials[0], val_accuracy=None)
    assert not at_chance(record, unmeasured)


def test_designs_at_chance_are_named() -> None:
    said = guessing_in_words(of_images(30, 0.9, 0.2, 0.1, chance=0.25))
    assert said == "Not shown to be better than guessing (25%): trials 1, 2."
    assert guessing_in_words(of_images(30, 0.9)) is None
    many = guessing_in_words(of_images(30, *[0.1] * 30))
    assert many is not None
    assert many.endswith(" 18, 19 and 10 more.")


def test_noise_is_told_where_it_matters() -> None:
    said = noise_in_words(of_images(30, chance=1 / 3))
    assert said == (
        "30 validation images: differences under 23 points at an accuracy of 90.0% and 27 points "
        "at an accuracy of 50.0% cannot be seen; chance is 33%"
    )
    known = noise_in_words(of_images(287, 0.95, 0.5))
    assert known is not None
    assert "at an accuracy of 95.0% cannot be seen; chance is 10%" in known
    assert noise_in_words(of_images(5_000)) is None
    assert noise_in_words(of_images(0)) is None
