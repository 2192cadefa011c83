"""Two studies side by side."""

import json
import re
from dataclasses import replace

import pytest

from nas.report.compare import (
    at_equal_effort,
    incumbent_by_effort,
    other_images,
    render_comparison,
    settings_table,
    verdict,
)
from nas.report.export import study_document
from nas.report.page import render
from nas.report.tables import MOST_ROWS
from nas.report.theme import BLUE, ORANGE
from nas.statistics import wilson_interval
from nas.study.records import Outcome, StudyRecord
from nas.training.config import DEFAULTS
from tests.kits.pages import parsed
from tests.kits.records import EVIL, SETTINGS, mixed, study, trial


class TestComparison:
    def test_what_differs_is_said(self) -> None:
        first = replace(mixed(), searches=({"seed": 1, "sampler": "gp"},))
        second = replace(
            mixed(),
            name="other",
            settings=replace(SETTINGS, recipe={**SETTINGS.recipe, "epochs": 3}),
            searches=({"seed": 2, "sampler": "gp"},),
        )
        rows = parsed(render_comparison(first, second)).rows
        assert [row for row in rows if len(row) == 3 and row[0] != "Setting"] == [
            ["recipe: epochs", "6", "3"],
            ["seed", "1", "2"],
        ]

    def test_a_study_of_an_earlier_version_differs_only_where_its_runs_would(self) -> None:
        recipe = {**SETTINGS.recipe, **{n: DEFAULTS[n] for n in ("precision", "weight_decay")}}
        named = replace(SETTINGS.input, name_bytes=12)
        settings = replace(SETTINGS, recipe=recipe, input=named)
        later = replace(mixed(), name="later", settings=settings)
        assert settings_table(mixed(), later).empty
        assert "None: both used the same settings." in render_comparison(mixed(), later)
        wider = replace(later, settings=replace(later.settings, input=replace(named, width=40)))
        assert settings_table(mixed(), wider).to_numpy().tolist() == [
            ["input", "3x32x32, 10 classes", "3x32x40, 10 classes"]
        ]
        assert "differ in image shape or classes, so" in other_images(mixed(), wider)

    def test_what_the_interval_of_the_difference_holds_is_not_settled(self) -> None:
        near = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.910, 0.915)]
        assert "at-0.915 is ahead by 0.50 points; the 95% interval of the diff" in verdict(*near)
        assert "-0.61 to +1.61 points, contains 0" in verdict(*near)
        far = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.95, 0.90)]
        assert "at-0.95 is ahead by 5.00 points" in verdict(*far)
        assert "excludes 0" in verdict(*far)
        # The intervals of the two overlap, that of their difference is above 0.
        over = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.940, 0.928)]
        assert wilson_interval(0.940, 5_000).low < wilson_interval(0.928, 5_000).high
        assert "excludes 0" in verdict(*over)
        assert verdict(study(), far[0]) == "cifar10-5M found no design so far."

    def test_other_images_are_not_comparable(self) -> None:
        settings = replace(SETTINGS, dataset=EVIL, split_seed=1)
        other = replace(mixed(), name="other", settings=settings)
        assert "differ in dataset and split" in other_images(mixed(), other)
        assert "do not show which is better" in verdict(mixed(), other)
        page = render_comparison(mixed(), other)
        assert "not comparable" in parsed(page).text
        assert "<script>alert" not in page

    def test_of_two_large_studies_each_trial_is_one_row_at_most(self) -> None:
        def named(name: str) -> StudyRecord:
            trials = (trial(i, accuracy=0.5 + i / 10_000) for i in range(600))
            return replace(study(*trials), name=name)

        rows = parsed(render_comparison(named("one"), named("two"))).rows
        shown = [tuple(row[:2]) for row in rows if len(row) == 5 and row[0] in ("one", "two")]
        assert len(shown) == len(set(shown)) == MOST_ROWS

    def test_a_study_has_the_same_colour_in_every_figure(self) -> None:
        low = study(trial(0, accuracy=0.1), name="low")  # too low to be drawn among the sizes
        high = study(*(trial(i, accuracy=0.8 + i / 1_000) for i in range(20)), name="high")
        page = render_comparison(low, high)
        colors = {
            name: {trace["name"]: trace["marker"]["color"] for trace in json.loads(figure)["data"]}
            for name, figure in re.findall(r'^"(\w+)": (\{"data".*\}),$', page, re.MULTILINE)
        }
        assert colors == {"incumbents": {"low": BLUE, "high": ORANGE}, "sizes": {"high": ORANGE}}

    @pytest.mark.parametrize(
        "other", [study(name="other"), study(trial(0, accuracy=0.5), name="other")]
    )
    def test_any_studies_are_a_page(self, other: StudyRecord) -> None:
        for pair in ((mixed(), other), (other, mixed()), (other, replace(other, name="third"))):
            assert "<NA>" not in parsed(render_comparison(*pair)).text

    def test_studies_of_one_name_cannot_be_told_apart_on_a_page(self) -> None:
        with pytest.raises(ValueError, match="expected two studies of different names"):
            render_comparison(mixed(), mixed())

    def test_the_front_is_of_the_size_that_was_searched(self) -> None:
        trials = (
            replace(trial(0, accuracy=0.5), parameters=10, mult_adds=30),
            replace(trial(1, accuracy=0.6), parameters=20, mult_adds=40),
            replace(trial(2, accuracy=0.7), parameters=30, mult_adds=20),
        )
        plain = study(*trials)
        assert study_document(plain)["pareto_front"] == [0, 1, 2]
        page = render(plain)
        assert "have no more parameters. The search looked for accuracy alone" in page
        assert '"name":"Pareto front"' in page
        search = {"objectives": ["val_accuracy", "mult_adds"]}
        record = study(*trials[:2], replace(trials[1], number=2, val_accuracy=0.9, mult_adds=50))
        record = replace(record, searches=(search,))
        assert study_document(record)["pareto_front_by"] == "mult_adds"
        page = render(record)
        assert "have no more mult-adds. Designs of every size were proposed" in page
        assert '"name":"Pareto front"' not in page
        record = replace(plain, searches=(search,))
        assert study_document(record)["pareto_front"] == [2]

    def test_incumbents_by_effort(self) -> None:
        table = incumbent_by_effort(mixed())  # counting are 1, 2 (stopped), 4 and 9
        assert table["trained"].tolist() == [1, 3, 4]
        assert table["incumbent"].tolist() == [1, 4, 4]

    def test_a_gain_by_the_last_design_is_one_step(self) -> None:
        table = incumbent_by_effort(study(trial(0, accuracy=0.5), trial(1, accuracy=0.6)))
        assert table["trained"].tolist() == [1, 2]
        assert table["incumbent"].tolist() == [0, 1]

    def test_what_was_found_with_equal_effort(self) -> None:
        late = study(trial(0, Outcome.STOPPED_EARLY, 0.2), trial(1, accuracy=0.7))
        records = {"long": mixed(), "short": study(trial(0, accuracy=0.5)), "late": late}
        efforts = {name: incumbent_by_effort(record) for name, record in records.items()}

        def said(*names: str) -> str:
            return at_equal_effort({name: efforts[name] for name in names})

        assert said("long", "short") == (
            "After 1 trained design each, long had 81.00% and short had 50.00%."
        )
        assert said("short", "late") == (
            "After 1 trained design each, short had 50.00% and late had no design trained "
            "to the end."
        )
        assert said("long", "late") == (
            "After 2 trained designs each, long had 81.00% and late had 70.00%."
        )
        empty = {"empty": incumbent_by_effort(study()), "long": efforts["long"]}
        assert at_equal_effort(empty) == "No design was trained to the end in empty."
