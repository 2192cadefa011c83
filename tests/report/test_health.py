"""The health of a search: each finding of a study made for it, and none of the example study."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from markupsafe import escape

from nas.architecture import Architecture
from nas.counting import count
from nas.dashboard.notes import study_note
from nas.report.choices import importances_in_words
from nas.report.health import Finding, Level, health
from nas.report.page import render
from nas.report.tested import last_final
from nas.report.trials import ties
from nas.space import Limits, default_space
from nas.statistics import visible_difference
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import TIME_UP, Outcome, StudyRecord
from nas.templates import text
from tests.kits.records import IMAGE, SETTINGS, studies, study, trial

SPACE = default_space(IMAGE)


def width(design: Architecture) -> float:
    """An accuracy that the design alone decides."""
    return 0.5 + 0.04 * math.log(count(design, IMAGE).parameters) / math.log(2) / 2


def searched(
    accuracy: Callable[[Architecture], float],
    designs: int = 40,
    change: Callable[[Architecture], Architecture] = lambda design: design,
) -> StudyRecord:
    """A study of random designs, each trained to the end."""
    rng = random.Random(1)
    trials = []
    for number in range(designs):
        drawn = change(SPACE.architecture(*SPACE.draw(SETTINGS.limits, rng)))
        cost = count(drawn, IMAGE)
        trials.append(
            replace(
                trial(number, accuracy=accuracy(drawn)),
                architecture=drawn,
                parameters=cost.parameters,
                mult_adds=cost.mult_adds,
            )
        )
    return study(*trials)


def about(record: StudyRecord, subject: str) -> Finding:
    (finding,) = (f for f in health(record, last_final(record)) if f.about == subject)
    return finding


class TestFindings:
    def test_runs_that_never_got_going(self) -> None:
        record = searched(lambda design: 0.1)
        finding = about(record, "learning")
        assert finding.level is Level.WARNING
        assert "--tune lr" in finding.sentence
        assert about(searched(width), "learning").level is Level.PASS

    def test_failures(self) -> None:
        failed = [trial(n, Outcome.OUT_OF_MEMORY, reason="out of memory") for n in range(40, 50)]
        record = searched(width)
        finding = about(replace(record, trials=(*record.trials, *failed)), "failures")
        assert finding.level is Level.WARNING
        assert "10 trials" in finding.sentence

    @pytest.mark.parametrize(("place", "level"), [(2, Level.PASS), (38, Level.NOTE)])
    def test_when_the_last_gain_came(self, place: int, level: Level) -> None:
        record = searched(lambda design: 0.5)
        trials = list(record.trials)
        trials[place] = replace(trials[place], val_accuracy=0.6)
        finding = about(replace(record, trials=tuple(trials)), "progress")
        assert finding.level is level
        assert f"design {place + 1} of 40" in finding.sentence
        assert ("--trials +" in finding.sentence) is (level is Level.NOTE)

    def test_designs_that_differ_by_less_than_the_noise(self) -> None:
        few = replace(SETTINGS, validation_images=100)
        alike = replace(searched(lambda design: 0.9), settings=few)
        assert about(alike, "noise").level is Level.NOTE
        assert "nas final --top" in about(alike, "noise").sentence
        many = replace(SETTINGS, validation_images=100_000)
        apart = replace(searched(width), settings=many)
        assert about(apart, "noise").level is Level.PASS

    def test_as_many_designs_are_tied_as_the_leaderboard_says(self) -> None:
        studies_dir = Path(__file__).parents[2] / "studies"
        at = StudyLocation.at("digits-example", studies_dir=studies_dir, storage=None)
        record = read_study(at)
        best = record.ranking[0].val_accuracy
        assert best is not None
        seen = visible_difference(best, record.settings.validation_images)
        said = about(record, "noise").sentence
        assert f"cannot show differences below {100 * seen:.2f} points" in said
        assert ties(record).startswith("10 designs, the first included,")
        assert "points, and seeds differ by " in said
        assert f". {ties(record)} Choose among them by size" in said

    def test_without_ties_none_is_counted(self) -> None:
        many = replace(SETTINGS, validation_images=100_000)
        record = searched(width)
        best = replace(record.trials[0], val_accuracy=0.99)
        record = replace(record, trials=(best, *record.trials[1:]), settings=many)
        finding = about(record, "noise")
        assert finding.level is Level.PASS
        assert finding.sentence.endswith(ties(record))
        assert "every other design's difference to the first excludes 0" in finding.sentence

    def test_limits_that_leave_hardly_a_design(self) -> None:
        record = searched(width)
        tight = replace(record, settings=replace(SETTINGS, limits=Limits(max_parameters=60_000)))
        assert about(tight, "limits").level is Level.NOTE
        assert "--space" in about(tight, "limits").sentence
        assert about(record, "limits").level is Level.PASS

    def test_a_choice_at_its_bound(self) -> None:
        most = SPACE.channels[1][-1]

        def widest(design: Architecture) -> Architecture:
            return replace(design, channels=(design.channels[0], most, *design.channels[2:]))

        finding = about(searched(width, change=widest), "bounds")
        assert finding.level is Level.WARNING
        assert f"{most} channels in stage 2" in finding.sentence
        assert f"channels = {{low = {SPACE.channels[1][0]}, high = {2 * most}" in finding.sentence
        assert (
            about(searched(lambda d: 0.5 + 0.001 * (hash(d.key) % 100)), "bounds").level
            is Level.PASS
        )

    def test_accuracies_that_designs_do_not_decide(self) -> None:
        rng = random.Random(0)
        assert about(searched(lambda design: rng.random()), "predictions").level is Level.NOTE
        assert about(searched(width), "predictions").level is Level.PASS

    def test_a_search_without_early_stopping(self) -> None:
        record = searched(width)
        finding = about(record, "early stopping")
        assert finding.level is Level.NOTE
        assert "--pruner" in finding.sentence
        curve = ((1, 0.2), (2, 0.3))
        stopped = replace(record.trials[0], outcome=Outcome.STOPPED_EARLY, curve=curve)
        record = replace(record, trials=(stopped, *record.trials[1:]))
        assert about(record, "early stopping").level is Level.PASS
        late = replace(stopped, reason=TIME_UP)
        record = replace(record, trials=(late, *record.trials[1:]))
        finding = about(record, "early stopping")
        assert finding.level is Level.NOTE
        assert "No pruner stopped a run, and the time limit ended 1 run; " in finding.sentence
        ruled = replace(record, searches=({"pruner": "evidence"},))
        finding = about(ruled, "early stopping")
        assert "The pruner (evidence) stopped no run, and the time limit" in finding.sentence
        assert "--pruner" not in finding.sentence

    def test_what_other_pruners_would_have_saved(self) -> None:
        """The better a design the better its curve from the start, so all keep the best."""
        sentence = about(searched(width), "early stopping").sentence
        assert "Of its 40 complete runs" in sentence
        for name in ("evidence", "rungs", "median", "halving"):
            assert re.search(rf"{name} \d+\.\d%[;.]", sentence), sentence


@given(studies())
def test_of_any_study_the_worst_come_first(record: StudyRecord) -> None:
    levels = [finding.level for finding in health(record)]
    assert levels == sorted(levels, key=list(Level)[::-1].index)


def test_every_finding_is_on_the_page() -> None:
    record = searched(lambda design: 0.1)
    page = render(record)
    assert all(str(escape(finding.sentence)) in page for finding in health(record))
    assert "<dt>Health</dt>" not in render(study())


def test_what_is_not_well_is_in_the_dashboards_note() -> None:
    note = study_note(searched(lambda design: 0.1), report="/report/1")
    assert "**WARNING** learning" in note
    assert "PASS" not in note


def test_the_dashboards_note_says_of_importances_what_the_report_says() -> None:
    for record in (searched(lambda design: 0.1), searched(width), study()):
        said = importances_in_words(record)[1]
        assert text(said) in study_note(record, report="/report/1")
    assert str(escape(importances_in_words(searched(width))[1])) in render(searched(width))


def test_of_the_example_studies_only_what_is_so() -> None:
    """The search on a GPU wanted more than 4 blocks of 128 channels in the first stage."""
    studies_dir = Path(__file__).parents[2] / "studies"
    warnings = {}
    for name in ("digits-example", "cifar10-h200"):
        record = read_study(StudyLocation.at(name, studies_dir=studies_dir, storage=None))
        found = [f.sentence for f in health(record) if f.level is Level.WARNING]
        warnings[name] = found
    assert warnings["digits-example"] == []
    (warning,) = warnings["cifar10-h200"]
    assert "Over half of the best designs have 4 blocks in stage 1, the most" in warning
    assert "blocks = {low = 1, high = 8, step = 1}" in warning
