"""What people do to studies: move, copy, rename and remove their files, and edit their rows."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url

from nas.commands import main
from nas.final.final import FinalFailed, run_final
from nas.final.request import FinalRequest
from nas.final.runs import RunEnded
from nas.search.run import run_search
from nas.study.listing import ListedStudy, list_studies
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import DIED, Outcome, StudyRecord
from nas.study.store import open_store
from nas.training.checkpoint import Checkpoint
from tests.kits.commands import Capture, error_line, error_of
from tests.kits.dashboard import served
from tests.kits.events import on
from tests.kits.studies import TINY_SPACE, RequestOf
from tests.kits.waiting import wait_until

FAST = ["--budget", "5M", "--dataset", "digits", "--space", "tiny.toml", "--subset", "0.1"]
FAST += ["--epochs", "1", "--pruner", "none"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study `v` of four designs that were trained to the end."""
    folder = tmp_path_factory.mktemp("searched")
    space = folder / "tiny.toml"
    space.write_text(TINY_SPACE)
    run_search(RequestOf(folder, space)(study="v", trials=4, subset=0.1, pruner="none"))
    return folder


@pytest.fixture(autouse=True)
def folder(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(*options: str, trials: int | str) -> int:
    return main(["search", *FAST, "--trials", str(trials), *options])


def study_of(name: str) -> StudyRecord:
    return read_study(StudyLocation.at(name, studies_dir=Path("studies")))


def change(*statements: str, file: str = "studies/v.db") -> None:
    """What a person does with the command `sqlite3`."""
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


# --- a path is no longer the file that is open ---


def remove() -> None:
    for path in Path("studies").glob("v.db*"):
        path.unlink()


def replace() -> None:
    shutil.copy("copy.db", "copied.db")
    os.replace("copied.db", "studies/v.db")


def move_folder() -> None:
    Path("studies").rename("elsewhere")


GOINGS = pytest.mark.parametrize("go", [remove, replace, move_folder])


def files_in(folder: str, pattern: str = "*.db*") -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(folder).rglob(pattern) if p.name[0] != "."}


