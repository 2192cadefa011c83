"""What a report says in sentences."""

from dataclasses import replace

import pytest

from nas.counting import LIMITED, Cost
from nas.report import curves, overview, progress, tables, trials, words
from nas.report import settings as page_settings
from nas.report.compare import render_comparison
from nas.report.settings import choices_in_words
from nas.report.verdict import tiles
from nas.space import Limits
from nas.study.records import TIME_UP, Outcome, TrialRecord
from nas.study.settings import differences, settings_to_json
from nas.text import duration, millions
from tests.kits.pages import parsed
from tests.kits.records import EPOCHS, SETTINGS, STARTED, design, mixed, study, trial


class TestWords:
    def test_where_a_trial_without_an_outcome_stands(self) -> None:
        queued = TrialRecord(number=0, outcome=None)
        running = replace(queued, started=STARTED)
        lost = replace(running, finished=STARTED)
        record = study(queued, running, lost)
        assert [words.status(t) for t in record.trials] == list(words.WITHOUT_OUTCOME)
        assert overview.cost(record) == [
            "3 trials: 1 queued, 1 running and 1 ended without an outcome."
        ]

    def test_a_folder_of_images_is_called_by_its_name(self) -> None:
        assert f"network for {SETTINGS.dataset} with" in overview.asked(study())
        own = replace(study(), settings=replace(SETTINGS, dataset="folder"))
        asked = overview.asked(replace(own, searches=({"data_dir": "somewhere/flowers"},)))
        assert "network for the images in the folder flowers with" in asked
        assert "network for folder with" in overview.asked(own)  # of which no search says more

    def test_design(self) -> None:
        assert words.design_in_words(design()) == (
            "3 stages (N) of 2, 1 and 1 blocks (B) with 16, 32 and 64 channels (C); 3x3, 3x3 and "
            "5x5 kernels (F); projection shortcuts with 1x1 and 3x3 kernels (K) in stages 2 and 3; "
            "average pool 8x8 (P)"
        )

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.97, "10 s"),
            (59.97, "1 min"),
            (754, "12 min 34 s"),
            (4_800, "1 h 20 min"),
            (4_000_000, "46 days 7 h"),
        ],
    )
    def test_duration(self, seconds: float, shown: str) -> None:
        assert duration(seconds) == shown

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(555_631_626, "555.6 M"), (1_234_000, "1.23 M"), (684_000, "0.68 M"), (970, "970")],
    )
    def test_millions(self, value: int, shown: str) -> None:
        assert millions(value) == shown

    def test_choices(self) -> None:
        assert choices_in_words([3, 4]) == "3 or 4"
        assert choices_in_words([[1, 2, 3]] * 2) == "1, 2 or 3 in every stage"
        assert choices_in_words([list(range(16, 129, 16)), [8]]) == (
            "stage 1: 16 to 128 in steps of 16; stage 2: 8"
        )

    def test_designs_that_hardly_differ_from_the_best_are_counted(self) -> None:
        # On 5,000 images 1.2 points are more than the difference leaves to luck; intervals overlap.
        record = study(*(trial(i, accuracy=a) for i, a in enumerate((0.94, 0.935, 0.928))))
        assert "2 designs, the first included, are too close" in trials.ties(record)
        record = study(trial(0, accuracy=0.94), trial(1, accuracy=0.928))
        assert "every other design's difference" in trials.ties(record)

    @pytest.mark.parametrize("cost", LIMITED.values(), ids=LIMITED)
    def test_every_limit_is_told(self, cost: Cost) -> None:
        limits = Limits(**{cost.maximum: 7_000_000})
        record = replace(study(trial(0, accuracy=0.9)), settings=replace(SETTINGS, limits=limits))
        value = getattr(record.trials[0], cost.name)
        assert f"at most {cost.exactly(7_000_000)}. Designs" in overview.asked(record)
        assert cost.about(value) in overview.found(record)
        numbers = {tile.label: tile for tile in tiles(record, None)}
        tile = numbers[cost.heading]
        assert tile.value == cost.rounded(value)
        assert tile.detail == f"{value / 7_000_000:.1%} of {cost.rounded(7_000_000)}"
        assert settings_to_json(record.settings)["limits"][cost.maximum] == 7_000_000
        others = {c.maximum: 9_000_000 for c in LIMITED.values() if c != cost}
        without = replace(SETTINGS, limits=Limits(**others))
        limited = replace(SETTINGS, limits=Limits(**others, **{cost.maximum: 7_000_000}))
        said = f"{cost.limit} ({cost.option}): the study has none, this search 7,000,000"
        assert differences(without, limited) == [said]
        shown = page_settings.settings(record).content
        assert cost.limit.capitalize() in shown
        assert cost.exactly(7_000_000) in shown

    def test_what_is_no_number_is_not_the_best(self) -> None:
        record = study(trial(0, accuracy=float("nan")), trial(1, accuracy=0.5))
        assert [t.number for t in record.ranking] == [1, 0]

    def test_of_equals_the_earlier_is_first_as_the_ranking_says(self) -> None:
        record = study(replace(trial(0, accuracy=0.9), parameters=10**6), trial(1, accuracy=0.9))
        assert [t.number for t in record.ranking] == [0, 1]
        assert trials.leaderboard_table(record)["number"].tolist() == [0, 1]

    def test_epochs_saved(self) -> None:
        assert overview.stopping(mixed()).saved == EPOCHS - 2
        assert "Stopping early saved 4 of 24 epochs (17%)." in overview.cost(mixed())

    def test_the_end_of_the_time_saves_no_epochs(self) -> None:
        early = trial(1, Outcome.STOPPED_EARLY, 0.4, epochs=2)
        late = trial(2, Outcome.STOPPED_EARLY, 0.4, epochs=1, reason=TIME_UP)
        record = study(trial(0, accuracy=0.5), early, late)
        stopped = overview.stopping(record)
        assert stopped.phrases == ["1 stopped early", "1 stopped at the time limit"]
        assert stopped.saving == "4 of 18 epochs (22%)"
        assert overview.cost(record)[:2] == [
            "3 trials: 1 trained to the last epoch, 1 stopped early and 1 stopped at the time "
            "limit.",
            "Stopping early saved 4 of 18 epochs (22%).",
        ]
        assert not any("saved" in line for line in overview.cost(study(late)))

    def test_all_parts_tell_the_time_limit_from_the_pruner(self) -> None:
        early = trial(1, Outcome.STOPPED_EARLY, 0.4, epochs=2)
        late = trial(2, Outcome.STOPPED_EARLY, 0.4, epochs=1, reason=TIME_UP)
        record = study(trial(0, accuracy=0.5), early, late)
        (tile,) = (t for t in tiles(record, None) if t.label == "Designs trained")
        assert tile.detail == "1 to the end, 1 stopped early, 1 stopped at the time limit"
        assert curves.what_was_stopped(record).endswith(
            "this saved 4 of 18 epochs (22%). 1 was stopped at the time limit."
        )
        assert "1 run stopped at the time limit (11%)" in progress.where_the_time_went(record)
        none = study(early, late)
        assert overview.last_gain(none) == (
            "No design was trained to the end: 1 stopped early and 1 stopped at the time limit."
        )
        assert overview.nothing_found(none) == (
            "No design was trained to the last epoch yet (1 stopped early and 1 stopped at the "
            "time limit)."
        )
        other = replace(record, name="other")
        rows = parsed(render_comparison(record, other)).rows
        assert [row[3:6] for row in rows if len(row) == 10 and row[1] == "3"] == [
            ["1", "1", "4"]
        ] * 2

    def test_its_tables_hold_nothing_that_utf8_cannot(self) -> None:
        made = tables.frame_of([{"text": "a \udcff", "number": 1}, {"text": None, "number": None}])
        assert made["text"][0] == r"a \udcff"
        assert made["number"][0] == 1
        assert made["text"].isna().tolist() == [False, True]
