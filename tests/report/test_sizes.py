"""Other networks to compare with: what is published, and what was measured."""

from dataclasses import replace

import pandas as pd
import pytest

from nas.final.references import LITERATURE, PUBLISHED
from nas.report import sizes
from nas.report.page import render
from nas.report.trials import measured, trials_table
from nas.report.words import TRAINED
from nas.study.records import StudyRecord
from tests.kits.pages import parsed
from tests.kits.records import SETTINGS, final_record, mixed


class TestReferences:
    def test_published_and_measured_never_look_alike(self) -> None:
        references = sizes.reference_table(mixed(), final_record())
        trials = figures_input(mixed())
        figure = sizes.size_figure(trials, 5_000_000, 4, None, references)
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
        assert low < 0.5
        assert high > 0.9743

    def test_each_is_named_with_its_source(self) -> None:
        references = sizes.reference_table(mixed(), None)
        assert set(references["name"]) == {*PUBLISHED, *LITERATURE}
        assert references["source"].notna().all()
        assert references["mark"].is_unique
        over = set(references[~references["fits"]]["name"])
        assert over == {"resnet18", "resnet18-narrow-stem"}
        text = parsed(render(mixed())).text
        assert all(known.source in text for known in (PUBLISHED | LITERATURE).values())  # type: ignore[operator]

    def test_what_is_published_for_another_dataset_is_left_out(self) -> None:
        other = replace(mixed(), settings=replace(SETTINGS, dataset="digits"))
        assert sizes.reference_table(other, None).empty
        assert "Reference networks" not in render(other)
        assert len(sizes.reference_table(other, final_record())) == 2

    def test_literature_is_within_five_million(self) -> None:
        assert all((known.parameters or 0) <= 5_000_000 for known in LITERATURE.values())


def figures_input(record: StudyRecord) -> pd.DataFrame:
    return measured(trials_table(record.trials))
