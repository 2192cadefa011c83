"""Checkpoint files: what they keep, what is refused, and that none is half written."""

import pickle
import random
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from nas.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from tests.kits.waiting import PATIENCE


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(1000.0), "epoch": 3})
    return path


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected a checkpoint")
    assert reason in message
    assert len(message.splitlines()) == 1


def test_a_checkpoint_keeps_tensors_and_plain_values(checkpoint: Path) -> None:
    content = load_checkpoint(checkpoint)
    assert torch.equal(content["weights"], torch.arange(1000.0))
    assert content["epoch"] == 3
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.pt"]


def test_a_truncated_checkpoint_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in [0, 1, 4, 100, *range(0, len(whole), 499), len(whole) - 1]:
        checkpoint.write_bytes(whole[:length])
        assert_refused(checkpoint, "got a damaged or foreign file")


def test_no_file_or_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.pt", "got no such file")
    assert_refused(tmp_path, "got a damaged or foreign file")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": OrderedDict(weight=torch.ones(2))},
        [1, 2],
        torch.ones(3),
        {"kind": "something else", "version": 1},
    ],
)
def test_another_programs_checkpoint_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(content, path)
    assert_refused(path, "got another program's file")
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert_refused(path, "got a damaged or foreign file")


def test_a_whole_network_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", "got a damaged or foreign file")


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.target), "w")


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "a.pt", tmp_path / "ran"
    content = {"kind": "nas checkpoint", "version": 1, "run": Bomb(target)}
    torch.save(content, path)
    assert_refused(path, "got a damaged or foreign file")
    path.write_bytes(pickle.dumps(content, protocol=2))
    assert_refused(path, "got a damaged or foreign file")
    assert not target.exists()
    pickle.loads(path.read_bytes())["run"].close()
    assert target.exists()  # it would have


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"version": 99})
    assert_refused(path, "got 99")


def test_a_checkpoint_without_a_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"kind": "nas checkpoint"}, path)
    assert_refused(path, "got")


@given(st.binary(max_size=60))
@example(b".")
@example(b"\x80\x02e")
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.pt"
    path.write_bytes(content)
    assert_refused(path, "got")


def test_a_plain_pickle_is_refused_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
        assert_refused(path, "got")


def test_a_damaged_checkpoint_is_read_or_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    chance = random.Random(0)
    start = whole.index(b"data.pkl")
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(start, start + 400)] ^= 1 << chance.randrange(8)
        checkpoint.write_bytes(damaged)
        with suppress(CheckpointError):  # some bits do not matter
            load_checkpoint(checkpoint)


FULL_DISK = """
import resource, sys, torch
from pathlib import Path
from nas.training.checkpoint import save_checkpoint

for limit in (100, 200_000):  # in the header, and among the weights
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(Path(sys.argv[1]), {"weights": torch.zeros(100_000)})
    except OSError:
        print("OSError")
"""


def test_an_older_checkpoint_survives_a_full_disk(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.pt"]
    assert done.stdout == "OSError\nOSError\n", done.stderr


def test_an_older_checkpoint_survives_content_that_cannot_be_written(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(checkpoint, {"run": lambda: None})
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.pt"]


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_checkpoint(tmp_path / "none" / "last.pt", {})


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(10_000.0)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="wrong checksum"):
        load_checkpoint(path)


class Nothing:
    """A run with nothing to keep."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def test_a_checkpoint_that_is_removed_leaves_the_folder_to_others(tmp_path: Path) -> None:
    mine, others = (Checkpoint(tmp_path / "study" / name, {}) for name in ("mine.pt", "others.pt"))
    others.save(Nothing(), at_once=True)
    others.remove()
    assert list(mine.path.parent.iterdir()) == []
    mine.save(Nothing(), at_once=True)
    others.remove()
    assert list(mine.path.parent.iterdir()) == [mine.path]


def test_a_checkpoint_is_written_while_searches_end_and_remove_its_empty_folder(
    tmp_path: Path,
) -> None:
    checkpoint, failed = Checkpoint(tmp_path / "checkpoints" / "run.pt", {}), threading.Event()

    def end_searches() -> None:
        ended = 0
        while ended < 15 and not failed.is_set():  # not as often as it is tried
            with suppress(OSError):
                checkpoint.path.parent.rmdir()
                ended += 1

    with ThreadPoolExecutor(1) as pool:
        searches = pool.submit(end_searches)
        while not searches.done() and not failed.is_set():
            checkpoint.save(Nothing(), at_once=True)
            if checkpoint.error is not None:
                failed.set()
            checkpoint.remove()
    assert checkpoint.error is None
