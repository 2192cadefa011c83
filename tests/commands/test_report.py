"""`nas report`: its files, and studies of another version."""

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from nas.commands import main
from nas.report.page import render
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.settings import settings_to_json
from tests.kits.pages import parsed
from tests.kits.records import EVIL, SETTINGS


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with three trials, one of them of an outcome that is unknown here."""
    folder = tmp_path_factory.mktemp("kept")
    location = StudyLocation.at("kept", studies_dir=folder)
    made = optuna.create_study(study_name="kept", storage=location.url, direction="maximize")
    made.set_user_attr("settings", settings_to_json(SETTINGS))
    made.set_user_attr("searches", [{"seed": 3, "sampler": "gp", "objectives": ["val_accuracy"]}])
    for accuracy, outcome in ((0.5, "trained"), (0.75, "trained"), (0.9, "perfected")):
        asked = made.ask()
        asked.set_user_attr("outcome", outcome)
        asked.set_user_attr("parameters", 1_000)
        asked.report(accuracy, 1)
        made.tell(asked, accuracy)
    return folder / "kept.db"


@pytest.fixture
def location(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyLocation:
    """A copy of it, which a test may change, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    shutil.copy(kept, "studies")
    return StudyLocation.at("kept", studies_dir=Path("studies"))


def change_settings(location: StudyLocation, **changes: object) -> None:
    made = optuna.load_study(study_name=location.name, storage=location.url)
    made.set_user_attr("settings", {**made.user_attrs["settings"], **changes})


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
        assert not Path("reports").exists()

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
        assert told.err.startswith("NOTE: ")
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
        assert capsys.readouterr().err.startswith("NOTE: ")
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
        assert not Path("reports").exists()  # refused before any work
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
        assert not Path("figures").exists()
