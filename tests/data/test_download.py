"""Downloads: once, from what is at hand, given up in time, and never something else."""

import pickle
import socket
import tarfile
import threading
from hashlib import md5
from pathlib import Path

import pytest
from torchvision import datasets

from nas.commands import main
from nas.data import download
from nas.data.catalogue import DATASETS
from nas.data.loading import load_dataset, load_test
from tests.kits.datasets import data_error, rows
from tests.kits.images import noise, write_ants_and_bees
from tests.kits.waiting import PATIENCE

CIFAR10 = DATASETS["cifar10"].classes


DOWNLOADED = {name: info.torchvision for name, info in DATASETS.items() if info.torchvision}


@pytest.mark.usefixtures("offline")
def test_auto_falls_back_to_digits_and_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data = load_dataset("auto", data_dir, subset=0.5)
    assert (data.name, data.subset) == ("digits", 0.5)
    assert data.notes[0].startswith(f"CIFAR-10 is not in {data_dir} and could not be downloaded (")
    assert "handwritten digits instead" in data.notes[0]
    assert not data_dir.exists()
    write_ants_and_bees(tmp_path / "own")
    assert "use --dataset folder" in data_error(load_dataset, "auto", tmp_path / "own")


@pytest.mark.usefixtures("offline", "own_directory", "tiny_space")
def test_a_search_says_at_its_begin_and_end_that_it_has_other_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = "search --budget 5M --trials 1 --epochs 1 --subset 0.1 --space tiny.toml"
    assert main(search.split()) == 0
    said = capsys.readouterr().out
    assert "\ndata    handwritten digits, since CIFAR-10 could not be downloaded\n" in said
    named = [*search.split(), "--studies-dir", "named"]
    assert main([*named, "--dataset", "digits"]) == 0
    assert "CIFAR-10" not in "".join(capsys.readouterr())
    assert main(named) == 0
    assert "CIFAR-10 is not in data and could not be downloaded (" in capsys.readouterr().err


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_dataset_asked_for_by_name_is_that_or_an_error(tmp_path: Path, name: str) -> None:
    assert f"expected {DATASETS[name].title} in {tmp_path}" in data_error(
        load_dataset, name, tmp_path
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reason = download.probe([f"http://127.0.0.1:{server.getsockname()[1]}/"], seconds=0.3)
    assert reason is not None
    assert "127.0.0.1" in reason
    assert download.PROBE_SECONDS < 8


def test_a_name_look_up_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait(PATIENCE)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    reason = download.probe(["http://nowhere.invalid/"], seconds=0.2)
    released.set()
    assert reason == "no answer from nowhere.invalid within 0.2 seconds"


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small CIFAR-10 in its own format: 100 training and 20 test images."""
    folder.mkdir(parents=True)
    files: dict[str, dict[str, object]] = {"batches.meta": {"label_names": list(CIFAR10)}}
    for i in range(6):
        batch = {"data": noise(i, 20, 3072), "labels": [j % 10 for j in range(20)]}
        files[f"data_batch_{i + 1}" if i < 5 else "test_batch"] = batch
    sums = {}
    for name, content in files.items():
        encoded = pickle.dumps(content)
        (folder / name).write_bytes(encoded)
        sums[name] = md5(encoded).hexdigest()
    train = [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def write_cifar10_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cifar10(root / "made/cifar-10-batches-py", monkeypatch)
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "made/cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive.read_bytes()).hexdigest())
    return archive


def check_cifar10(data_dir: Path) -> None:
    data = load_dataset("auto", data_dir)
    assert (data.name, data.notes, data.test_images) == ("cifar10", (), 10_000)
    assert (len(data.train), len(data.validation)) == (80, 20)
    test = load_test("cifar10", data_dir).images
    assert rows(test) == {row.tobytes() for row in noise(5, 20, 3072)}
    assert rows(test).isdisjoint(rows(data.train) | rows(data.validation))


def test_cifar10_is_downloaded_once(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    archive = write_cifar10_archive(root, monkeypatch)
    monkeypatch.setattr(datasets.CIFAR10, "url", url + archive.name)
    data_dir = tmp_path / "data"
    check_cifar10(data_dir)
    archive.unlink()
    check_cifar10(data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["cifar-10-batches-py"]


@pytest.mark.usefixtures("offline")
def test_an_archive_at_hand_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_cifar10_archive(tmp_path, monkeypatch)
    before = archive.read_bytes()
    check_cifar10(tmp_path)
    assert archive.read_bytes() == before
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(b"damaged")
    check_cifar10(tmp_path)


@pytest.mark.usefixtures("offline")
def test_damaged_and_missing_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10_archive(tmp_path, monkeypatch).write_bytes(b"damaged")
    error = data_error(load_dataset, "cifar10", tmp_path)
    assert "got a part of it (cifar-10-python.tar.gz is damaged; 127.0.0.1" in error
    assert "cifar-10-python.tar.gz is damaged" in load_dataset("auto", tmp_path).notes[0]
    folder = tmp_path / "cifar-10-batches-py"
    (tmp_path / "made/cifar-10-batches-py").rename(folder)
    (folder / "data_batch_2").write_bytes(b"damaged")
    (folder / "test_batch").unlink()
    error = data_error(load_dataset, "cifar10", tmp_path)
    assert "cifar-10-batches-py/data_batch_2 is damaged" in error
    assert "cifar-10-batches-py/test_batch is missing" in error
    (tmp_path / "train_32x32.mat").write_bytes(b"damaged")
    error = data_error(load_dataset, "svhn", tmp_path)
    assert "train_32x32.mat is damaged, test_32x32.mat is missing" in error


def test_a_download_of_something_else_falls_back(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    (root / "page").write_text("please log in")
    monkeypatch.setattr(datasets.CIFAR10, "url", url + "page")
    assert load_dataset("auto", tmp_path / "data").name == "digits"
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.setattr(datasets.CIFAR10, "url", url + "missing")
    assert "answered 404" in data_error(load_dataset, "cifar10", tmp_path / "data")


def test_a_download_that_stalls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(download, "probe", lambda urls: None)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        monkeypatch.setattr(
            datasets.CIFAR10, "url", f"http://127.0.0.1:{hanging.getsockname()[1]}/a.tar.gz"
        )
        assert "timed out" in data_error(load_dataset, "cifar10", tmp_path)
    assert socket.getdefaulttimeout() is None
    assert list(tmp_path.iterdir()) == []
