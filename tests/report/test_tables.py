"""Tables of a report, and the figures that are drawn from them."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given

from nas.counting import count
from nas.report import choices, curves, progress, sizes, trials
from nas.report.curves import shown_curves
from nas.report.page import render
from nas.report.theme import figure_json
from nas.statistics import wilson_interval
from nas.study.records import TIME_UP, Outcome, StudyRecord, TrialRecord
from tests.kits.pages import parsed
from tests.kits.records import (
    EPOCHS,
    EVIL,
    IMAGE,
    design,
    final_record,
    mixed,
    studies,
    study,
    trial,
)


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

    @given(studies())
    def test_the_leaderboard_has_the_order_of_the_record(self, record: StudyRecord) -> None:
        table = trials.leaderboard_table(record)
        assert table["number"].tolist() == [t.number for t in record.ranking]
        assert table["rank"].tolist() == list(range(1, len(table) + 1))
        assert table["tied"].tolist()[:1] == ["first"] * bool(record.ranking)
        assert set(table["tied"].tolist()[1:]) <= {"yes", "no"}

    def test_the_leaderboard_shows_what_the_final_training_measured(self) -> None:
        table = trials.leaderboard_table(mixed(), final_record())
        rows = zip(table["number"], table["final_validation"], table["final_test"], strict=True)
        assert [row for row in rows if pd.notna(row[1]) or pd.notna(row[2])] == [(4, 0.93, 0.93)]

    @pytest.mark.parametrize("record", [study(), mixed()], ids=["empty", "mixed"])
    def test_types_do_not_depend_on_the_rows(self, record: StudyRecord) -> None:
        for make in (
            lambda record: trials.trials_table(record.trials),
            trials.leaderboard_table,
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
            trials.trials_table(record.trials), progress.incumbent_table(record), images=5_000
        )
        stopped, trained, incumbent = figure.data
        assert list(stopped.x) == [2]
        assert stopped.marker.symbol == "line-ns-open"
        assert figure.layout.yaxis.range[0] < stopped.y[0] < 0.8
        assert list(trained.x) == [1, 4, 9]
        interval = wilson_interval(0.81, 5_000)
        assert trained.error_y.array[0] == pytest.approx(interval.high - 0.81, abs=1e-6)
        assert trained.error_y.arrayminus[0] == pytest.approx(0.81 - interval.low, abs=1e-6)
        assert list(incumbent.y) == [0.81, 0.9123, 0.9123, 0.9123]
        assert incumbent.line.shape == "hv"
        assert str(design(20)).split(" F")[0] in trained.hovertext[1]

    def test_of_runs_that_were_all_stopped_early_the_accuracies_are_drawn(self) -> None:
        record = study(*(trial(i, Outcome.STOPPED_EARLY, 0.4 + i / 10) for i in range(3)))
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record)
        )
        (stopped,) = figure.data
        assert list(stopped.y) == [0.4, 0.5, 0.6]
        assert stopped.marker.symbol == "circle-open"

    def test_a_design_far_below_the_others_is_a_tick(self) -> None:
        record = study(*(trial(i, accuracy=a) for i, a in enumerate((0.1, 0.91, 0.92, 0.9, 0.93))))
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record)
        )
        below, trained, _ = figure.data
        assert below.name == "far below"
        assert (list(below.x), below.customdata[0]) == ([0], [0, 0.1])
        assert list(trained.x) == [1, 2, 3, 4]
        assert figure.layout.yaxis.range[0] > 0.8

    def test_a_run_that_was_stopped_far_below_the_others_was_not_trained_to_the_end(self) -> None:
        accuracies = (0.1, 0.91, 0.92, 0.9, 0.93)
        record = study(*(trial(i, Outcome.STOPPED_EARLY, a) for i, a in enumerate(accuracies)))
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record)
        )
        below, stopped = figure.data
        assert (below.name, list(below.x)) == ("far below", [0])
        assert "}, stopped early<br>" in below.hovertemplate
        assert below.marker.color == stopped.marker.color

    def test_its_caption_says_what_bars_and_ticks_are(self) -> None:
        bars = "Bars are 95% intervals (5,000 images)"
        ticks = "icks at the bottom are runs stopped early."
        for record, said in (
            (mixed(), {bars, ticks}),
            (study(trial(0, accuracy=0.5)), {bars}),
            (study(trial(0, Outcome.STOPPED_EARLY, 0.5)), {bars}),
        ):
            caption = progress.history(record, trials.trials_table(record.trials)).content
            assert {text for text in (bars, ticks) if text in caption} == said

    def test_many_trials_have_no_bars(self) -> None:
        record = study(*(trial(i, accuracy=0.5 + i / 1000, epochs=1) for i in range(101)))
        figure = progress.history_figure(
            trials.trials_table(record.trials), progress.incumbent_table(record), images=5_000
        )
        assert figure.data[0].error_y.array is None

    def test_accuracy_by_parameters(self) -> None:
        table = trials.trials_table(mixed().trials)
        figure = sizes.size_figure(table, 5_000_000, 4, chance=0.1)
        assert figure.data[2].x[0] == count(design(20), IMAGE).parameters
        (budget,) = figure.layout.shapes  # chance is far below
        assert budget.x0 == 5_000_000
        assert figure.layout.xaxis.type == "log"
        assert "5M" in figure.layout.xaxis.ticktext
        near = sizes.size_figure(table, 500_000, None, chance=0.82)
        assert near.layout.xaxis.type == "log"
        assert len(near.data) == 2
        assert [line.name for line in near.layout.shapes] == [
            "budget: 500k",
            "chance: 82.0%",
        ]

    def test_learning_curves(self) -> None:
        figure = curves.curves_figure(curves.curve_table(mixed()), 4)
        legend = [trace.name for trace in figure.data if trace.showlegend]
        assert legend == ["not finished", "stopped early", "trained", "incumbent"]
        assert sum(trace.mode == "lines" for trace in figure.data) == 5
        ends = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
        assert ends["trained"].marker.symbol == ("circle", "circle")
        for name in ("stopped early", "not finished"):  # at 0.5 and 0.3
            assert ends[name].marker.symbol == ("line-ns-open",)
            assert figure.layout.yaxis.range[0] < ends[name].y[0] < 0.54

    def test_values_are_shares_and_shown_as_percent(self) -> None:
        record = mixed()
        for figure in (
            progress.history_figure(
                trials.trials_table(record.trials), progress.incumbent_table(record)
            ),
            sizes.size_figure(trials.trials_table(record.trials), 10**6, None),
            curves.curves_figure(curves.curve_table(record), None),
        ):
            assert all(label.endswith("%") for label in figure.layout.yaxis.ticktext)
            assert all(0 <= y <= 1 for trace in figure.data for y in trace.y)

    def test_above_95_percent_all_figures_are_of_errors(self) -> None:
        record = study(*(trial(i, accuracy=a) for i, a in enumerate((0.96, 0.98, 0.99, 1.0))))
        table = trials.trials_table(record.trials)
        history = progress.history_figure(table, progress.incumbent_table(record))
        for figure in (
            history,
            sizes.size_figure(table, None, None),
            curves.curves_figure(curves.curve_table(record), None),
            progress.over_time_figure(progress.progress_table(record)),
            choices.slices_figure(choices.choices_table(record)),
        ):
            assert figure.layout.yaxis.type == "log"
            assert "100%" in figure.layout.yaxis.ticktext
        trained = history.data[0]
        assert list(trained.y) == [0.04, 0.02, 0.01, 0.005]  # no error at all: half of the least
        assert [accuracy for _, accuracy in trained.customdata] == [0.96, 0.98, 0.99, 1.0]

    def test_json_is_safe_in_a_script(self) -> None:
        table = trials.trials_table(mixed().trials)
        table["design"] = EVIL
        figure = progress.history_figure(table, progress.incumbent_table(mixed()))
        text = figure_json(figure)
        assert not set("<>") & set(text)
        hover = json.loads(text)["data"][1]["hovertext"][0]
        assert "&lt;script&gt;" in hover
        assert "<script" not in hover


class TestStopped:
    @staticmethod
    def said(*stopped: TrialRecord) -> str:
        return curves.what_was_stopped(study(trial(0, accuracy=0.6), *stopped))

    @staticmethod
    def at(number: int, epoch: int, accuracy: float) -> TrialRecord:
        """A run that was stopped at an epoch, where the best one, 0.6 after 6, has 0.1 each."""
        early = trial(number, Outcome.STOPPED_EARLY, accuracy, epochs=epoch)
        return replace(early, curve=((epoch, accuracy),))

    def test_at_which_epoch_how_far_behind_and_what_it_saved(self) -> None:
        assert self.said(self.at(1, 2, 0.15)) == (
            "1 of 2 runs was stopped early, at epoch 2, 5.00 points behind the best design at that "
            "epoch; this saved 4 of 12 epochs (33%)."
        )
        assert self.said(self.at(1, 2, 0.15), self.at(2, 4, 0.25), self.at(3, 4, 0.39)) == (
            "3 of 4 runs were stopped early, at epochs 2 and 4, a median of 5.00 points behind the "
            "best design at that epoch; this saved 8 of 24 epochs (33%)."
        )
        many = [self.at(i, i, i / 10 - 0.01) for i in range(1, 6)]
        assert "at epochs 1 to 5, a median of 1.00 points behind" in self.said(*many)

    def test_a_run_may_have_been_above_what_became_the_best(self) -> None:
        assert "5.00 points above the best design" in self.said(self.at(1, 2, 0.25))

    def test_none_or_all(self) -> None:
        assert self.said() == "No run was stopped early."
        timed = [replace(self.at(i, 2, 0.1), reason=TIME_UP) for i in (1, 2)]
        assert self.said(timed[0]) == (
            "No run was stopped by the pruner; 1 was stopped at the time limit."
        )
        assert "2 were stopped at the time limit." in self.said(*timed)
        assert curves.what_was_stopped(study(self.at(1, 2, 0.1))) == (
            "1 of 1 run was stopped early, at epoch 2; this saved 4 of 6 epochs (67%)."
        )


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


def test_the_leaderboard_names_what_is_not_better_than_guessing() -> None:
    guessed = trials.leaderboard(study(trial(0, accuracy=0.9), trial(1, accuracy=0.1)), None)
    assert guessed is not None
    assert "better than guessing (10%): trial 1." in guessed.content
    better = trials.leaderboard(study(trial(0, accuracy=0.9)), None)
    assert better is not None
    assert "guessing" not in better.content
