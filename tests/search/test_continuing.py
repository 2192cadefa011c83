"""A study goes on by its name alone: settings, data folder and number of designs are its own."""

import json
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import nas
from nas.commands import main
from nas.data.catalogue import folder_name
from nas.search.continuing import continued, data_options
from nas.search.request import SearchRequest
from nas.study.records import StudyRecord
from tests.kits.commands import SIGN_OF_LIFE, Capture
from tests.kits.exports import make_spec, write_network
from tests.kits.images import photo, write, write_parts
from tests.kits.places import EXAMPLE
from tests.kits.records import SETTINGS
from tests.kits.studies import TINY_SPACE

FAST = ["--dataset", "digits", "--epochs", "1", "--subset", "0.1", "--space", "tiny.toml"]
PHOTOS = ["--dataset", "folder", "--data-dir", "photos", "--epochs", "1", "--space", "tiny.toml"]


@pytest.fixture(autouse=True)
def space_file(own_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_directory / "cache"))
    Path("tiny.toml").write_text(TINY_SPACE)


def made(name: str = "s", *words: str, trials: str = "1") -> None:
    """A new study of the digits, unless the words say otherwise."""
    given = ["--study", name, "--budget", "5M", "--trials", trials]
    assert main(["search", *given, *(words or FAST)]) == 0


def study(name: str = "s", studies_dir: str = "studies") -> StudyRecord:
    return nas.read_study(nas.StudyLocation.at(name, studies_dir=Path(studies_dir)))


def lines_of_error(capsys: Capture, words: list[str]) -> list[str]:
    """What a refused command says on stderr beside a sign of life, and nothing else; status 2."""
    capsys.readouterr()
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return [line for line in printed.err.splitlines() if line != SIGN_OF_LIFE]


def test_the_name_alone_goes_on_with_every_setting(capsys: Capture) -> None:
    words = ["--tune", "lr,augment", "--objectives", "val_accuracy,mult_adds", "--seed", "7"]
    words += ["--max-mult-adds", "5M", "--sampler", "random", "--pruner", "none"]
    made("s", *FAST, *words, trials="2")
    first = study()
    Path("tiny.toml").unlink()
    capsys.readouterr()
    assert main(["search", "--study", "s"]) == 0
    assert "2 of 2 designs finished. To add trials" in capsys.readouterr().out
    again = study()
    assert again.trials == first.trials
    of_each = ("command", "worker", "started")
    kept, now = ({n: v for n, v in s.items() if n not in of_each} for s in again.searches)
    assert now == kept
    assert (now["seed"], now["sampler"], now["pruner"]) == (7, "random", "none")
    assert main(["search", "--study", "s", "--trials", "3"]) == 0
    assert (study().settings, study().trained) == (first.settings, 3)


