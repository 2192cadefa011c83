"""Tables of a report, and the figures that are drawn from them."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.counting import count
from nas.report import curves, progress, sizes, trials
from nas.report.curves import shown_curves
from nas.report.page import render
from nas.report.theme import figure_json
from nas.study.records import Outcome, StudyRecord
from tests.kits.pages import parsed
from tests.kits.records import EPOCHS, EVIL, IMAGE, design, mixed, studies, study, trial


class TestTables:
    @given(studies())
    def test_one_row_per_trial(self, record: StudyRecord) -> None:
        table = trials.trials_table(record.trials)
        assert table["number"].tolist() == [t.number for t in record.trials]
        assert len(curves.curve_table(record)) == sum(len(t.curve) for t in record.trials)

    @given(studies())
    def test_incumbent_only_gets_better_and_ends_at_the_best(self, record: StudyRecord) -> None:
        table = progress.incumbent_table(record)
        accuracies = table["val_accuracy"].tolist()
        assert len(table) == record.outcomes[Outcome.TRAINED]
        assert accuracies == sorted(accuracies)
        if record.incumbent is not None:
            assert table["incumbent"].iloc[-1] == record.incumbent.number

    @given(studies(), st.integers(0, 12))
    def test_ranking_is_that_of_the_record(self, record: StudyRecord, top: int) -> None:
        table = trials.ranking_table(record, top)
        assert table["number"].tolist() == [t.number for t in record.ranking[:top]]
        assert table["rank"].tolist() == list(range(1, len(table) + 1))

    @pytest.mark.parametrize("record", [study(), mixed()], ids=["empty", "mixed"])
    def test_types_do_not_depend_on_the_rows(self, record: StudyRecord) -> None:
        for make in (
            lambda record: trials.trials_table(record.trials),
            trials.ranking_table,
            progress.incumbent_table,
            trials.reason_table,
            curves.curve_table,
        ):
            assert make(record).dtypes.tolist() == make(mixed()).dtypes.tolist()

    def test_values_come_through(self) -> None:
        row = trials.trials_table(mixed().trials).iloc[4]
        cost = count(design(20), IMAGE)
        assert row["outcome"] == "trained"
        assert row["design"] == str(design(20))
        assert (row["parameters"], row["mult_adds"]) == (cost.parameters, cost.mult_adds)
        assert (row["val_accuracy"], row["epochs"], row["seconds"]) == (0.9123, EPOCHS, 60.0)
        assert pd.isna(row["reason"])

    def test_reasons_are_grouped(self) -> None:
        first = trials.reason_table(mixed()).iloc[0]
        assert (first["reason"], first["trials"], first["numbers"]) == ("disk is full", 2, "7, 8")

    def test_curves_by_epoch(self) -> None:
        wide = curves.curves_by_epoch(curves.curve_table(mixed()))
        assert wide.columns.tolist() == ["number", *map(str, range(1, EPOCHS + 1))]
        assert wide["number"].tolist() == [1, 2, 4, 9, 10]
        assert pd.isna(wide["3"].iloc[1])


class TestFigures:
    def test_history(self) -> None:
        record = mixed()
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record)
        )
        stopped, trained, incumbent = figure.data
        assert list(stopped.x) == [2]
        assert list(trained.x) == [1, 4, 9]
        assert list(incumbent.y) == [0.81, 0.9123, 0.9123, 0.9123]
        assert incumbent.line.shape == "hv"
        assert str(design(20)).split(" F")[0] in trained.hovertext[1]

    def test_accuracy_by_parameters(self) -> None:
        table = trials.trials_table(mixed().trials)
        figure = sizes.size_figure(table, 5_000_000, 4)
        assert figure.data[2].x[0] == count(design(20), IMAGE).parameters
        assert figure.layout.shapes[0].x0 == 5_000_000
        assert figure.layout.xaxis.type == "log"
        near = sizes.size_figure(table, 500_000, None)
        assert near.layout.xaxis.type == "linear"
        assert len(near.data) == 2

    def test_learning_curves(self) -> None:
        figure = curves.curves_figure(curves.curve_table(mixed()), 4)
        legend = [trace.name for trace in figure.data if trace.showlegend]
        assert legend == ["not finished", "stopped early", "trained", "incumbent"]
        assert sum(trace.mode == "lines" for trace in figure.data) == 5

    def test_values_are_shares_and_shown_as_percent(self) -> None:
        record = mixed()
        for figure in (
            progress.history_figure(
                trials.trials_table(record.trials), progress.incumbent_table(record)
            ),
            sizes.size_figure(trials.trials_table(record.trials), 10**6, None),
            curves.curves_figure(curves.curve_table(record), None),
        ):
            assert figure.layout.yaxis.tickformat.endswith("%")
            assert all(0 <= y <= 1 for trace in figure.data for y in trace.y)

    def test_json_is_safe_in_a_script(self) -> None:
        table = trials.trials_table(mixed().trials)
        table["design"] = EVIL
        figure = progress.history_figure(table, progress.incumbent_table(mixed()))
        text = figure_json(figure)
        assert not set("<>") & set(text)
        hover = json.loads(text)["data"][1]["hovertext"][0]
        assert "&lt;script&gt;" in hover
        assert "<script" not in hover


class TestScale:
    def test_of_many_curves_the_best_and_some_all_over_the_search_are_drawn(self) -> None:
        record = study(*(trial(i, accuracy=(i * 7 % 400) / 1000, epochs=2) for i in range(400)))
        shown = [t.number for t in shown_curves(record)]
        assert len(shown) == len(set(shown)) == 200
        assert shown == sorted(shown)
        assert {t.number for t in record.ranking[:100]} <= set(shown)
        assert all(any(start <= n < start + 20 for n in shown) for start in range(0, 400, 20))
        assert shown_curves(mixed()) == tuple(t for t in mixed().trials if t.curve)

    def test_a_long_table_shows_the_best_and_says_so(self) -> None:
        base = trial(0, accuracy=0.5, epochs=1)
        trials = [replace(base, number=i, val_accuracy=0.1 + i / 10_000) for i in range(1_200)]
        seen = parsed(render(study(*trials)))
        assert "The best 1,000 of 1,200 rows" in seen.text
        assert "Of 1,200 curves 200 are drawn" in seen.text
        numbers = [
            int(row[0].replace(",", ""))
            for row in seen.rows
            if len(row) == 9 and row[1] == "trained"
        ]
        assert numbers == list(range(200, 1_200))
