"""How a search went: what became of the proposals, and the incumbent over time."""

from dataclasses import replace

import pytest
from hypothesis import given

from nas.report import progress
from nas.report.page import render
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
            "interrupted": 1,
            "trained": 1,
        }
        page = render(record)
        assert "1 interrupted and queued again" in page
        assert "1 failed" not in page

    def test_each_bar_begins_where_the_next_ends(self) -> None:
        steps = progress.funnel_table(mixed())
        assert dict(zip(steps["step"], steps["trials"], strict=True)) == {
            "proposed": 12,
            "over budget": 1,
            "duplicate": 1,
            "failed": 2,
            "out of memory": 1,
            "diverged": 1,
            "unfinished": 2,
            "stopped early": 1,
            "trained": 3,
        }
        (bar,) = progress.funnel_figure(steps).data
        ends = [base + x for base, x in zip(bar.base, bar.x, strict=True)]
        assert (ends[0], ends[1], bar.base[-1]) == (12, 12, 0)
        assert list(bar.base[1:-1]) == ends[2:]


class TestOverTime:
    def test_rises_and_the_last_design(self) -> None:
        table = progress.progress_table(mixed())
        assert table["number"].tolist() == [1, 4, 9]
        assert table["incumbent"].tolist() == [0.81, 0.9123, 0.9123]
        hour = 3600.0
        assert table["elapsed"].tolist() == [60.0, 3 * hour + 60, 8 * hour + 60]
        assert table["worked"].tolist() == [60.0, 60 + 20 + 60, 60 + 20 + 60 + 60]

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
