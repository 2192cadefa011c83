"""`nas studies`: what lies in a folder, and what in it is no study."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

import nas
from nas.commands import main
from nas.study.listing import ListedStudy, OtherFile, list_studies
from tests.kits.places import EXAMPLE
from tests.kits.studies import RequestOf


def studies(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What is printed; the status must be 0."""
    capsys.readouterr()
    assert main(["studies", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_list_says_what_the_studies_say(
    capsys: pytest.CaptureFixture[str], request_of: RequestOf
) -> None:
    request = request_of(trials=2, max_mult_adds=10_000_000)
    result = nas.run_search(request)
    folder = request.studies_dir
    shutil.copy(EXAMPLE, folder)
    example = nas.read_study(nas.StudyLocation.at("digits-example", studies_dir=folder))
    listed = list(list_studies(folder))
    for found, study in zip(listed, (result.study, example), strict=True):
        assert isinstance(found, ListedStudy)
        assert (found.name, found.trained) == (study.name, study.trained)
        assert found.dataset == study.settings.dataset
        assert found.limits == study.settings.limits
        assert study.incumbent is not None
        assert found.best_val_accuracy == study.incumbent.val_accuracy
    out, errors = studies(capsys, "--studies-dir", str(folder))
    assert errors == ""
    head, first, second = out.splitlines()
    assert head.split() == [
        "study",
        "dataset",
        "budget",
        "mult-adds",
        "time",
        "designs",
        "best",
        "state",
        "changed",
    ]
    assert first.split()[:6] == ["digits-5M", "digits", "5M", "10M", "none", "2"]
    assert second.split()[-9:-2] == ["-", "-", "50", "of", "50", "100.00%", "finished"]
    document = json.loads(studies(capsys, "--studies-dir", str(folder), "--json")[0])
    assert document["others"] == []
    assert [study["trained"] for study in document["studies"]] == [2, 50]
    assert [next(iter(study.items())) for study in document["studies"]] == [
        ("name", "digits-5M"),
        ("name", "digits-example"),
    ]
    assert [study["path"] for study in document["studies"]] == [
        str(folder / "digits-5M.db"),
        str(folder / "digits-example.db"),
    ]


def test_whether_a_study_is_finished_follows_from_what_was_asked(tmp_path: Path) -> None:
    def asked(path: Path, *trials: int | None) -> bool | None:
        with closing(sqlite3.connect(path)) as database, database:
            searches = [{} if number is None else {"trials": number} for number in trials]
            database.execute(
                "UPDATE study_user_attributes SET value_json = ? WHERE key = 'searches'",
                (json.dumps(searches),),
            )
        (found,) = list_studies(tmp_path)
        assert isinstance(found, ListedStudy)
        return found.finished

    path = Path(shutil.copy(EXAMPLE, tmp_path))
    assert asked(path, None) is None
    assert asked(path, 50) is True
    assert asked(path, 20, None) is True
    assert asked(path, 50, 60) is False
    assert asked(path, 60, 50) is True


def test_a_study_with_more_designs_than_its_last_search_asked_for_is_complete(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(shutil.copy(EXAMPLE, tmp_path))) as database, database:
        database.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'searches'",
            (json.dumps([{"trials": 80}, {"trials": 26}]),),
        )
    out, _ = studies(capsys, "--studies-dir", str(tmp_path))
    assert "50 of 50" in out
    assert "unfinished" not in out
    study = nas.read_study(nas.StudyLocation.at("digits-example", studies_dir=tmp_path))
    assert study.asked == 26


def test_what_a_study_of_version_0_1_0_was_asked_for_is_in_its_command(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    study = nas.read_study(nas.StudyLocation.at("digits-example", studies_dir=tmp_path))
    assert study.asked == 50


def test_files_that_are_no_study_are_one_line_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = EXAMPLE.read_bytes()
    (tmp_path / "a-text.db").write_text("just words\n" * 1000)
    (tmp_path / "b-cut.db").write_bytes(whole[:5000])
    (tmp_path / "c-empty.db").touch()
    (tmp_path / "d-folder.db").mkdir()
    (tmp_path / "e-link.db").symlink_to(tmp_path / "nowhere")
    with closing(sqlite3.connect(tmp_path / "f-foreign.db")) as database, database:
        database.execute("CREATE TABLE songs (name TEXT)")
    optuna.create_study(study_name="own", storage=f"sqlite:///{tmp_path}/g-optuna.db")
    for name, settings in (("h-words.db", "no JSON"), ("i-other.db", '{"budget": 3}')):
        path = Path(shutil.copy(EXAMPLE, tmp_path / name))
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "UPDATE study_user_attributes SET value_json = ? WHERE key = 'settings'",
                (settings,),
            )
    (tmp_path / "j-\x1b[2J\nname.db").touch()
    damaged = bytearray(whole)
    damaged[4096:-4096] = bytes(len(whole) - 8192)
    (tmp_path / "k-damaged.db").write_bytes(damaged)
    (tmp_path / "notes.txt").write_text("no study, and not called one")
    shutil.copy(EXAMPLE, tmp_path / "z-whole.db")
    found = list(list_studies(tmp_path))
    assert [type(one) for one in found] == [OtherFile] * 11 + [ListedStudy]
    out, errors = studies(capsys, "--studies-dir", str(tmp_path))
    assert [line.split()[0] for line in out.splitlines()] == ["study", "z-whole"]
    lines = errors.splitlines()
    assert len(lines) == 11
    assert all(line.startswith(f"NOTE: {tmp_path}/") and "expected" in line for line in lines)
    assert "\x1b" not in errors
    document = json.loads(studies(capsys, "--studies-dir", str(tmp_path), "--json")[0])
    assert [other["path"] for other in document["others"]] == [
        str(one.path) for one in found if isinstance(one, OtherFile)
    ]


def test_a_study_under_another_file_name_has_that_name(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "copy.db")
    (found,) = list_studies(tmp_path)
    assert isinstance(found, ListedStudy)
    assert found.name == "copy"


def test_a_folder_without_studies_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        out, errors = studies(capsys, "--studies-dir", str(folder))
        assert (out, errors) == (f"no studies in {folder}; nas search starts one\n", "")
    empty = json.loads(studies(capsys, "--studies-dir", str(tmp_path), "--json")[0])
    assert (empty["studies"], empty["others"]) == ([], [])
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").touch()
    assert main(["studies", "--studies-dir", str(tmp_path / "file")]) == 2
    said = f"error: --studies-dir: expected a folder that can be read, got {tmp_path}/file"
    assert capsys.readouterr().err.startswith(said)


def test_nothing_heavy_is_loaded_and_nothing_written(tmp_path: Path) -> None:
    path = Path(shutil.copy(EXAMPLE, tmp_path))
    before = path.read_bytes()
    assert len(list(list_studies(tmp_path))) == 1
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
