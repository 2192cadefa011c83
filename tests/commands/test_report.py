"""`nas report`: exports, comparisons, and studies of another version."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from nas.commands import main
from nas.report.compare import incumbent_by_effort, other_images, render_comparison, verdict
from nas.report.curves import shown_curves
from nas.report.export import study_document, trials_csv
from nas.report.page import render
from nas.statistics import wilson_interval
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from nas.study.settings import settings_to_json
from tests.kits.pages import parsed
from tests.kits.records import EVIL, SETTINGS, mixed, study, trial


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyLocation:
    """A study on the disk with three trials, one of them of an outcome that is unknown here."""
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    location = StudyLocation.at("kept", studies_dir=Path("studies"))
    made = optuna.create_study(study_name="kept", storage=location.url, direction="maximize")
    made.set_user_attr("settings", settings_to_json(SETTINGS))
    made.set_user_attr("searches", [{"seed": 3, "sampler": "gp", "objectives": ["val_accuracy"]}])
    for accuracy, outcome in ((0.5, "trained"), (0.75, "trained"), (0.9, "perfected")):
        asked = made.ask()
        asked.set_user_attr("outcome", outcome)
        asked.set_user_attr("parameters", 1_000)
        asked.report(accuracy, 1)
        made.tell(asked, accuracy)
    return location


def change_settings(location: StudyLocation, **changes: object) -> None:
    made = optuna.load_study(study_name=location.name, storage=location.url)
    made.set_user_attr("settings", {**made.user_attrs["settings"], **changes})


class TestExport:
    def test_csv_holds_every_trial(self) -> None:
        record = mixed()
        read = pd.read_csv(io.BytesIO(trials_csv(record)))
        assert read["number"].tolist() == [t.number for t in record.trials]
        for row, told in zip(read.to_dict("records"), record.trials, strict=True):
            for name in ("outcome", "parameters", "val_accuracy", "seconds", "reason", "device"):
                value = getattr(told, name)
                assert (row[name] == value) if value is not None else pd.isna(row[name])
            assert json.loads(row["curve"]) == [list(point) for point in told.curve]
            if told.architecture is not None:
                assert json.loads(row["channels"]) == list(told.architecture.channels)

    @pytest.mark.parametrize("text", [EVIL, 'a,"b"\nc', "a\rb", "\r\n", "\u2028", "=1+1"])
    def test_any_text_comes_back_from_csv(self, text: str) -> None:
        record = study(replace(trial(0), reason=text))
        (row,) = csv.DictReader(io.StringIO(trials_csv(record).decode(), newline=""))
        assert row["reason"] == text

    def test_document_holds_everything_and_is_json(self) -> None:
        record = mixed()
        odd = replace(trial(12), curve=((1, float("nan")),))
        record = replace(record, trials=(*record.trials, odd), searches=({"seed": 7},))
        document = json.loads(json.dumps(study_document(record), allow_nan=False))
        assert document["settings"] == json.loads(json.dumps(settings_to_json(SETTINGS)))
        assert document["incumbent"] == 4
        assert document["searches"] == [{"seed": 7}]
        assert [t["number"] for t in document["trials"]] == list(range(13))
        assert document["trials"][4]["architecture"]["channels"] == [20, 40, 80]
        assert document["trials"][12]["curve"] == [[1, None]]


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

    def test_what_the_interval_of_the_difference_holds_is_not_settled(self) -> None:
        near = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.910, 0.915)]
        assert "at-0.915 is ahead by 0.50 points; the 95% interval of the diff" in verdict(*near)
        assert "-0.61 to +1.61 points, holds 0" in verdict(*near)
        far = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.95, 0.90)]
        assert "at-0.95 is ahead by 5.00 points" in verdict(*far)
        assert "leaves out 0" in verdict(*far)
        # The intervals of the two overlap, that of their difference is above 0.
        over = [replace(study(trial(0, accuracy=a)), name=f"at-{a}") for a in (0.940, 0.928)]
        assert wilson_interval(0.940, 5_000).low < wilson_interval(0.928, 5_000).high
        assert "leaves out 0" in verdict(*over)
        assert verdict(study(), far[0]) == "cifar10-5M found no design so far."

    def test_other_images_are_not_comparable(self) -> None:
        other = replace(mixed(), settings=replace(SETTINGS, dataset=EVIL, split_seed=1))
        assert "differ in dataset and split" in other_images(mixed(), other)
        assert "cannot be read from accuracies" in verdict(mixed(), other)
        page = render_comparison(mixed(), other)
        assert "not comparable" in parsed(page).text
        assert "<script>alert" not in page

    @pytest.mark.parametrize("other", [study(), study(trial(0, accuracy=0.5))])
    def test_any_studies_are_a_page(self, other: StudyRecord) -> None:
        for pair in ((mixed(), other), (other, mixed()), (other, other)):
            assert "<NA>" not in parsed(render_comparison(*pair)).text

    def test_the_front_is_of_the_size_that_was_searched(self) -> None:
        trials = (
            replace(trial(0, accuracy=0.5), parameters=10, mult_adds=30),
            replace(trial(1, accuracy=0.6), parameters=20, mult_adds=40),
            replace(trial(2, accuracy=0.7), parameters=30, mult_adds=20),
        )
        plain = study(*trials)
        assert study_document(plain)["pareto_front"] == [0, 1, 2]
        assert "have no more parameters. The search was for accuracy alone" in render(plain)
        search = {"objectives": ["val_accuracy", "mult_adds"]}
        record = study(*trials[:2], replace(trials[1], number=2, val_accuracy=0.9, mult_adds=50))
        record = replace(record, searches=(search,))
        assert study_document(record)["pareto_front_by"] == "mult_adds"
        page = render(record)
        assert "have no more mult-adds. Designs of every size were proposed" in page
        assert "the dotted steps" not in page
        record = replace(plain, searches=(search,))
        assert study_document(record)["pareto_front"] == [2]

    def test_incumbents_by_effort(self) -> None:
        table = incumbent_by_effort(mixed())  # counting are 1, 2 (stopped), 4 and 9
        assert table["trained"].tolist() == [1, 3, 4]
        assert table["incumbent"].tolist() == [1, 4, 4]


class TestCommand:
    def test_json_is_one_document_with_all_records(
        self, location: StudyLocation, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", "--study", "kept", "--csv", "new/kept.csv", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["files"] == ["reports/kept.html", "new/kept.csv"]
        assert [t["val_accuracy"] for t in document["trials"]] == [0.5, 0.75, 0.9]
        assert len(pd.read_csv("new/kept.csv")) == 3

    @pytest.mark.parametrize(
        ("file", "what"), [("studies", "a directory"), ("reports/kept.html", "that of the report")]
    )
    def test_csv_takes_no_other_place(
        self, location: StudyLocation, capsys: pytest.CaptureFixture[str], file: str, what: str
    ) -> None:
        assert main(["report", "--study", "kept", "--csv", file]) == 2
        assert f"--csv: expected a file, got {file}, {what}" in capsys.readouterr().err
        assert list(Path("reports").iterdir()) == []

    def test_compare_writes_one_page(
        self, location: StudyLocation, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = StudyLocation.at("other", studies_dir=Path("studies"))
        optuna.copy_study(
            from_study_name="kept",
            from_storage=location.url,
            to_storage=other.url,
            to_study_name="other",
        )
        assert main(["report", "--compare", "kept", "other"]) == 0
        assert capsys.readouterr().out == "reports/kept--vs--other.html\n"
        assert main(["report", "--compare", "kept", "kept"]) == 2
        assert "expected two studies, got 'kept' twice" in capsys.readouterr().err
        assert main(["report", "--compare", "kept", "gone"]) == 2
        assert "expected a study" in capsys.readouterr().err
        assert main(["report", "--compare", "kept", "other", "--csv", "x.csv"]) == 2
        assert main(["report"]) == 2

    def test_a_trial_of_another_version_is_told(self, location: StudyLocation) -> None:
        record = read_study(location)
        assert record.trials[2].outcome is None
        assert record.trials[2].val_accuracy == 0.9
        assert record.incumbent is not None
        assert record.incumbent.number == 1
        assert "written by another version" in parsed(render(record)).text
        assert "the seed 3" in parsed(render(record)).text

    @pytest.mark.parametrize(
        "changes",
        [
            {"colour": "red"},
            {"limits": {"most": 5}},
            {"recipe": {}},
            {"recipe": {"epochs": "many"}},
            {"input": None},
            {"dataset": None, "note": EVIL},
        ],
    )
    def test_settings_of_another_version_still_give_a_page(
        self,
        location: StudyLocation,
        capsys: pytest.CaptureFixture[str],
        changes: dict[str, object],
    ) -> None:
        change_settings(location, **changes)
        assert main(["report", "--study", "kept", "--json"]) == 0
        told = capsys.readouterr()
        assert told.err.startswith("note: ")
        assert len(json.loads(told.out)["trials"]) == 3
        page = Path("reports/kept.html").read_text(encoding="utf-8")
        text = parsed(page).text
        assert "cannot read the settings" in text
        assert "the highest is 90.00%" in text
        assert "45000" in text  # training images, as the study says
        assert "<script>alert" not in page

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("test_readings", [{"when": "yesterday"}]),
            ("test_readings", 3),
            ("test_readings", [{"began": 1, "plan": "", "networks": ""}]),
            ("searches", ["nas search"]),
            ("versions", ["torch 2"]),
            ("versions", 7),
            ("notes", [1, 2]),
            ("command", ["nas"]),
            ("settings", {**settings_to_json(SETTINGS), "tuning": {"lr": 3}}),
            ("settings", {**settings_to_json(SETTINGS), "recipe": {"epochs": 0}}),
            ("settings", {**settings_to_json(SETTINGS), "limits": {"max_parameters": "1"}}),
            ("settings", "none"),
        ],
    )
    def test_what_another_version_says_of_a_study_gives_a_page(
        self,
        location: StudyLocation,
        capsys: pytest.CaptureFixture[str],
        name: str,
        value: object,
    ) -> None:
        optuna.load_study(study_name="kept", storage=location.url).set_user_attr(name, value)
        assert main(["report", "--study", "kept"]) == 0
        assert capsys.readouterr().err.startswith("note: ")
        assert "the highest is 90.00%" in Path("reports/kept.html").read_text("utf-8")
        assert main(["report", "--compare", "kept", "kept-too"]) == 2

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("parameters", "many"),
            ("parameters", 1.5),
            ("parameters", -1),
            ("seconds", "long"),
            ("device", 0),
            ("worker", ["a", 1]),
            (None, 1.5),
            (None, float("inf")),
        ],
    )
    def test_what_another_version_says_of_a_trial_is_left_out(
        self, location: StudyLocation, name: str | None, value: Any
    ) -> None:
        made = optuna.load_study(study_name="kept", storage=location.url)
        asked = made.ask()
        asked.set_user_attr("outcome", "trained")
        if name is not None:
            asked.set_user_attr(name, value)
        made.tell(asked, 0.99 if name is not None else value)
        assert main(["report", "--study", "kept"]) == 0
        record = read_study(location)
        assert record.trials[3].outcome is None
        assert record.trials[3].val_accuracy == (0.99 if name is not None else None)
        assert record.incumbent is not None
        assert record.incumbent.number == 1
        assert "written by another version" in parsed(render(record)).text

    def test_a_study_without_settings(self, location: StudyLocation) -> None:
        study = optuna.create_study(study_name="own", storage="sqlite:///studies/own.db")
        assert main(["report", "--study", "own"]) == 2  # a search may be making it
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED))
        assert main(["report", "--study", "own"]) == 0
        assert "none with a validation accuracy" in Path("reports/own.html").read_text("utf-8")

    def test_pictures_without_a_browser(
        self,
        location: StudyLocation,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PATH", "")
        assert main(["report", "--study", "kept", "--png", "figures"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --png: expected Chromium or Chrome")
        assert list(Path("reports").iterdir()) == []  # refused before any work
        assert error.count("\n") == 1

    @pytest.mark.parametrize(
        ("does", "reason"),
        [
            ("exit 3", "it ended with exit status 3"),
            ("kill -KILL $$", "it ended with exit status -9"),
            ("echo '<html></html>'", "no figures"),
            ("""echo '<pre id="drawn">{"error": "a &lt; b"}</pre>'""", "a < b"),
        ],
    )
    def test_pictures_with_a_browser_that_fails(
        self,
        location: StudyLocation,
        does: str,
        reason: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        browser = Path("chromium").absolute()
        browser.write_text(f"#!/bin/sh\n{does}\n")
        browser.chmod(0o755)
        monkeypatch.setenv("PATH", str(browser.parent), prepend=":")
        assert main(["report", "--study", "kept", "--png", "figures"]) == 2
        error = capsys.readouterr().err
        assert f"got: {reason}; try another version" in error
        assert list(Path("figures").iterdir()) == []
