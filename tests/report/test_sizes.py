"""The trade-off: what a smaller design costs, and other networks to compare with."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from nas.final.references import LITERATURE, PUBLISHED
from nas.latency import LatencyLimit
from nas.report import sizes
from nas.report.page import render
from nas.report.trials import measured, trials_table
from nas.report.words import TRAINED
from nas.space import Limits
from nas.statistics import difference_interval
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from tests.kits.pages import parsed
from tests.kits.records import SETTINGS, final_record, mixed, study, trial

STUDIES = Path(__file__).parents[2] / "studies"


class TestTradeOff:
    @staticmethod
    def said(*designs: tuple[int, float], images: int = 5_000) -> str:
        """Of designs by their parameters and accuracies."""
        record = study(
            *(
                replace(trial(i, accuracy=accuracy), parameters=parameters)
                for i, (parameters, accuracy) in enumerate(designs)
            )
        )
        settings = replace(SETTINGS, validation_images=images)
        return sizes.cost_of_half_the_size(replace(record, settings=settings))

    def test_half_the_size(self) -> None:
        gap = difference_interval(0.94, 5_000, 0.92, 5_000)
        assert self.said((1_000, 0.94), (600, 0.93), (480, 0.92), (100, 0.80)) == (
            "Trial 2, with 48% of the parameters of trial 0, the best, costs 2.00 points (95% "
            f"interval {100 * gap.low:.2f} to {100 * gap.high:.2f}): 92.00% instead of 94.00%."
        )

    def test_what_the_images_cannot_tell_is_said(self) -> None:
        gap = difference_interval(0.94, 287, 0.93, 287)
        assert gap.low < 0
        assert self.said((1_000, 0.94), (500, 0.93), images=287) == (
            "Trial 1, with 50% of the parameters of trial 0, the best, costs 1.00 points (95% "
            f"interval {100 * gap.low:.2f} to {100 * gap.high:.2f}, so 287 images cannot show "
            "a difference): 93.00% instead of 94.00%."
        )
        assert "costs 0.00 points" in self.said((1_000, 0.94), (500, 0.94))
        assert "costs 1.00 points: 93.00%" in self.said((1_000, 0.94), (500, 0.93), images=0)

    def test_without_half_the_size_the_smallest_is_compared(self) -> None:
        said = self.said((1_000, 0.94), (800, 0.90), (600, 0.91), (600, 0.90), (2_000, 0.5))
        assert said.startswith(
            "No design of half the size was trained to the end; the smallest, trial 2, has 60% of "
            "the parameters of trial 0, the best, and costs 3.00 points (95% interval "
        )

    def test_nothing_smaller(self) -> None:
        alone = "No design smaller than trial 0, the best, was trained to the end."
        assert self.said((1_000, 0.94)) == self.said((1_000, 0.94), (1_000, 0.9)) == alone
        assert (
            self.said() == "What a smaller design costs is not known: none was trained to the end."
        )

    def test_a_deployed_design_is_compared_instead_of_the_best(self) -> None:
        record = study(
            *(
                replace(trial(i, accuracy=accuracy), parameters=parameters)
                for i, (parameters, accuracy) in enumerate(((200, 0.95), (1_000, 0.94), (90, 0.9)))
            )
        )
        gap = difference_interval(0.95, 5_000, 0.94, 5_000)
        assert sizes.cost_of_half_the_size(record, deployed=1) == (
            "Trial 0, with 20% of the parameters of trial 1, the chosen one, gains 1.00 points in "
            f"the search (95% interval {100 * gap.low:.2f} to {100 * gap.high:.2f}): 95.00% "
            "instead of 94.00%."
        )
        assert "costs 5.00 points in the search" in sizes.cost_of_half_the_size(record, deployed=0)
        best = sizes.cost_of_half_the_size(record)
        assert "trial 0, the best" in best
        assert sizes.cost_of_half_the_size(record, deployed=9) == best  # not of the search

    def test_chance_is_that_of_the_largest_class(self) -> None:
        """As a search notes it; it is drawn where it is in view."""
        record = study(*(trial(i, accuracy=0.5 + i / 50) for i in range(4)))
        record = replace(record, searches=({"chance": 0.53},))
        every = trials_table(record.trials)
        section = sizes.accuracy_by_size(record, every, sizes.reference_frame(()))
        assert "chance: 53.0%" in str(section.json)

    def test_the_star_is_the_design_that_is_deployed(self) -> None:
        for deployed, star in ((None, ("incumbent", 4)), (1, ("chosen", 1))):
            figure = sizes.size_figure(figures_input(mixed()), 5_000_000, 4, deployed)
            (trace,) = [t for t in figure.data if t.marker.symbol == "star"]
            assert (trace.name, trace.customdata[0][0]) == star

    def test_the_page_compares_the_design_that_the_example_deploys(self) -> None:
        at = StudyLocation.at("digits-example", studies_dir=STUDIES, storage=None)
        text = parsed(render(read_study(at))).text
        assert "of the parameters of trial 30, the chosen one" in text


class TestReferences:
    def test_published_and_measured_never_look_alike(self) -> None:
        references = sizes.reference_table(mixed(), final_record())
        trials = figures_input(mixed())
        figure = sizes.size_figure(trials, 5_000_000, 4, references=references)
        traces = {trace.name: trace for trace in figure.data}
        published, measured = traces[sizes.PUBLISHED_KIND], traces[sizes.MEASURED_KIND]
        assert published.marker.symbol == "square-open"
        assert measured.marker.symbol == "square"
        assert published.marker.color != measured.marker.color
        assert published.error_y.array is None
        assert measured.error_y.array == pytest.approx((0.01, 0.01))
        trained = traces[TRAINED]
        assert trained.marker.symbol not in ("square", "square-open")
        assert dict(zip(measured.x, measured.y, strict=True)) == {
            272_474: 0.91,
            4_903_242: 0.93,
        }
        low, high = figure.layout.yaxis.range
        assert low > 0.5  # a run that was stopped early there does not count
        assert high > 0.9743

    def test_far_ones_are_not_drawn(self) -> None:
        references = sizes.reference_table(mixed(), None)
        trials = figures_input(study(*(trial(i, accuracy=0.90 + i / 100) for i in range(4))))
        figure = sizes.size_figure(trials, 5_000_000, None, references=references)
        (squares,) = [t for t in figure.data if t.name == sizes.PUBLISHED_KIND]
        assert min(squares.y) == 0.8785
        assert max(squares.y) == 0.9574
        low, high = figure.layout.yaxis.range
        assert high - low < 3.5 * 0.03

    def test_each_is_named_with_its_source(self) -> None:
        references = sizes.reference_table(mixed(), None)
        assert set(references["name"]) == {*PUBLISHED, *LITERATURE}
        assert references["source"].notna().all()
        assert references["mark"].is_unique
        over = set(references[~references["fits"]]["name"])
        assert over == {"resnet18", "resnet18-narrow-stem"}
        text = parsed(render(mixed())).text
        assert all(known.source in text for known in (PUBLISHED | LITERATURE).values())  # type: ignore[operator]

    def test_every_limit_counts_as_far_as_a_cost_is_known(self) -> None:
        limits = Limits(max_parameters=5_000_000, max_mult_adds=50_000_000)
        limited = replace(mixed(), settings=replace(SETTINGS, limits=limits))
        references = sizes.reference_table(limited, None)
        within = dict(zip(references["name"], references["limits"], strict=True))
        assert within["resnet20"] == "within"  # of 41 M mult-adds
        assert within["flexres10"] == within["resnet18"] == "over the limits"
        assert within["DARTS v2"] == "parameters within"
        assert (references["fits"] == (references["limits"] != "over the limits")).all()
        figure = sizes.size_figure(figures_input(mixed()), 5_000_000, 4, references=references)
        (squares,) = [t for t in figure.data if t.name == sizes.PUBLISHED_KIND]
        assert 4_903_242 not in squares.x
        unknown = replace(SETTINGS, limits=Limits(max_arena=10**9))
        other = sizes.reference_table(replace(mixed(), settings=unknown), None)
        assert other.set_index("name")["limits"]["DARTS v2"] == "not known"
        timed = replace(SETTINGS, latency=LatencyLimit(max_ms=5.0))
        other = sizes.reference_table(replace(mixed(), settings=timed), None)
        assert set(other["limits"]) == {"parameters within", "over the limits"}

    def test_what_is_published_for_another_dataset_is_left_out(self) -> None:
        other = replace(mixed(), settings=replace(SETTINGS, dataset="digits"))
        assert sizes.reference_table(other, None).empty
        assert "Reference networks" not in render(other)
        assert len(sizes.reference_table(other, final_record())) == 2

    def test_literature_is_within_five_million(self) -> None:
        assert all((known.parameters or 0) <= 5_000_000 for known in LITERATURE.values())


def figures_input(record: StudyRecord) -> pd.DataFrame:
    return measured(trials_table(record.trials))
