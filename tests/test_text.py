"""A count of one is followed by a singular, whatever prints it."""

import dataclasses
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.commands import main
from nas.data.decode import broken_in_words
from nas.report.progress import progress_table
from nas.text import about, duration, duration_range, plural, shortened
from tests.kits.places import STUDIES
from tests.kits.studies import TINY_SPACE

NOUNS = """
    architecture channel curve design epoch file folder image input label layer model network
    package picture proposal row run search seed stage study test trial worker parameter mult-add
"""
PLURALS = "|".join(["classes", *(plural(2, noun)[2:] for noun in NOUNS.split())])
WRONG = re.compile(rf"(?<![\d.,x/-])1 (?:\w+ )?(?:{PLURALS})\b(?! of)")


def test_the_pattern_finds_what_it_is_for() -> None:
    for text in ("1 files", "in 1 epochs", "1 test images", "1 mult-adds", "1 classes"):
        assert WRONG.search(text), text
    for text in ("1 file", "11 files", "0.1 epochs", "1,001 images", "2.1 parameters", "1 epoch"):
        assert not WRONG.search(text), text


def test_commands_on_a_study_of_one_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY_SPACE)
    search = "search --budget 5M --dataset digits --epochs 1 --trials 1 --subset 0.2 --seed 1"
    for line, status in (
        (f"{search} --space tiny.toml", 0),
        (f"{search} --space tiny.toml", 0),
        ("studies", 0),
        ("doctor --study digits-5M", 0),
        ("train --study digits-5M --epochs 1", 0),
        ("final --study digits-5M --top 1 --seeds 1 --epochs 1 --on train+validation", 0),
        ("report --study digits-5M", 0),
        ("count --blocks 1 --channels 1 --pool 8 --image 1x8x8 --classes 1 --budget 1", 1),
        ("count --blocks 1 --channels 1 --pool 8 --image 1x8x8 --classes 1 --max-mult-adds 1", 1),
    ):
        assert main(line.split()) == status, capsys.readouterr().err
        captured = capsys.readouterr()
        assert not WRONG.findall(captured.out + captured.err), line
    page = re.sub(r"(?s)<(style|script).*?</\1>", "", Path("reports/digits-5M.html").read_text())
    assert not WRONG.findall(re.sub(r"<[^>]*>", " ", page))
    card = Path("studies/digits-5M/final/README.md").read_text()
    assert not WRONG.findall(card)


def test_files_that_are_no_images() -> None:
    one = broken_in_words(["a.png"], {0: "empty"})
    assert one == "1 of 1 file that is not a readable image: a.png (empty)"
    two = broken_in_words(["a.png", "b.png"], {1: "empty"})
    assert two == "1 of 2 files that are not readable images: b.png (empty)"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (1, 3, "1 to 3 s"),
        (12, 33, "10 to 35 s"),
        (50, 200, "50 s to 3 min"),
        (95, 170, "2 to 3 min"),
        (840, 1320, "14 to 22 min"),
        (3000, 9000, "50 min to 2 h"),
        (200, 205, "3 min"),
        (100_000, 400_000, "28 h to 5 days"),
        (0, 0, "0 s"),
        (0.2, 0.9, "up to 1 s"),
        (2, 12, "up to 10 s"),
    ],
)
def test_a_range_of_time_has_two_ends_in_round_numbers(low: float, high: float, shown: str) -> None:
    assert duration_range(low, high) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (970, "970"), (11_698, "11.7 k"), (999_999, "1.00 M"), (4_922_826, "4.92 M")],
)
def test_a_count_is_shown_in_three_digits(value: int, shown: str) -> None:
    assert about(value) == shown


@given(st.integers(1_000, 10**14))
def test_a_count_of_thousands_has_three_digits(value: int) -> None:
    number, unit = about(value).split()
    assert len(number.replace(".", "")) == 3
    shown = float(number) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]
    assert shown == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(("value", "shown"), [(9_996, "10.0 k"), (99_960, "100 k")])
def test_a_count_that_rounds_up_has_no_digit_more(value: int, shown: str) -> None:
    assert about(value) == shown


@given(st.text(max_size=40), st.integers(0, 30))
def test_a_text_that_is_too_long_loses_its_end(text: str, width: int) -> None:
    shown = shortened(text, width)
    assert len(shown) <= width
    assert shown == text or shown.endswith("..."[:width])


def test_no_duration_is_negative() -> None:
    assert duration(-3600.1) == "0.0 s"


def test_a_clock_that_was_set_back_makes_no_time_negative() -> None:
    study = nas.read_study(nas.StudyLocation.at("digits-example", studies_dir=STUDIES))
    trial = study.ranking[0]
    assert trial.started is not None
    early = trial.started - timedelta(seconds=3600.1)
    alone = dataclasses.replace(study, trials=(dataclasses.replace(trial, finished=early),))
    assert progress_table(alone)["elapsed"].tolist() == [0.0]