def test_a_search_that_was_cut_short_says_what_finishes_it(capsys: Capture) -> None:
    given = ["--study", "s", "--budget", "5M", "--trials", "2", "--timeout", "0.001"]
    assert main(["search", *given, *FAST]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("Time is up: ")
    command = said.removesuffix(" continues.").rpartition("; ")[2]
    assert command == "python -m nas.search --study s"
    assert main(shlex.split(command.replace("python -m nas.", ""))) == 0
    assert study().trained == 2


def test_a_study_in_a_database_of_a_url_goes_on_alike(capsys: Capture) -> None:
    url = ["--storage", "sqlite:///own.db"]
    made("s", *FAST, *url, trials="1")
    capsys.readouterr()
    assert main(["search", "--study", "s", *url]) == 0
    assert "1 of 1 design finished. To add trials" in capsys.readouterr().out
    (line,) = lines_of_error(capsys, ["search", "--study", "other", *url])
    assert line.startswith("error: own.db: expected a study named 'other', got 's'")
    assert line.endswith("; a new study needs a --budget or another limit")


def test_what_may_change_between_searches_is_what_is_given() -> None:
    made("s", *FAST, "--seed", "7")
    assert main(["search", "--study", "s", "--sampler", "tpe", "--trials", "2"]) == 0
    (before, now) = study().searches
    assert (now["sampler"], now["trials"], now["seed"]) == ("tpe", 2, before["seed"])


def pruners(name: str = "s") -> list[object]:
    return [search["pruner"] for search in study(name).searches]


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_a_study_keeps_the_pruner_it_began_with(workers: list[str]) -> None:
    command = ["search", "--study", "s", "--budget", "5M", *FAST]
    assert main([*command, "--trials", "2", "--pruner", "rungs"]) == 0
    assert main([*command, "--trials", "4", *workers]) == 0  # typed again
    assert main(["search", "--study", "s", "--trials", "6", *workers]) == 0
    assert pruners() == ["rungs", "rungs", "rungs"]
    assert main([*command, "--trials", "7", "--pruner", "none"]) == 0
    assert main([*command, "--trials", "8"]) == 0
    assert pruners()[3:] == ["none", "none"]


def test_a_study_found_by_its_default_name_keeps_its_pruner() -> None:
    command = ["search", "--budget", "5M", *FAST]
    assert main([*command, "--trials", "1", "--pruner", "rungs"]) == 0
    assert main([*command, "--trials", "2"]) == 0
    assert pruners("digits-5M") == ["rungs", "rungs"]


def test_a_new_study_stops_by_evidence() -> None:
    made()
    assert pruners() == ["evidence"]


def test_a_study_made_before_keeps_its_pruner() -> None:
    Path("studies").mkdir()
    shutil.copy(EXAMPLE, "studies/digits-example.db")
    before = study("digits-example")
    assert main(["search", "--study", "digits-example", "--trials", "50"]) == 0
    command = ["search", "--budget", "5e6", "--dataset", "digits", "--study", "digits-example"]
    assert main([*command, "--trials", "50"]) == 0
    assert pruners("digits-example") == ["rungs"] * (len(before.searches) + 2)


def test_a_kept_pruner_that_a_front_cannot_have_is_refused(capsys: Capture) -> None:
    command = ["search", "--study", "s", "--budget", "5M", *FAST]
    assert main([*command, "--trials", "1", "--pruner", "median"]) == 0
    front = ["--objectives", "val_accuracy,parameters", "--trials", "2"]
    (line,) = lines_of_error(capsys, [*command, *front])
    assert line.startswith("error: --objectives: expected --pruner evidence or rungs or none")
    assert pruners() == ["median"]


def test_all_settings_that_differ_are_named_one_a_line(capsys: Capture) -> None:
    made("s", *FAST, "--tune", "lr")
    Path("tiny.toml").write_text(TINY_SPACE.replace("[4, 6, 8]", "[4, 6]"))
    others = ["--budget", "4M", "--epochs", "2", "--subset", "0.2", "--tune", "lr,optimizer"]
    first, *rest = lines_of_error(
        capsys, ["search", "--study", "s", *others, "--space", "tiny.toml"]
    )
    assert first.startswith("error: studies/s.db: expected the settings the study was made with")
    assert rest[:4] == [
        "subset (--subset): the study has 0.1, this search 0.2",
        "budget (--budget): the study has 5,000,000, this search 4,000,000",
        "epochs (--epochs): the study has 1, this search 2",
        "choices for C (--space): the study has (4, 6, 8), (4, 6, 8), this search (4, 6), (4, 6)",
    ]
    (last,) = rest[4:]
    assert last.startswith("choices of the optimizer (--tune optimizer): the study has none, ")
    assert len(study().searches) == 1


def test_another_dataset_is_refused_as_one(capsys: Capture) -> None:
    made()
    write_parts()
    words = ["search", "--study", "s", "--dataset", "folder", "--data-dir", "photos"]
    _, *rest = lines_of_error(capsys, words)
    assert "dataset (--dataset): the study has digits, this search folder" in rest
    assert any(line.startswith("image shape or classes: ") for line in rest)


def test_a_new_study_needs_a_budget(capsys: Capture) -> None:
    (line,) = lines_of_error(capsys, ["search", "--study", "s"])
    assert line.startswith("error: studies/s.db: expected a study, got no such file; ")
    assert line.endswith("; a new study needs a --budget or another limit")
    (line,) = lines_of_error(capsys, ["search", "--dataset", "digits"])
    assert line.startswith("error: --budget: expected the most parameters a design may have")
    assert "--study" in line
    assert not Path("studies").exists()


def test_a_study_without_a_budget_goes_on_with_its_limits(capsys: Capture) -> None:
    made()
    with closing(sqlite3.connect("studies/s.db")) as database, database:
        database.execute(
            "UPDATE study_user_attributes SET value_json = json_set(value_json, "
            "'$.limits', json('{\"max_mult_adds\": 5000000}')) WHERE key = 'settings'"
        )
    assert main(["search", "--study", "s"]) == 0
    assert "Nothing left to do" in capsys.readouterr().out
    _, *rest = lines_of_error(capsys, ["search", "--study", "s", "--budget", "5M"])
    assert rest == ["budget (--budget): the study has none, this search 5,000,000"]


def test_a_study_of_an_earlier_version_goes_on_by_its_name(capsys: Capture) -> None:
    Path("studies").mkdir()
    shutil.copy(EXAMPLE, "studies/old.db")
    shutil.copy(EXAMPLE, "studies/digits-example.db")
    before = study("digits-example")
    assert main(["search", "--study", "digits-example", "--trials", "1"]) == 0
    assert "Nothing left to do" in capsys.readouterr().out
    now = study("digits-example")
    assert (now.settings, now.trials) == (before.settings, before.trials)
    assert now.searches[-1]["trials"] == 1
    assert {now.searches[-1][n] for n in ("skip_broken", "drop_duplicates")} == {False}


def test_more_trials_are_added_to_those_that_are_trained(capsys: Capture) -> None:
    made("s", *FAST, trials="+2")  # none yet
    assert study().trained == 2
    assert main(["search", "--study", "s", "--trials", "+1"]) == 0
    assert study().trained == 3
    assert "finished 3 of 3: 3 full" in capsys.readouterr().err
    assert [search["trials"] for search in study().searches] == [2, 3]
    assert "--trials +1" in str(study().searches[1]["command"])
    assert main(["search", "--study", "s"]) == 0
    assert "3 of 3 designs finished. To add trials" in capsys.readouterr().out


def test_several_workers_add_trials_once() -> None:
    made()
    assert main(["search", "--study", "s", "--trials", "+2", "--workers", "2"]) == 0
    assert study().trained == 3


@pytest.mark.parametrize("bad", ["+0", "++3", "+x", "+", "+-3", "+1.5"])
def test_a_bad_number_of_trials_is_one_line(capsys: Capture, bad: str) -> None:
    (line,) = lines_of_error(capsys, ["search", "--study", "s", "--budget", "5M", "--trials", bad])
    assert "--trials: expected a positive whole number such as 50, or +20 for 20 more" in line
    assert f"got {bad!r}" in line


def test_own_images_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    root = write("train", {"cat": 12, "dog": 12})
    (root / "train/cat/00.png").write_bytes(b"no image")
    shutil.copy(root / "train/dog/00.png", root / "train/dog/twin.png")
    made("s", *PHOTOS, "--skip-broken", "--drop-duplicates", "--subset", "0.9", trials="2")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "        python -m nas.final --study s"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    where = ["--study", "s", "--studies-dir", str(tmp_path / "studies")]
    assert main(["search", *where]) == 0
    assert "Nothing left to do" in capsys.readouterr().out
    assert main(["train", *where, "--epochs", "1"]) == 0
    said = capsys.readouterr().err
    assert "left out: 1 of " in said
    assert "left out: 1 duplicate training image" in said
    assert f" {study('s', str(tmp_path / 'studies')).settings.train_images:,} training" in said
    assert main(["doctor", *where]) in (0, 1)
    assert f"folder in {tmp_path / 'photos'}, 2 classes" in capsys.readouterr().out
    short = ["--top", "1", "--seeds", "1", "--recipe", "fast", "--epochs", "1"]
    assert main(["final", *where, *short]) == 0
    record = json.loads((tmp_path / "studies/s/final/metrics.json").read_text())
    assert any(note.startswith("left out: 1 duplicate training image") for note in record["notes"])


def test_images_that_have_moved_are_asked_for_and_then_known(capsys: Capture) -> None:
    write_parts()
    made("s", *PHOTOS)
    Path("photos").rename("moved")
    for command in ("search", "train", "final"):
        line = lines_of_error(capsys, [command, "--study", "s"])[-1]
        assert line.startswith("error: ")
        assert f"got {Path.cwd() / 'photos'}, which does not exist" in line
        assert "--data-dir" in line
    assert main(["search", "--study", "s", "--data-dir", "moved"]) == 0
    assert main(["train", "--study", "s", "--epochs", "1"]) == 0


def test_presets_to_train_first_and_unknown_numbers_of_designs() -> None:
    said = {"enqueue": ["resnet20"], "trials": 9}
    request = continued(StudyRecord(name="s", settings=SETTINGS, searches=(said,)), {})
    assert (request.study, request.enqueue, request.trials) == ("s", ("resnet20",), 9)
    assert request.space_for(SETTINGS.input).to_dict() == SETTINGS.space
    before = continued(StudyRecord(name="s", settings=SETTINGS), {"seed": 3})
    assert (before.trials, before.seed) == (50, 3)


def test_a_known_dataset_whose_folder_is_not_here_lies_in_the_default_one() -> None:
    searches = ({"data_dir": "/nowhere/a"}, {"data_dir": "/nowhere/b"})
    copied = StudyRecord(name="s", settings=SETTINGS, searches=searches)
    assert SETTINGS.dataset != "folder"
    assert data_options(copied).data_dir == SearchRequest(max_parameters=1).data_dir
    Path("here").mkdir()
    mixed = StudyRecord(name="s", settings=SETTINGS, searches=({"data_dir": "here"}, *searches))
    assert data_options(mixed).data_dir == Path("here")
    assert data_options(mixed, data_dir=Path("given")).data_dir == Path("given")
    assert data_options(mixed, dataset="svhn").data_dir == SearchRequest(max_parameters=1).data_dir


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("flowers", "flowers"),
        ("flowers/", "flowers"),
        ("my photos (2024)", "my-photos-2024"),
        ("Blüten", "Bluten"),
        ("写真", "folder"),
        (".hidden", "hidden"),
        ("-v", "v"),
        ("/", "folder"),
        ("cifar10", "cifar10-folder"),
        ("x" * 200, "x" * 80),
    ],
)
def test_an_own_folder_names_its_study(folder: str, name: str) -> None:
    assert folder_name(Path(folder)) == name
    request = SearchRequest(max_parameters=5_000_000, data_dir=Path(folder))
    assert request.location_for("folder").name == f"{name}-5M"