@GOINGS
def test_a_search_ends_in_one_line_when_its_file_is_gone(
    capsys: Capture, go: Callable[[], None]
) -> None:
    shutil.copy("studies/v.db", "copy.db")
    after: list[dict[str, bytes]] = []

    def in_between() -> None:
        wait_until(lambda: count("studies/v.db") > 5)
        go()
        after.append(files_in("studies", "*.db"))

    helper = threading.Thread(target=in_between)
    helper.start()
    status = search("--study", "v", trials=78)
    helper.join()
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if not line.startswith("trial ")]
    assert (status, captured.out) == (1, "")
    assert said[-1].startswith("error: studies/v.db: expected the study's file")
    assert "Traceback" not in captured.err
    assert sum("error" in line for line in said) == 1
    assert files_in("studies", "*.db") == after[0]  # nothing is made, nothing of another touched
    assert Path("studies").exists() == (go is not move_folder)
    assert not Path("studies/v").exists()
    if go is replace:  # no log of the other file is taken for one of this
        assert study_of("v").trained == 4
        with closing(sqlite3.connect("studies/v.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def count(path: str) -> int:
    """How many trials there are in a study's file; 0 when it cannot be read now."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.slow
def test_every_worker_ends_when_the_file_is_gone_and_one_line_says_so(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nas.search.workers.usable_cores", lambda: 2
    )  # by default a worker for each

    def in_between() -> None:
        wait_until(lambda: count("studies/v.db") > 5)
        remove()

    helper = threading.Thread(target=in_between)
    helper.start()
    status = search("--study", "v", trials=78)
    helper.join()
    said = capsys.readouterr().err.splitlines()
    assert status == 1
    assert any("2 workers of 1 thread" in line for line in said)
    assert sum("the study's file" in line for line in said) == 1
    assert said[-1].startswith("error: studies/v.db: expected the study's file where it was")
    assert files_in("studies") == {}


@GOINGS
def test_what_a_study_wrote_before_it_was_gone_is_all_there_is(go: Callable[[], None]) -> None:
    shutil.copy("studies/v.db", "copy.db")
    location = StudyLocation.at("v", studies_dir=Path("studies"))
    with open_store(location) as database:
        go()
        before = files_in(".")
        with (
            pytest.raises(sqlite3.OperationalError, match="the study's file"),
            database.allocation_lock(),
        ):
            pass
        with pytest.raises(sqlite3.OperationalError, match="the study's file"):
            database.report(1, {1: 0.5})
        database.engine.dispose()
        with pytest.raises(sqlite3.OperationalError, match="the study's file"):
            database.report(1, {1: 0.5})
    assert {name for name in files_in(".") if "-" not in name} <= before.keys()
    assert Path("studies").exists() == (go is not move_folder)


@GOINGS
def test_a_final_training_ends_when_the_study_is_gone(go: Callable[[], None]) -> None:
    shutil.copy("studies/v.db", "copy.db")
    after: list[dict[str, bytes]] = []

    def leave(event: RunEnded) -> None:
        go()
        after.append(files_in("studies"))

    request = FinalRequest(study="v", recipe="fast", epochs=1, top=1, seeds=1, subset=0.1)
    with pytest.raises(FinalFailed, match="the study's file"):
        run_final(request, on(RunEnded, leave))
    assert files_in("studies") == after[0]
    assert Path("studies").exists() == (go is not move_folder)


class Counted:
    """Something between two epochs."""

    def state(self) -> dict[str, object]:
        return {"epoch": 1}

    def load_state(self, state: dict[str, object]) -> None: ...


def test_a_checkpoint_makes_no_folder_where_the_study_was(tmp_path: Path) -> None:
    path = tmp_path / "studies" / "run" / "a.pt"
    checkpoint = Checkpoint(path, {}, parents=False)
    checkpoint.save(Counted(), at_once=True)
    assert checkpoint.error is None
    shutil.rmtree(path.parent)  # to make room: it is harmless to make it again
    checkpoint.save(Counted(), at_once=True)
    assert path.exists()
    move_folder()
    checkpoint.save(Counted(), at_once=True)
    assert isinstance(checkpoint.error, FileNotFoundError)
    assert not (tmp_path / "studies").exists()


@GOINGS
def test_a_dashboard_says_that_its_study_is_gone(tmp_path: Path, go: Callable[[], None]) -> None:
    shutil.copy("studies/v.db", "copy.db")
    with served(StudyLocation.at("v", studies_dir=Path("studies")), tmp_path) as dashboard:
        assert dashboard.ask(dashboard.path).status == 200
        go()
        before = files_in("studies")
        answers = [dashboard.ask(path) for path in (dashboard.path, "/api/studies", "/report")]
    for answer in answers:
        assert answer.status == 503
        assert b"studies/v.db: expected the study's file" in answer.content  # type: ignore[attr-defined]
    assert files_in("studies") == before


# --- the name of a file and that of the study in it ---


@pytest.fixture(params=["copied", "renamed"])
def other(request: pytest.FixtureRequest) -> str:
    """The study in a file of another name."""
    (shutil.copy if request.param == "copied" else shutil.move)("studies/v.db", "studies/w.db")
    return "w"


def names_in(path: str) -> list[str]:
    return optuna.get_all_study_names(f"sqlite:///{path}")


def test_a_file_is_its_study_whatever_its_name(capsys: Capture, tmp_path: Path, other: str) -> None:
    assert study_of(other).name == other
    assert main(["report", "--study", other]) == 0
    assert f"<title>{other}" in Path(f"reports/{other}.html").read_text("utf-8")
    assert main(["doctor", "--study", other]) == 0
    assert main(["train", "--study", other, "--epochs", "1", "--subset", "0.1"]) == 0
    assert [path.name for path in Path("runs").iterdir()] == [
        "w-trial-best-digits-subset-0.1-fast-epochs-1-seed0"
    ]
    with served(StudyLocation.at(other, studies_dir=Path("studies")), tmp_path) as dashboard:
        assert len(dashboard.detail()["trials"]) == 4
    final = ["--recipe", "fast", "--epochs", "1", "--top", "1", "--seeds", "1", "--subset", "0.1"]
    assert main(["final", "--study", other, *final]) == 0
    assert Path("studies/w/final/model.onnx").is_file()
    capsys.readouterr()
    assert search("--study", other, trials=5) == 0
    assert "nas.report --study w" in capsys.readouterr().out
    assert names_in("studies/w.db") == ["v"]
    assert study_of(other).trained == 5
    if Path("studies/v.db").exists():
        assert study_of("v").trained == 4


def test_workers_go_on_in_a_copy(other: str) -> None:
    assert search("--study", other, "--workers", "2", trials=6) == 0
    assert names_in("studies/w.db") == ["v"]
    assert study_of(other).trained == 6


def test_a_default_name_is_no_way_around_settings(capsys: Capture) -> None:
    shutil.copy("studies/v.db", "studies/digits-5M.db")
    assert search("--epochs", "2", trials=5) == 2
    assert "expected the settings the study was made with" in capsys.readouterr().err
    assert names_in("studies/digits-5M.db") == ["v"]


def test_of_several_studies_in_a_file_its_name_decides(capsys: Capture) -> None:
    for name in ("a", "b"):
        optuna.create_study(study_name=name, storage="sqlite:///studies/v.db")
    assert study_of("v").trained == 4
    shutil.move("studies/v.db", "studies/w.db")
    for command in (["report"], ["train"], ["dashboard", "--no-browser"], ["final"]):
        line = error_of(capsys, main([*command, "--study", "w"]))
        assert "studies/w.db: expected one study in the file" in line
        assert "'v', 'a', 'b'" in line
    assert "'v', 'a', 'b'" in error_line(capsys, search("--study", "w", trials=5))
    assert names_in("studies/w.db") == ["v", "a", "b"]
    url = ["--storage", StudyLocation.at("w", studies_dir=Path("studies")).url]
    assert main(["report", "--study", "v", *url]) == 0


def test_a_result_says_where_its_files_were_when_the_study_was_renamed(capsys: Capture) -> None:
    final = ["--recipe", "fast", "--epochs", "1", "--top", "1", "--seeds", "1", "--subset", "0.1"]
    assert main(["final", "--study", "v", *final]) == 0
    shutil.move("studies/v.db", "studies/w.db")
    capsys.readouterr()
    line = error_line(capsys, main(["final", "--study", "w", *final]))
    assert "studies/v/final" in line
    shutil.copytree("studies/v", "studies/w", dirs_exist_ok=True)
    assert main(["final", "--study", "w", *final]) == 0


# --- a URL is what SQLAlchemy takes it for ---


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///st/a%20c.db",  # of "a c.db" for SQLAlchemy 2.1
        "sqlite:///st/a c.db",
        "sqlite+pysqlite:///st/%23%25{x}.db",
        "sqlite:///{here}/st/x.db",
    ],
)
def test_a_url_is_read_as_sqlalchemy_reads_it(capsys: Capture, url: str) -> None:
    url = url.replace("{here}", str(Path.cwd()))
    file = os.path.relpath(make_url(url).database or "")
    assert search("--study", "s", "--storage", url, trials=1) == 0
    assert files_in("st").keys() == {file}
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT study_name FROM studies").fetchall() == [("s",)]
    assert main(["report", "--study", "s", "--storage", url]) == 0
    assert main(["doctor", "--study", "s", "--storage", url]) == 0


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///st/f.db?mode=memory",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:st/f.db?uri=true",
        "sqlite:///file:st/f.db?mode=memory&cache=shared&uri=true",
        "sqlite:///st/f.db?timeout=5",
        "sqlite:///st/f?g.db",
        "sqlite:///~/st/f.db",
        "sqlite://st/f.db",
        "sqlite+aiosqlite:///st/f.db",
        "sqlite+nodriver:///st/f.db",
        "postgresql+asyncpg://someone:hush@127.0.0.1:9/none",
        "sqlite:///st/a\0b.db",
        f"sqlite:///st/{'a' * 300}.db",
        "sqlite",
        "",
    ],
)
def test_other_urls_are_refused_before_anything_is_made(capsys: Capture, url: str) -> None:
    before = sorted(Path().rglob("*"))
    for command in (["search", *FAST], ["report"], ["train"], ["final"], ["dashboard"], ["doctor"]):
        line = error_of(capsys, main([*command, "--study", "s", "--storage", url]))
        assert "--storage: expected " in line
        assert "hush" not in line
    assert set(Path().rglob("*")) - set(before) <= {Path("reports")}


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "a{b}", "a b", "ä", "file:a"])
def test_studies_may_lie_in_folders_of_any_name(name: str) -> None:
    where = ["--studies-dir", name]
    assert search(*where, "--study", "s", trials=1) == 0
    assert search(*where, "--study", "s", trials=2) == 0
    assert main(["report", "--study", "s", *where]) == 0
    assert main(["doctor", "--study", "s", *where]) == 0
    assert files_in(name).keys() == {f"{name}/s.db"}


@pytest.mark.parametrize("storage", [[], ["--storage", "sqlite:///st/x.db"]])
@pytest.mark.parametrize("name", ["a" * 300, "ä" * 101, "", " ", "a\nb", "a\0b", "\udcff"])
def test_names_that_nothing_can_have_are_one_line(
    capsys: Capture, name: str, storage: list[str]
) -> None:
    before = set(Path().rglob("*"))
    for command in (["search", *FAST], ["report"], ["train"], ["final"], ["dashboard"], ["doctor"]):
        line = error_of(capsys, main([*command, "--study", name, *storage]))
        assert line.startswith("error: --study: expected a name")
        assert len(line) < 200
    assert set(Path().rglob("*")) - before <= {Path("reports")}


def test_a_lock_that_cannot_be_opened_is_a_finding(capsys: Capture) -> None:
    Path("studies/.v.db.lock").unlink(missing_ok=True)
    Path("studies/.v.db.lock").mkdir()
    assert main(["doctor", "--dataset", "digits", "--study", "v"]) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert len(found) == 1
    assert "studies/.v.db.lock: expected the lock file of studies/v.db" in found[0]
    assert "studies/.v.db.lock" in error_line(capsys, search("--study", "v", trials=5))
    assert main(["report", "--study", "v"]) == 0  # which locks nothing


# --- rows that nas has not written so ---

SECOND = "trial_id = (SELECT trial_id FROM trials WHERE number = 1)"


def attribute(name: str, value: str) -> str:
    return (
        f"UPDATE trial_user_attributes SET value_json = '{value}' WHERE key = '{name}' AND {SECOND}"
    )


DAMAGES = {
    "state": f"UPDATE trials SET state = 'DONE' WHERE {SECOND}",
    "no value": f"DELETE FROM trial_values WHERE {SECOND}",
    "nan": f"UPDATE trial_values SET value = NULL WHERE {SECOND}",
    "text": f"UPDATE trial_values SET value = 'good' WHERE {SECOND}",
    "epoch": f"UPDATE trial_intermediate_values SET intermediate_value = 'x' WHERE {SECOND}",
    "cut": attribute("channels", "[4, 6"),
    "cut outcome": attribute("outcome", '"trai'),
    "cut system": f"INSERT INTO trial_system_attributes (trial_id, key, value_json) "
    f"SELECT trial_id, 'x', '[1' FROM trials WHERE {SECOND}",
    "distribution": f"UPDATE trial_params SET distribution_json = '{{' WHERE {SECOND}",
    "time": f"UPDATE trials SET datetime_complete = 'yesterday' WHERE {SECOND}",
}
CHANGES = {
    "failed": f"UPDATE trials SET state = 'FAIL' WHERE {SECOND}",
    "large": f"UPDATE trial_values SET value = 7 WHERE {SECOND}",
    "unknown outcome": attribute("outcome", '"great"'),
    "wrong outcome": attribute("outcome", '"failed"'),
    "wrong type": attribute("blocks", "5"),
}


@pytest.mark.parametrize("kind", [*DAMAGES, *CHANGES])
def test_a_row_that_was_changed_takes_nothing_but_its_trial(
    capsys: Capture, tmp_path: Path, kind: str
) -> None:
    before = study_of("v")
    change((DAMAGES | CHANGES)[kind])
    after = study_of("v")
    others = [t for t in before.trials if t.number != 1]
    assert [t for t in after.trials if t.number != 1] == others
    assert [t.number for t in after.ranking if t.number == 1] == [1] * (kind == "wrong outcome")
    assert main(["report", "--study", "v"]) == 0
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("NOTE: study v, trial 1: ")
    assert main(["doctor", "--dataset", "digits", "--study", "v"]) == (kind in DAMAGES)
    said = capsys.readouterr().out
    assert "trial 1: " in said
    assert "studies/v.db is intact" in said
    with served(StudyLocation.at("v", studies_dir=Path("studies")), tmp_path) as dashboard:
        notes = {t["number"]: t["note"]["body"] for t in dashboard.detail()["trials"]}
    assert len(notes) == 4
    assert search("--study", "v", trials=5) == 0
    assert "NOTE: study v, trial 1: " in capsys.readouterr().err
    study = study_of("v")
    assert study.trained == 5
    assert [t for t in study.trials[:4] if t.number != 1] == others


@pytest.mark.parametrize(
    ("version", "what_helps"),
    [
        (
            "v2.6.0.a",
            "got older ones; run: optuna storage upgrade --storage sqlite:///studies/v.db",
        ),
        ("v99", "got newer ones; update nas"),
    ],
)
def test_tables_of_another_optuna_are_refused_with_what_helps(
    capsys: Capture, version: str, what_helps: str
) -> None:
    shutil.copy("studies/v.db", "studies/w.db")
    change(f"UPDATE alembic_version SET version_num = '{version}'")
    assert study_of("w").trained == 4
    for command in (["report"], ["final"], ["search", "--trials", "5"]):
        line = error_of(capsys, main([*command, "--study", "v"]))
        assert f"studies/v.db: expected the tables of Optuna {optuna.__version__}, got " in line
        assert what_helps in line
    assert study_of("w").trained == 4


def test_a_trial_that_was_set_to_fail_is_not_trained_again(capsys: Capture) -> None:
    best = study_of("v").incumbent
    assert best is not None
    change(f"UPDATE trials SET state = 'FAIL' WHERE number = {best.number}")
    study = study_of("v")
    assert study.trained == 3
    assert study.trials[best.number].outcome is Outcome.FAILED
    assert best.number not in {t.number for t in study.ranking}
    assert main(["train", "--study", "v", "--epochs", "1", "--subset", "0.1"]) == 0
    assert f"NOTE: study v, trial {best.number}: changed in the database" in capsys.readouterr().err
    final = ["--recipe", "fast", "--epochs", "1", "--top", "9", "--seeds", "1", "--subset", "0.1"]
    assert main(["final", "--study", "v", *final]) == 0
    captured = capsys.readouterr()
    assert f"trial {best.number}:" not in captured.out
    assert f"NOTE: study v, trial {best.number}: changed in the database" in captured.err


def test_a_trial_that_was_set_to_pruned_counts_and_is_no_candidate() -> None:
    change("UPDATE trials SET state = 'PRUNED' WHERE number = 1")
    study = study_of("v")
    assert (study.trained, study.trials[1].outcome) == (4, Outcome.STOPPED_EARLY)
    assert 1 not in {t.number for t in study.ranking}


@pytest.mark.parametrize("state", ["RUNNING", "WAITING"])
def test_a_trial_that_was_set_back_is_trained_again(state: str) -> None:
    change(f"UPDATE trials SET state = '{state}', datetime_complete = NULL WHERE number = 1")
    study = study_of("v")
    assert (study.trained, study.trials[1].outcome) == (3, None)
    assert search("--study", "v", trials=4) == 0
    study = study_of("v")
    again = state == "RUNNING"  # as if its worker had died
    assert (study.trained, len(study.trials), study.doubts) == (4, 4 + again, None)


def test_a_run_leaves_nothing_of_an_earlier_one_of_its_trial() -> None:
    before = study_of("v").trials[1]
    added = {
        "reason": '"the time was up"',
        "forecast": '"too low"',
        "last_heard": '"2026-01-01T00:00:00"',
    }
    change(
        f"UPDATE trials SET state = 'WAITING', datetime_complete = NULL WHERE {SECOND}",
        *(attribute(n, v) for n, v in {"outcome": '"stopped_early"', "seconds": "1e6"}.items()),
        attribute("epochs", "9"),
        f"UPDATE trial_intermediate_values SET step = 9 WHERE {SECOND}",
        *(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
            f"SELECT trial_id, '{name}', '{value}' FROM trials WHERE {SECOND}"
            for name, value in added.items()
        ),
    )
    assert search("--study", "v", trials=4) == 0
    after = study_of("v").trials[1]
    assert (after.architecture, after.outcome) == (before.architecture, Outcome.TRAINED)
    assert (after.reason, after.forecast) == (None, None)
    assert after.seconds is not None
    assert after.seconds < 1e6
    assert [epoch for epoch, _ in after.curve] == [1]
    trial = optuna.load_study(study_name="v", storage="sqlite:///studies/v.db").trials[1]
    assert list(trial.intermediate_values) == [1]
    assert trial.user_attrs.keys().isdisjoint(added)


@pytest.mark.parametrize("numbers", [(3,), (1,), (0,), (0, 1)], ids=str)
def test_a_search_goes_on_after_trials_were_deleted(
    capsys: Capture, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    change(*(f"DELETE FROM trials WHERE number = {number}" for number in numbers))
    left = [t for t in range(4) if t not in numbers]
    assert [t.number for t in study_of("v").trials] == left
    assert search("--study", "v", trials=5) == 0
    study = study_of("v")
    assert study.trained == 5
    found = [t.number for t in study.trials]
    assert found == sorted(set(found))
    assert found[: len(left)] == left
    assert main(["doctor", "--dataset", "digits", "--study", "v"]) == 0
    with served(StudyLocation.at("v", studies_dir=Path("studies")), tmp_path) as dashboard:
        detail = dashboard.detail()
    (best,) = detail["best_trials"]
    assert study.incumbent is not None
    assert best["number"] == study.incumbent.number
    assert all(t["note"]["body"] for t in detail["trials"])


def test_a_trial_of_another_version_counts_alike_for_all() -> None:
    attribute = f"{SECOND} AND key = 'parameters'"
    change(f"UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE {attribute}")
    before = study_of("v").trained
    assert search("--study", "v", trials="+1") == 0
    assert study_of("v").trained == before + 1


@pytest.mark.parametrize(
    "row",
    [
        "UPDATE trials SET state = 'FAIL' WHERE number = 1",
        "UPDATE trials SET state = 'PRUNED' WHERE number = 1",
        f"UPDATE trial_user_attributes SET value_json = '\"t' WHERE {SECOND} AND key = 'outcome'",
        f"UPDATE trial_values SET value = 'many' WHERE {SECOND}",
    ],
)
def test_the_list_of_studies_counts_as_the_study_does(row: str) -> None:
    change(row)
    (listed,) = list_studies(Path("studies"))
    study = study_of("v")
    assert isinstance(listed, ListedStudy)
    assert study.incumbent is not None
    assert listed.trained == study.trained
    assert listed.best_val_accuracy == study.incumbent.val_accuracy


def test_rows_that_are_missing_or_left_over_change_nothing() -> None:
    before = study_of("v")
    change(
        f"DELETE FROM trial_params WHERE {SECOND} AND param_name = 'pool'",
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (99, 'key', 'x')",
        "INSERT INTO trial_params (trial_id, param_name, param_value) VALUES (5, 'pool', 4)",
    )
    assert study_of("v") == before
    assert search("--study", "v", trials=5) == 0
    assert study_of("v").trained == 5


def test_a_running_trial_without_its_values_is_ended(capsys: Capture) -> None:
    change(
        f"UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE {SECOND}",
        f"DELETE FROM trial_params WHERE {SECOND} AND param_name = 'pool'",
    )
    assert search("--study", "v", trials=4) == 0
    study = study_of("v")
    assert (study.trained, study.trials[1].reason) == (4, DIED)
    again = study.trials[4]
    assert again.architecture == study.trials[1].architecture or "no longer" in (again.reason or "")


@pytest.mark.parametrize("name", ["settings", "searches", "notes", "test_readings"])
def test_a_damaged_attribute_of_a_study_is_named(capsys: Capture, name: str) -> None:
    change(
        f"DELETE FROM study_user_attributes WHERE key = '{name}'",
        "INSERT INTO study_user_attributes (study_id, key, value_json) "
        f"SELECT study_id, '{name}', '[{{\"dataset\": \"dig' FROM studies",
    )
    said = f"studies/v.db: expected a study that can be read, got one whose attribute '{name}'"
    for command in (["train"], ["final"], ["dashboard", "--no-browser"]):
        assert said in error_of(capsys, main([*command, "--study", "v"]))
    assert said in error_line(capsys, search("--study", "v", trials=5))
    assert main(["doctor", "--dataset", "digits", "--study", "v"]) == 1
    assert said in capsys.readouterr().out
    assert main(["report", "--study", "v"]) == 0
    assert said in capsys.readouterr().err
    assert "the highest is" in Path("reports/v.html").read_text("utf-8")


def test_a_damaged_count_of_allocations_is_counted_anew() -> None:
    change("UPDATE study_system_attributes SET value_json = 'x' WHERE key = 'nas:claims'")
    assert search("--study", "v", trials=5) == 0
