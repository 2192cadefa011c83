"""Optuna Dashboard, through its own API and in Chromium: it says what the study says."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import optuna
import optuna_dashboard
import pytest
from playwright.sync_api import Dialog, expect

from nas.architecture import PRESETS
from nas.commands import main
from nas.commands.dashboard import has_browser
from nas.dashboard.live import LiveStudy
from nas.dashboard.notes import curve_in_words, curve_svg, study_note, trial_note
from nas.dashboard.server import HOST
from nas.report.page import render
from nas.search.run import SearchResult, run_search
from nas.study.location import StudyLocation
from nas.study.reader import open_existing, read_study
from nas.study.records import TIME_UP, Outcome, StudyRecord, TrialRecord
from nas.templates import code
from tests.kits import warm
from tests.kits.chromium import chromium, heard_of, new_page, until, violations
from tests.kits.commands import Capture, error_of
from tests.kits.dashboard import Served, served
from tests.kits.places import EXAMPLE
from tests.kits.studies import RequestOf, queue_design
from tests.kits.waiting import PATIENCE, wait_until

EVIL = "<script>alert(1)</script>"
BUDGET = 2_500


def small_search(request_of: RequestOf) -> tuple[StudyLocation, StudyRecord]:
    """A study with designs that were trained, and one that was over the budget."""
    first = run_search(request_of(trials=2, max_parameters=BUDGET))
    queue_design(first.location, blocks_1=2, channels_1=8)
    result = run_search(request_of(trials=3, max_parameters=BUDGET))
    return result.location, result.study


def add_trials(location: StudyLocation) -> None:
    """Adds what a short search does not have: failures, a tie, trials of others, running ones."""
    study = optuna.load_study(study_name=location.name, storage=location.url)
    best = study.best_trial
    state = optuna.trial.TrialState

    def add(kind: optuna.trial.TrialState, value: float | None = None, **attributes: str) -> None:
        trial = optuna.trial.create_trial(
            state=kind, value=value, user_attrs={**best.user_attrs, **attributes}
        )
        study.add_trial(trial)

    add(state.COMPLETE, best.value, outcome="trained")  # of equals the earlier is the incumbent
    add(state.FAIL, outcome="failed", reason=f"no memory for {EVIL}")
    add(state.PRUNED, outcome="diverged", reason="the loss is nan")
    study.add_trial(optuna.trial.create_trial(state=state.COMPLETE, value=2.0))  # by hand
    study.enqueue_trial({"stages": 1})
    study.ask()


def test_the_dashboard_says_what_the_study_says(request_of: RequestOf, tmp_path: Path) -> None:
    location, _ = small_search(request_of)
    add_trials(location)
    assert location.path is not None
    before = location.path.read_bytes()
    with served(location, tmp_path) as dashboard:
        detail = dashboard.detail()
        page = dashboard.ask(dashboard.path)
        trials = {trial["number"]: trial for trial in detail["trials"]}
        study = read_study(location)
        number = dashboard.first.rsplit("/", 1)[1]
        curve = dashboard.ask(f"/curve/{number}/{study.ranking[0].number}.svg?epochs=1")
        none = dashboard.ask(f"/curve/{number}/999.svg")
    assert b"<html" in page.content.lower()  # type: ignore[attr-defined]
    assert location.path.read_bytes() == before  # nothing is stored
    assert study.incumbent is not None
    assert study.ranking[1].val_accuracy == study.incumbent.val_accuracy
    (best,) = detail["best_trials"]
    assert best == trials[study.incumbent.number]
    infeasible = {n for n, t in trials.items() if any(value > 0 for value in t["constraints"])}
    over = {t.number for t in study.trials if t.outcome is Outcome.OVER_BUDGET}
    assert infeasible == over
    assert over
    notes = {number: trial["note"] for number, trial in trials.items()}
    assert all(note["version"] == 0 and note["body"] for note in notes.values())
    for trial in study.trials:
        body = notes[trial.number]["body"]
        if trial.architecture is not None:
            assert f"**{trial.architecture}**" in body
            assert f"{trial.parameters:,} parameters" in body
        if trial.outcome is Outcome.TRAINED and trial.curve:
            address = f"/curve/{number}/{trial.number}.svg?epochs={len(trial.curve)}"
            assert f"({address})" in body
            assert body.startswith(
                f"**Trained to the end**, validation accuracy {trial.val_accuracy:.2%}"
            )
        if trial.outcome is Outcome.OVER_BUDGET:
            assert body.startswith("**Over budget**, so infeasible and never built")
            assert f"more than the limit of {BUDGET:,}" in body
    said = " ".join(note["body"] for note in notes.values())
    assert f"**Failed**: `no memory for {EVIL}`." in said
    assert "`the loss is nan`" in said
    assert "**Ended without an outcome**" in said
    assert "**In training**" in said or "**Queued**" in said
    assert f"Trial {study.incumbent.number}: " in detail["note"]["body"]
    note = detail["note"]["body"]
    assert f"[**Report of this study**](/report/{number})" in note
    assert "mattered cannot be told" in note  # below 20 designs
    for name in ("stages", "blocks", "channels", "kernels", "shortcut_kernels", "pool"):
        assert re.search(rf"`{name}(_\d)?`", note)
    assert "choices for channels (C): 4, 6 or 8 in every stage" in note
    shown = {attribute["key"] for attribute in detail["user_attrs"]}
    assert {"seed", "command"} <= shown
    assert "settings" not in shown  # JSON, of which the note has it all
    assert curve.headers["Content-Type"] == "image/svg+xml"
    assert none.status == 404


def test_a_note_that_a_person_wrote_stays(one_trial: SearchResult, tmp_path: Path) -> None:
    with served(one_trial.location, tmp_path, allow_edits=True) as dashboard:
        trial = dashboard.detail()["trials"][0]
        of_study = f"/api/studies/{trial['study_id']}"
        for address in (f"{of_study}/note", f"{of_study}/{trial['trial_id']}/note"):
            note = json.dumps({"version": 1, "body": "my own words"})
            kind = {"Content-Type": "application/json"}
            assert dashboard.ask(address, "PUT", note, **kind).status == 204
    with served(one_trial.location, tmp_path) as dashboard:  # where none can be written
        detail = dashboard.detail()
    assert detail["note"] == {"version": 1, "body": "my own words"}
    assert detail["trials"][0]["note"] == {"version": 1, "body": "my own words"}


def test_a_study_is_changed_only_where_that_is_allowed(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    assert one_trial.location.path is not None
    before = one_trial.location.path.read_bytes()
    new_name = json.dumps({"study_name": "other"})
    kind = {"Content-Type": "application/json"}
    with served(one_trial.location, tmp_path) as dashboard:
        study = "/api" + dashboard.path.removeprefix("/dashboard")
        number = dashboard.detail()["trials"][0]["trial_id"]
        for method, path in (
            ("POST", "/api/studies"),
            ("POST", f"{study}/rename"),
            ("DELETE", study),
            ("PUT", f"{study}/note"),
            ("PUT", f"{study}/{number}/note"),
            ("POST", f"/api/trials/{number}/tell"),
            ("POST", f"/api/trials/{number}/user-attrs"),
            ("POST", "/incompatible-rdb-schema"),
            ("PATCH", study),
        ):
            answer = dashboard.ask(path, method, new_name, **kind)
            assert answer.status == 403
            reason = json.loads(answer.content)["reason"]  # type: ignore[attr-defined]
            assert "nas dashboard --allow-edits" in reason
        assert dashboard.ask(study, "HEAD").status == 200
    assert one_trial.location.path.read_bytes() == before
    with served(one_trial.location, tmp_path, allow_edits=True) as dashboard:
        assert dashboard.ask(f"{study}/rename", "POST", new_name, **kind).status == 201
    assert optuna.get_all_study_names(one_trial.location.url) == ["other"]


def test_no_route_of_the_dashboard_changes_anything(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    path = one_trial.location.path
    assert path is not None
    app = optuna_dashboard.wsgi(optuna.storages.InMemoryStorage())
    routes = {(route.method, route.rule) for route in app.routes}
    assert {method for method, _ in routes} >= {"GET", "POST", "PUT", "DELETE"}
    kind = {"Content-Type": "application/json"}
    body = json.dumps(
        {
            **{"version": 1, "body": "x", "study_name": "x", "directions": ["maximize"]},
            **{"state": "fail", "user_attrs": {"x": 1}, "mode": "ChooseWorst"},
        }
    )
    for location in (one_trial.location, None):
        with served(location, tmp_path) as dashboard:
            before = path.read_bytes()
            number = numbers_of(dashboard)[one_trial.study.name] if location is None else "1"
            trial = dashboard.detail(number)["trials"][0]["trial_id"]
            for method, rule in routes:
                address = rule.replace("<study_id:int>", number)
                address = address.replace("<trial_id:int>", str(trial)).partition("<:re")[0]
                address = re.sub("<[^>]*>", "1", address)
                answer = dashboard.ask(address, method, body if method != "GET" else None, **kind)
                assert (answer.status == 403) == (method != "GET"), (method, address)
            assert path.read_bytes() == before


def numbers_of(dashboard: Served) -> dict[str, str]:
    """The studies of a list, and their numbers in its addresses."""
    page = dashboard.ask("/").content.decode()  # type: ignore[attr-defined]
    found = re.findall(r'href="/report/(\d+)"><strong>([^<]*)</strong>', page)
    return {name: number for number, name in found}


def test_report_and_model_are_served_and_nothing_else(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    model = tmp_path / "studies" / one_trial.study.name / "final"
    (model / "runs").mkdir(parents=True)
    (model / "metrics.json").write_text("{}")
    (model / "model.onnx").write_bytes(b"onnx")
    (model / ".lock").touch()
    (tmp_path / "studies" / "secret.txt").write_text("secret")
    with served(one_trial.location, tmp_path) as dashboard:
        body = dashboard.detail()["note"]["body"]
        report, metrics, onnx = re.findall(r"\]\((/[^)]*)\)", body)
        assert report == dashboard.first
        files = report.replace("report", "model")
        assert (metrics, onnx) == (f"{files}/metrics.json", f"{files}/model.onnx")
        found = {link: dashboard.ask(link) for link in (report, metrics, onnx)}
        page = found[report].content.decode()  # type: ignore[attr-defined]
        link = f'<p><a href="{dashboard.path}">This study in Optuna Dashboard</a></p>\n'
        assert page.replace(link, "") == render(one_trial.study, model)
        assert found[report].headers["Content-Type"] == "text/html; charset=utf-8"
        assert "sandbox" in found[report].headers["Content-Security-Policy"]
        assert "attachment" in found[onnx].headers["Content-Disposition"]
        assert found[metrics].headers["X-Content-Type-Options"] == "nosniff"
        hidden = (".lock", "runs", "runs/x", "../../secret.txt", "..%2f..%2fsecret.txt", "", "/etc")
        assert {dashboard.ask(f"{files}/{name}").status for name in hidden} == {404}
        assert {dashboard.ask(f"/report/{name}").status for name in ("7", "1/x", "x", "")} == {404}
        assert dashboard.ask(report, "POST", "x").status == 405
        assert dashboard.ask(report, "HEAD").content == b""  # type: ignore[attr-defined]


def test_the_report_grows_with_the_study(one_trial: SearchResult, request_of: RequestOf) -> None:
    live = LiveStudy(open_existing(one_trial.location), one_trial.location, Path("nowhere"))
    before = live.report()
    assert live.report() is before  # nothing has ended since
    run_search(request_of(trials=2))
    assert live.report() != before
    assert live.report().decode() == render(live.record(), Path("nowhere"))


def test_without_a_study_there_is_a_list_of_all(one_trial: SearchResult, tmp_path: Path) -> None:
    path = one_trial.location.path
    assert path is not None
    shutil.copy(EXAMPLE, path.parent)
    (path.parent / "other.db").write_text(f"no database {EVIL}")
    with served(None, tmp_path) as dashboard:
        page = dashboard.ask(dashboard.first).content.decode()  # type: ignore[attr-defined]
        assert "digits-example" in page
        assert "1 of 1" in page
        assert "100.00%" in page
        assert "other.db" in page
        numbers = numbers_of(dashboard)
        assert set(numbers) == {one_trial.study.name, "digits-example"}
        listed = json.loads(dashboard.ask("/api/studies").content)  # type: ignore[attr-defined]
        assert {s["study_name"]: str(s["study_id"]) for s in listed["study_summaries"]} == numbers
        for name, number in numbers.items():
            location = StudyLocation.at(name, studies_dir=path.parent)
            study = read_study(location)
            report = dashboard.ask(f"/report/{number}").content.decode()  # type: ignore[attr-defined]
            assert f"<title>{name}" in report
            assert '<a href="/">All studies</a>' in report
            detail = dashboard.detail(number)
            assert len(detail["trials"]) == len(study.trials)
            assert {str(trial["study_id"]) for trial in detail["trials"]} == {number}
            (best,) = detail["best_trials"]
            assert study.incumbent is not None
            assert best["number"] == study.incumbent.number
            assert f"(/report/{number})" in detail["note"]["body"]
            assert dashboard.ask(f"/dashboard/studies/{number}").status == 200
        assert dashboard.ask("/report/1").status == 404
        number = numbers[one_trial.study.name]
        path.unlink()
        assert dashboard.ask(f"/report/{number}").status == 404
        assert set(numbers_of(dashboard)) == {"digits-example"}
        shutil.copy(EXAMPLE, path)  # another one of that name
        assert len(dashboard.detail(number)["trials"]) == 50


def test_a_study_with_settings_of_another_version_is_in_the_list(tmp_path: Path) -> None:
    path = tmp_path / "studies" / "old.db"
    path.parent.mkdir()
    shutil.copy(EXAMPLE, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE study_user_attributes SET value_json='{}' WHERE key='settings'")
    with served(None, tmp_path) as dashboard:
        page = dashboard.ask("/").content.decode()  # type: ignore[attr-defined]
        assert "expected a study made by this version of nas" in page
        (number,) = re.findall(r'href="/report/(\d+)">old</a>', page)
        report = dashboard.ask(f"/report/{number}").content.decode()  # type: ignore[attr-defined]
        assert "cannot read the settings of this study" in report
        assert len(dashboard.detail(number)["trials"]) == 50


def test_an_empty_folder_has_an_empty_list(tmp_path: Path) -> None:
    with served(None, tmp_path) as dashboard:
        assert b"No studies yet" in dashboard.ask("/").content  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", [["--allow-edits"], ["--storage", "sqlite:///x.db"]])
def test_options_of_one_study_need_its_name(option: list[str], capsys: Capture) -> None:
    assert "expected --study with it" in error_of(capsys, main(["dashboard", *option]))


def test_other_pages_in_the_same_browser_are_turned_away(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    with served(one_trial.location, tmp_path, allow_edits=True) as dashboard:
        own = f"{HOST}:{dashboard.port}"
        study = "/api" + dashboard.path.removeprefix("/dashboard")
        for path in (study, dashboard.path, "/static/bundle.js", dashboard.first, "/"):
            for host in (
                "evil.example",
                f"evil.example:{dashboard.port}",
                "127.0.0.1.evil.example",
                "[::1].evil.example",
                "[::2]",
            ):
                assert dashboard.ask(path, Host=host).status == 403
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            assert dashboard.ask(study, "DELETE", Origin=origin, Host=own).status == 403
        # The last two as through `ssh -L 9000:localhost:8080`.
        for host in (own, "localhost", f"[::1]:{dashboard.port}", "localhost:9000", "[::1]:9000"):
            assert dashboard.ask(dashboard.path, Host=host).status == 200
            assert dashboard.ask(study, Host=host, Origin=f"http://{host}").status == 200
        assert dashboard.detail()["trials"]


def test_a_study_of_another_program_or_version_is_shown_without_notes_of_trials(
    one_trial: SearchResult, tmp_path: Path
) -> None:
    assert one_trial.location.path is not None
    with closing(sqlite3.connect(one_trial.location.path)) as database, database:
        database.execute("DELETE FROM study_user_attributes WHERE key = 'settings'")
    with served(one_trial.location, tmp_path) as dashboard:
        detail = dashboard.detail()
    assert "expected a study made by this version of nas" in detail["note"]["body"]
    assert [trial["note"]["body"] for trial in detail["trials"]] == [""]
    assert len(detail["best_trials"]) == 1


def test_a_database_that_can_be_read_no_more_is_one_line(
    one_trial: SearchResult, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = one_trial.location.path
    assert path is not None
    with served(one_trial.location, tmp_path) as dashboard:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DROP TABLE study_user_attributes")
        report, curve = dashboard.first, dashboard.first.replace("report", "curve") + "/0.svg"
        for address in (report, curve):
            answer = dashboard.ask(address)
            assert answer.status == 503
            (line,) = answer.content.decode().splitlines()  # type: ignore[attr-defined]
            assert line.startswith(f"{path}: expected a database that can be opened, got no such")
    assert "Traceback" not in capfd.readouterr().err


def test_notes_follow_a_search_that_goes_on(one_trial: SearchResult) -> None:
    location = one_trial.location
    live = LiveStudy(open_existing(location), location, Path("nowhere"))
    study = optuna.load_study(study_name=one_trial.study.name, storage=one_trial.location.url)
    assert live.trial_note(1, live.record()) == ""
    trial = study.ask()
    assert live.trial_note(1, live.record()) == "**In training**: 0 of 1 epoch done."
    before = live.record()
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    after = live.record()
    assert "**In training**" in live.trial_note(1, before)
    assert "**Ended without an outcome**" in live.trial_note(1, after)
    nothing = study_note(replace(after, trials=()), report="/report/1")
    assert "**Found:** The study has no trials yet." in nothing


def test_text_from_elsewhere_means_nothing_in_a_note(one_trial: SearchResult) -> None:
    record = one_trial.study
    evil = f"x`` ![p](http://a.example) {EVIL}\n# h"
    study = replace(
        record,
        name=evil,
        command=evil,
        notes=(evil,),
        settings=replace(record.settings, dataset=evil),
    )
    trial = replace(record.trials[0], outcome=Outcome.FAILED, reason=evil)
    inside = f"``` x`` ![p](http://a.example) {EVIL} # h ```"
    assert code(evil) == inside
    note = study_note(study, report="/report/1")
    for text in (note, trial_note(trial, study.settings, curve="/curve/0.svg")):
        outside = text.replace(inside, "")
        assert "\n# h" not in outside
        assert EVIL not in outside
        assert "![p]" not in outside


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (((1, 0.5),), "50.00% after epoch 1"),
        (
            ((1, 0.25), (2, 0.75), (3, 0.5)),
            "25.00% after epoch 1, at best 75.00% after epoch 2, 50.00% after epoch 3",
        ),
    ],
)
def test_a_curve_is_a_picture_and_words(curve: tuple[tuple[int, float], ...], said: str) -> None:
    assert curve_in_words(curve) == said
    picture = curve_svg(curve, 10)
    assert picture.count("<circle") == len(curve)
    assert ">10</text>" in picture
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', picture)]
    assert xs == sorted(xs)
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)"', picture)]
    heights = sorted(zip((accuracy for _, accuracy in curve), ys, strict=True))
    assert [y for _, y in heights] == sorted(ys, reverse=True)  # y grows downwards


def test_a_design_of_another_space_and_odd_numbers_have_notes(one_trial: SearchResult) -> None:
    settings = one_trial.study.settings
    trial = TrialRecord(
        number=3,
        outcome=Outcome.STOPPED_EARLY,
        architecture=PRESETS["resnet18-narrow-stem"],
        preset="resnet18-narrow-stem",
        val_accuracy=float("nan"),
        curve=((1, float("nan")),),
        training={"optimizer": "sgd", "lr": 0.1},
    )
    note = trial_note(trial, settings, curve="/curve/3.svg")
    assert "stem of 32 channels with bias" in note
    assert "the known design `resnet18-narrow-stem`" in note
    assert "trained with `sgd 0.1" in note
    assert "<circle" not in curve_svg(trial.curve, 1)


def test_the_note_of_a_stopped_run_says_why(one_trial: SearchResult) -> None:
    settings = one_trial.study.settings
    forecast = "12.0% by epoch 1: 30.0% expected"
    stopped = TrialRecord(
        number=3, outcome=Outcome.STOPPED_EARLY, val_accuracy=0.12, curve=((1, 0.12),)
    )
    note = trial_note(replace(stopped, forecast=forecast), settings, curve="/curve/3.svg")
    assert note.startswith("**Stopped early** after 1 of 1 epoch, validation accuracy 12.00%")
    assert f"): `{forecast}`." in note
    late = trial_note(replace(stopped, reason=TIME_UP), settings, curve="/curve/3.svg")
    assert late.startswith("**Stopped at the time limit** after 1 of 1 epoch, validation")
    blank = replace(stopped, val_accuracy=None, curve=())
    note = trial_note(blank, settings, curve="/curve/3.svg")
    assert note.startswith("**Stopped early** after 0 of 1 epoch, no accuracy recorded.")


def study_options(location: StudyLocation) -> list[str]:
    assert location.path is not None
    return ["--study", location.name, "--studies-dir", str(location.path.parent)]


def test_a_port_that_is_asked_for_and_taken_is_one_line(
    one_trial: SearchResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(one_trial.location, tmp_path) as dashboard:
        port = str(dashboard.port)
        assert main(["dashboard", *study_options(one_trial.location), "--port", port]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"error: --port: expected a free port, got {port}")


def test_a_port_is_looked_for_before_a_study_is_read(tmp_path: Path, capsys: Capture) -> None:
    with served(None, tmp_path) as dashboard:
        options = ["--study", "none", "--studies-dir", str(tmp_path)]
        error = error_of(capsys, main(["dashboard", *options, "--port", str(dashboard.port)]))
        assert "--port: expected a free port" in error
        error = error_of(capsys, main(["dashboard", *options]))
        assert "expected a study, got no such file" in error


@pytest.mark.parametrize(("options", "status"), [([], 403), (["--allow-edits"], 204)])
def test_the_command_finds_a_free_port_and_opens_the_browser(
    one_trial: SearchResult, tmp_path: Path, options: list[str], status: int
) -> None:
    result = one_trial
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    terminal, theirs = os.openpty()
    with socket.socket() as taken:
        held = False
        with contextlib.suppress(OSError):  # another program has it, for as long as it likes
            taken.bind((HOST, 8080))
            taken.listen()
            held = True
        process = warm.Popen[bytes](
            [sys.executable, "-m", "nas.dashboard", *study_options(result.location), *options],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "BROWSER": f"{browser} %s"},
        )
        os.close(theirs)
        try:
            with os.fdopen(terminal, closefd=False) as lines:
                address = lines.readline().strip()
            assert not (held and address.startswith(f"http://{HOST}:8080/"))
            with urllib.request.urlopen(address, timeout=PATIENCE) as page:
                assert f"<title>{result.study.name}".encode() in page.read()
            url = urlsplit(address)
            assert url.port is not None
            note = json.dumps({"version": 1, "body": "my own words"})
            path = url.path.replace("/report", "/api/studies") + "/note"
            kind = {"Content-Type": "application/json"}
            assert Served(url.port, url.path).ask(path, "PUT", note, **kind).status == status
            wait_until(opened.exists)
            assert opened.read_text().strip() == address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
            os.close(terminal)
    assert process.returncode == 130


def test_a_browser_is_opened_only_where_there_is_a_window() -> None:
    assert has_browser({"DISPLAY": ":0"}, "linux")
    assert has_browser({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert has_browser({}, "darwin")
    assert not has_browser({"DISPLAY": ""}, "linux")


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore:Some regimes for parameter")  # too few trials for importances
def test_a_click_through_in_chromium(request_of: RequestOf, tmp_path: Path) -> None:
    name = f"evil {EVIL} <img src=x onerror=alert(1)>"
    storage = f"sqlite:///{tmp_path}/evil.db"
    changes = {"study": name, "storage": storage, "max_parameters": BUDGET}
    first = run_search(request_of(trials=2, **changes))
    queue_design(first.location, blocks_1=2, channels_1=8)
    result = run_search(request_of(trials=3, **changes))
    best = result.study.incumbent
    assert best is not None
    over = [t for t in result.study.trials if t.outcome is Outcome.OVER_BUDGET]
    with served(result.location, tmp_path) as dashboard, chromium() as browser:
        page = new_page(browser)
        problems: list[str] = []

        def dismiss(dialog: Dialog) -> None:
            problems.append(dialog.message)
            dialog.dismiss()

        def shows(text: str) -> None:
            page.get_by_text(text).first.wait_for()

        page.on("dialog", dismiss)
        page.goto(dashboard.address + dashboard.path)
        shows(f"Best Trial (number={best.number})")
        page.locator(f'a[href="{dashboard.path}/trials"]').click()
        shows(f"{len(result.study.trials)} Trials")
        listed = page.get_by_role("button")
        listed.filter(has=page.get_by_text(f"Trial {over[0].number}", exact=True)).click()
        shows("Over budget, so infeasible and never built")
        entry = listed.filter(has=page.get_by_text(f"Trial {best.number}", exact=True))
        expect(entry).to_contain_text("Best Trial")
        entry.click()
        shows("Trained to the end, validation accuracy")
        shows(f"{best.parameters:,} parameters")
        until(page, "document.querySelector('img[src^=\"/curve/\"]').naturalWidth > 0")
        page.locator(f'a[href="{dashboard.path}/note"]').click()
        shows("Asked: The most accurate")
        page.locator(f'a[href="{dashboard.first}"]').click()
        expect(page.locator("h1")).to_contain_text(EVIL)
        expect(page.locator("svg").first).to_be_visible()
        heard = heard_of(page)
        problems += heard.errors
        problems += [message.text for message in heard.messages if message.type == "error"]
        assert problems == []


@pytest.mark.browser
def test_the_list_in_chromium(request_of: RequestOf, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    small_search(request_of)
    shutil.copy(EXAMPLE, studies)
    (studies / "other.db").write_text("no database")
    with served(None, tmp_path) as dashboard, chromium() as browser:
        for width in (390, 1440):
            page = new_page(browser, width=width)
            page.goto(dashboard.address)
            expect(page.get_by_role("heading", level=1)).to_contain_text("Studies in")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.get_by_role("link", name="digits-example", exact=True).click()
            expect(page.locator("h1")).to_contain_text("digits-example")
            page.get_by_role("link", name="This study in Optuna Dashboard").click()
            page.get_by_text("Best Trial (number=24)").wait_for()
            page.go_back()
            page.get_by_role("link", name="All studies").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("Studies in")
            assert heard_of(page).errors == []


@pytest.mark.browser
@pytest.mark.skipif("NAS_AXE" not in os.environ, reason="needs axe-core: NAS_AXE=.../axe.min.js")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_in_the_list(
    one_trial: SearchResult, tmp_path: Path, theme: Literal["light", "dark"], width: int
) -> None:
    (tmp_path / "studies" / "other.db").write_text("no database")
    with served(None, tmp_path) as dashboard, chromium() as browser:
        page = new_page(browser, width=width, bypass_csp=True)
        page.emulate_media(color_scheme=theme)
        page.goto(dashboard.address)
        assert violations(page) == []
