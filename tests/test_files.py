"""Files are whole or not there, and what killed writers leave goes when a folder is opened."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.commands import main
from nas.data.cache import FOLDER, cached
from nas.data.catalogue import DataError
from nas.data.decode import Decoded
from nas.data.download import read
from nas.export.writing import write_model
from nas.files import remove_unfinished, replacing, replacing_all, temporary_folder
from nas.report.document import write_page
from nas.report.pictures import PicturesError, write_pictures
from nas.search.run import run_search
from nas.study.location import checkpoints_folder
from nas.training.checkpoint import Checkpoint
from nas.training.folder import train_in_folder
from nas.training.plan import RunPlan
from tests.kits.exports import make_network, make_spec
from tests.kits.studies import RequestOf
from tests.kits.training import CPU, TINY, make_config, make_dataset
from tests.kits.writers import killed_writer, living_writer, unfinished

Opened = tuple[Path, Callable[[], object]]  # a folder, and what opens it


def one_file(place: Path) -> Opened:
    def write() -> None:
        with replacing(place / "late") as file:
            file.write(b"early")

    return place, write


def several_files(place: Path) -> Opened:
    return place, lambda: replacing_all({place / "one": b"1", place / "two": b"2"})


def a_run(place: Path) -> Opened:
    plan = RunPlan(architecture=TINY, dataset=make_dataset(), config=make_config(), seed=0)
    return place, lambda: train_in_folder(plan, place, device=CPU)


def a_run_that_is_refused(place: Path) -> Opened:
    folder, train = a_run(place)
    train()

    def again() -> None:
        with pytest.raises(ValueError, match="--resume"):
            train()

    return folder, again


def a_checkpoint(place: Path) -> Opened:
    checkpoint = Checkpoint(place / "run.pt", {})
    return place, lambda: checkpoint.restore(None)  # type: ignore[arg-type]  # there is no file


def a_checkpoint_of_no_use_any_more(place: Path) -> Opened:
    return place, Checkpoint(place / "run.pt", {}).remove


def a_model(place: Path) -> Opened:
    spec = make_spec()
    network = make_network(spec)
    return place, lambda: write_model(place, network, spec, metrics={}, card="")


def a_report(place: Path) -> Opened:
    return place, lambda: write_page("<html>", place, "study")


def a_cache(place: Path) -> Opened:
    decoded = Decoded(np.zeros((1, 1, 2, 2), np.uint8), (), {})
    return place / FOLDER, lambda: cached(place, "train", "0" * 32, lambda: decoded)


def a_cache_that_is_full(place: Path) -> Opened:
    folder, use = a_cache(place)
    use()
    return folder, use


def a_download(place: Path) -> Opened:
    (place / "cifar-10-batches-py").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (place / "cifar-10-batches-py" / name).write_bytes(b"")

    def use() -> None:
        with pytest.raises(DataError):
            read("cifar10", place, train=True)

    return place, use


def a_browser(place: Path) -> Opened:
    browser = place / "chromium"
    browser.write_text("#!/no/such/program\n")
    browser.chmod(0o755)
    (place / "report.html").touch()

    def start() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(place))
            with pytest.raises(PicturesError, match="cannot be started"):
                write_pictures(place / "report.html", place)

    return place, start


@pytest.mark.parametrize(
    "opened",
    [
        one_file,
        several_files,
        a_run,
        a_run_that_is_refused,
        a_checkpoint,
        a_checkpoint_of_no_use_any_more,
        a_model,
        a_report,
        a_cache,
        a_cache_that_is_full,
        a_download,
        a_browser,
    ],
)
def test_who_opens_a_folder_removes_what_killed_writers_left_but_not_what_others_write(
    opened: Callable[[Path], Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("nas.data.download.probe", lambda urls: "no network")
    folder, use = opened(tmp_path)
    with living_writer(folder):
        left = killed_writer(folder)
        use()
        assert left.isdisjoint(unfinished(folder))
    assert unfinished(folder) == set()


def test_a_search_removes_unfinished_checkpoints(request_of: RequestOf) -> None:
    request = request_of(trials=1)
    location = run_search(request).location
    folder = checkpoints_folder(request.studies_dir, location)
    with living_writer(folder):
        killed_writer(folder)
        run_search(request)  # which finds that nothing is left to train
        assert len(unfinished(folder)) == 2


def test_the_doctor_counts_and_removes_unfinished_checkpoints(
    request_of: RequestOf, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(trials=1)
    location = run_search(request).location
    folder = checkpoints_folder(request.studies_dir, location)
    doctor = ["doctor", "--study", location.name, "--studies-dir", str(request.studies_dir)]
    doctor += ["--dataset", "digits"]
    with living_writer(folder):
        left = killed_writer(folder)
        assert main(doctor) == 1
        assert "2 not needed" in capsys.readouterr().out
        assert left <= unfinished(folder)
        assert main([*doctor, "--repair"]) == 0
        assert left.isdisjoint(unfinished(folder))


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "file") as file, temporary_folder(tmp_path, "place") as folder:
            file.write(b"new")
            (folder / "part").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


_MANY = """
import sys
from pathlib import Path
from nas.files import remove_unfinished, replacing, temporary_folder

folder = Path(sys.argv[1])
for i in range(200):
    with replacing(folder / "file") as file, temporary_folder(folder, "place") as place:
        file.write(b"%d" % i)
        (place / "part").write_bytes(b"half")
        remove_unfinished(folder)
        assert (place / "part").read_bytes() == b"half"
"""


def test_writers_side_by_side_lose_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MANY, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"199"


def test_files_that_only_look_alike_stay(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    names = {".notes.tmp", "late.tmp", f"late.{'0' * 32}.tmp", f".late.{'g' * 32}.tmp"}
    for name in names:
        (folder / name).touch()
    link = folder / f".link.{'0' * 32}.tmp"
    link.symlink_to(outside)
    remove_unfinished(folder)
    assert {path.name for path in folder.iterdir()} == {*names, link.name}
    assert outside.read_text() == "mine"
    remove_unfinished(tmp_path / "missing")


@pytest.mark.parametrize("name", ["[x]*?.json", "x" * 255])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    for content in (b"old", b"new"):
        with replacing(tmp_path / name) as file:
            file.write(content)
    assert (tmp_path / name).read_bytes() == b"new"


def test_where_nothing_can_be_locked_files_are_written_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = killed_writer(tmp_path)

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(38, os.strerror(38))  # ENOSYS

    monkeypatch.setattr("fcntl.flock", no_locks)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    with temporary_folder(tmp_path, "place") as folder:
        assert folder.is_dir()
    assert {path for path in tmp_path.iterdir() if path.name != "file"} == left