def test_two_folders_are_two_studies(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    write("", {"cat": 8, "dog": 8}).rename("flowers")
    write("", {"cat": 9, "dog": 9})
    search = ["search", "--budget", "5M", "--trials", "1", *PHOTOS]
    assert main(search) == 0
    assert main([*search, "--data-dir", "flowers/"]) == 0
    assert sorted(path.name for path in Path("studies").glob("*.db")) == [
        "flowers-5M.db",
        "photos-5M.db",
    ]
    monkeypatch.chdir("flowers")
    capsys.readouterr()
    words = ["--data-dir", ".", "--space", "../tiny.toml", "--studies-dir", "../studies"]
    assert main([*search, *words, "--reports-dir", "../reports"]) == 0
    assert "Nothing left to do" in capsys.readouterr().out


def test_a_study_with_the_name_from_before_is_found_by_its_images(capsys: Capture) -> None:
    write("", {"cat": 8, "dog": 8})
    search = ["search", "--budget", "5M", "--trials", "1", *PHOTOS]
    assert main([*search, "--study", "folder-5M"]) == 0
    capsys.readouterr()
    assert main(search) == 0
    printed = capsys.readouterr().out
    assert "Nothing left to do" in printed
    assert "study   studies/folder-5M.db" in printed
    photo(999).save("photos/cat/new.png")  # other images: not that study
    assert main(search) == 0
    assert "study   studies/photos-5M.db" in capsys.readouterr().out


def test_a_study_folder_stands_for_its_final_model(capsys: Capture) -> None:
    made()
    photo(1).save("photo.png")
    (line,) = lines_of_error(capsys, ["predict", "studies/s", "photo.png"])
    assert line.startswith("error: studies/s: expected a study with a final training, got one ")
    assert line.endswith("got one without; to make it, run python -m nas.final --study s")
    shutil.copytree("studies", "else/where")
    (line,) = lines_of_error(capsys, ["predict", "else/where/s/", "photo.png"])
    assert line.endswith(
        "got one without; to make it, run python -m nas.final --study s --studies-dir else/where"
    )
    spec = make_spec(classes=("cat", "dog"))
    write_network(Path("studies/s/final"), spec)
    assert main(["predict", "studies/s/", "photo.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "studies/s/final"
