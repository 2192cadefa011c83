"""How a search went: what became of the proposals, and the incumbent over time."""

import re
from dataclasses import replace

import pytest
from hypothesis import given

from nas.report import overview, progress
from nas.report.page import render
from nas.report.trials import reason_table
from nas.study.records import Outcome, StudyRecord
from tests.kits.records import mixed, studies, study, trial


class TestFunnel:
    @given(studies())
    def test_its_steps_add_up_to_the_trials(self, record: StudyRecord) -> None:
        steps = progress.funnel_table(record)
        assert steps["trials"].iloc[0] == len(record.trials)
        assert steps["trials"].iloc[1:].sum() == len(record.trials)
        trained = sum(t.outcome is Outcome.TRAINED for t in record.trials)
        assert steps.iloc[-1].to_dict()["trials"] == trained

    def test_what_was_interrupted_has_not_failed(self) -> None:
        trials = [trial(0, Outcome.FAILED, reason="interrupted"), trial(1, accuracy=0.5)]
        record = study(*trials)
        steps = progress.funnel_table(record)
        assert dict(zip(steps["step"], steps["trials"], strict=True)) == {
            "proposed": 2,
            "interrupted and queued again": 1,
            "trained": 1,
        }
        page = render(record)
        assert "1 interrupted and queued again" in page
        assert "1 failed" not in page
        assert reason_table(record)["outcome"].tolist() == ["interrupted and queued again"]

    def test_each_bar_begins_where_the_next_ends(self) -> None:
        steps = progress.funnel_table(mixed())
        assert dict(zip(steps["step"], steps["trials"], strict=True)) == {
            "proposed": 12,
            "over budget": 1,
            "duplicate": 1,
            "failed": 2,
            "out of memory": 1,
            "diverged": 1,
            "queued": 1,
            "running": 1,
            "stopped early": 1,
            "trained": 3,
        }
        (bar,) = progress.funnel_figure(steps).data
        ends = [base + x for base, x in zip(bar.base, bar.x, strict=True)]
        assert (ends[0], ends[1], bar.base[-1]) == (12, 12, 0)
        assert list(bar.base[1:-1]) == ends[2:]

    def test_where_the_time_went(self) -> None:
        assert progress.where_the_time_went(mixed()) == (
            "3 min 20 s of training went to 3 runs trained to the end (90%) and 1 run stopped "
            "early (10%). 2 proposals over the budget or the same as an earlier one took none."
        )
        failed = replace(trial(1, Outcome.FAILED), seconds=20.0)
        assert progress.where_the_time_went(study(trial(0, accuracy=0.5), failed)) == (
            "1 min 20 s of training went to 1 run trained to the end (75%) and 1 run that "
            "diverged, failed or did not end (25%)."
        )
        over = study(trial(0, Outcome.OVER_BUDGET))
        assert progress.where_the_time_went(over) == (
            "No training time was recorded. 1 proposal over the budget or the same as an earlier "
            "one took none."
        )


class TestHistory:
    @pytest.mark.parametrize(
        ("accuracies", "said"),
        [
            ([0.5, 0.7, 0.6, 0.7], "design 2 of 4, trial 1; the 2 after it brought no gain."),
            ([0.5, 0.6, 0.7, 0.6], "design 3 of 4, trial 2; the one after it brought no gain."),
            ([0.5, 0.6], "The last gain came with the last of 2 designs, trial 1."),
            ([0.7] * 5, "The first of 5 designs, trial 0, was never beaten; the 4 after it"),
            ([0.7], "One design was trained, that of trial 0."),
        ],
    )
    def test_the_last_gain(self, accuracies: list[float], said: str) -> None:
        record = study(*(trial(i, accuracy=a) for i, a in enumerate(accuracies)))
        assert said in overview.last_gain(record)

    def test_the_last_gain_counts_designs_and_not_trials(self) -> None:
        assert overview.last_gain(mixed()) == (
            "The last gain came with design 3 of 4, trial 4; the one after it brought no gain."
        )

    def test_without_a_design_trained_to_the_end_there_is_no_gain(self) -> None:
        early = study(*(trial(i, Outcome.STOPPED_EARLY, 0.4, epochs=1) for i in range(3)))
        assert overview.last_gain(early) == ("No design was trained to the end: 3 stopped early.")


class TestOverTime:
    def test_rises_and_the_last_design(self) -> None:
        table = progress.progress_table(mixed())
        assert table["number"].tolist() == [1, 4, 9]
        assert table["incumbent"].tolist() == [0.81, 0.9123, 0.9123]
        hour = 3600.0
        assert table["elapsed"].tolist() == [60.0, 3 * hour + 60, 8 * hour + 60]
        assert table["worked"].tolist() == [60.0, 60 + 20 + 60, 60 + 20 + 60 + 60]

    def test_when_the_last_gain_came(self) -> None:
        table = progress.progress_table(mixed())
        said = progress.time_of_the_last_gain(mixed(), table)
        assert "after 3 h 1 min of 8 h 1 min of wall-clock time" in said
        assert "after 2 min 20 s of 3 min 20 s of training" in said
        one = study(trial(0, accuracy=0.5))
        said = progress.time_of_the_last_gain(one, progress.progress_table(one))
        assert "after 1 min of 1 min of wall-clock time" in said

    def test_durations_sort_by_their_seconds(self) -> None:
        section = progress.over_time(mixed()).content
        cells = dict(re.findall(r'data-value="([^"]+)">([^<]+)<', section))
        assert cells["10860.0"] == "3 h 1 min"  # which as a text is below 3 min 20 s
        assert cells["200.0"] == "3 min 20 s"

    def test_units_fit_the_span(self) -> None:
        figure = progress.over_time_figure(progress.progress_table(mixed()))
        clock, work = figure.data
        assert clock.x[-1] == pytest.approx(8 + 1 / 60)  # hours
        assert work.x[-1] == pytest.approx(200 / 60)  # minutes
        assert "hours since" in figure.layout.xaxis.title.text
        assert "minutes of training" in figure.layout.xaxis2.title.text

    def test_without_times_there_is_nothing_to_draw(self) -> None:
        timeless = [replace(t, started=None, finished=None) for t in mixed().trials]
        assert progress.progress_table(study(*timeless)).empty
