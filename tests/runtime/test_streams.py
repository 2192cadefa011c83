"""What cannot be shown is dropped: pipes and terminals that close, full disks, odd encodings."""

import contextlib
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord
from tests.kits import warm
from tests.kits.exports import make_spec, write_network, write_photos
from tests.kits.images import write
from tests.kits.places import STUDIES
from tests.kits.studies import TINY_SPACE
from tests.kits.waiting import PATIENCE, wait_until

Process = warm.Popen[bytes]
CAT, DOG = "\u732b", "\u72ac"
FAST = ("--space", "tiny.toml", "--trials", "2", "--epochs", "2")
SEARCH = ("search", "--budget", "5M", "--dataset", "digits", "--subset", "0.1", *FAST)
TRAIN = (
    *("train", "--blocks", "1", "--channels", "4", "--pool", "4", "--dataset", "digits"),
    *("--subset", "0.1", "--epochs", "6", "--out", "run"),
)
FINAL = (
    *("final", "--study", "digits-5M", "--recipe", "fast", "--subset", "0.1"),
    *("--epochs", "1", "--seeds", "1", "--top", "1"),
)
COUNT = ("count", "--preset", "resnet20")
# Where stdout and stderr lead: both to a pipe that nobody reads, to a full disk, or nowhere.
UNREAD, FULL, CLOSED = "unread", "full", "closed"


@pytest.fixture(autouse=True)
def space_file(own_directory: Path) -> None:
    Path("tiny.toml").write_text(TINY_SPACE)


def start(words: tuple[str, ...], *, closed: Sequence[int] = (), **settings: Any) -> Process:
    """`nas` with these words."""
    program = [sys.executable, "-m", "nas", *words]
    return Process(program, closed=closed, **settings)


@contextlib.contextmanager
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def unseen(words: tuple[str, ...], leading: str) -> int:
    """The exit status of a command that nobody can see."""
    if leading == CLOSED:
        return start(words, closed=(0, 1, 2)).wait(PATIENCE)
    with open("/dev/full", "w") if leading == FULL else unread() as stdout:
        process = start(words, stdout=stdout, stderr=subprocess.STDOUT)
    return process.wait(PATIENCE)


def printed(words: tuple[str, ...], **env: str) -> str:
    """What a command that ends well prints on stdout, which must be UTF-8."""
    cold = "LC_ALL" in env  # a locale is taken before the first line of a program
    process = (subprocess.Popen[bytes] if cold else Process)(
        [sys.executable, "-m", "nas", *words],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output.decode()


def study(name: str = "digits-5M") -> StudyRecord:
    return read_study(StudyLocation.at(name, studies_dir=Path("studies")))


def epochs_of_run() -> int:
    """How many epochs the run of `TRAIN` has, all of whose files are there."""
    assert {path.name for path in Path("run").iterdir()} >= {"best.pt", "last.pt", "curves.html"}
    return len(json.loads(Path("run/metrics.json").read_text())["epochs"])


def write_model(*classes: str) -> None:
    """An exported model in `model`, and images in `photos`."""
    spec = make_spec(classes=classes)
    write_network(Path("model"), spec)
    write_photos(Path("photos"))


@pytest.mark.parametrize(("workers", "leading"), [("1", UNREAD), ("1", CLOSED), ("2", FULL)])
def test_a_search_that_nobody_can_see_goes_on_to_its_end(workers: str, leading: str) -> None:
    assert unseen((*SEARCH, "--workers", workers), leading) == (leading == FULL)
    assert study().trained == 2
    assert Path("reports/digits-5M.html").is_file()


@pytest.mark.parametrize("leading", [UNREAD, FULL, CLOSED])
def test_a_training_that_nobody_can_see_goes_on_to_its_end(leading: str) -> None:
    assert unseen(TRAIN, leading) == (leading == FULL)
    assert epochs_of_run() == 6


def test_a_final_training_that_nobody_can_see_exports_its_model() -> None:
    printed(SEARCH)
    assert unseen(FINAL, UNREAD) == 0
    assert Path("studies/digits-5M/final/model.onnx").is_file()
    assert len(study().readings) == 1
    assert "Final training" in Path("reports/digits-5M.html").read_text()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (COUNT, 0),
        (("count", "--help"), 0),
        (("count", "--preset", "none"), 2),
        (("doctor", "--dataset", "digits"), 0),
        (("predict", "model", "photos"), 0),
    ],
)
def test_other_commands_end_as_they_do_when_seen(words: tuple[str, ...], status: int) -> None:
    if words[0] == "predict":
        write_model("cat", "dog")
    assert unseen(words, UNREAD) == status
    assert unseen(words, CLOSED) == status


def test_no_more_is_predicted_than_somebody_reads() -> None:
    write_model("cat", "dog")
    many = Path("many")
    many.mkdir()
    for number in range(300):  # more than are read at once
        (many / f"{number:03}{'-' * 60}.png").write_bytes(Path("photos/tiny.png").read_bytes())
    (many / "last.png").write_text("no image")
    words = ("predict", "model", "many")
    assert start(words, stdout=subprocess.DEVNULL).wait(PATIENCE) == 1
    with unread() as pipe:
        process = start(words, stdout=pipe)
    assert process.wait(PATIENCE) == 0


def test_errors_go_nowhere_where_stderr_is_closed() -> None:
    for words in (("count", "--preset", "none"), (*COUNT, "--nonsense")):
        with open("out", "w") as stdout:
            assert start(words, stdout=stdout, closed=(2,)).wait(PATIENCE) == 2
        assert Path("out").read_bytes() == b""


def test_a_reader_may_leave_in_the_middle() -> None:
    process = start(TRAIN, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline().split()[0] == b"epoch"
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert epochs_of_run() == 6


def test_a_terminal_may_go_away_in_the_middle() -> None:
    terminal, theirs = pty.openpty()
    in_colour = {**os.environ, "TERM": "xterm-256color"}
    process = start(SEARCH, stdout=subprocess.PIPE, stderr=theirs, env=in_colour)
    os.close(theirs)
    assert os.read(terminal, 1)
    os.close(terminal)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert output.startswith(b"rank")
    assert study().trained == 2


def test_a_slow_reader_gets_all_through_a_pipe_that_does_not_block() -> None:
    reader, writer = os.pipe()
    capacity = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    words = ("report", "--study", "digits-example", "--studies-dir", str(STUDIES), "--json")
    process = start(words, stdout=writer)
    os.close(writer)

    def is_full() -> bool:
        waiting = fcntl.ioctl(reader, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) == capacity or process.poll() is not None

    wait_until(is_full)
    with os.fdopen(reader, "rb") as pipe:
        document = json.load(pipe)
    assert process.wait(PATIENCE) == 0
    assert document["trials"]


def test_closed_streams_leave_their_numbers_to_no_file() -> None:
    os.mkfifo("tiny.fifo")  # the search waits for what it says
    words = tuple(word.replace(".toml", ".fifo") for word in SEARCH)
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "nas", *words]
    )

    def opened() -> int | None:
        assert process.poll() is None
        with contextlib.suppress(OSError):  # nobody reads yet
            return os.open("tiny.fifo", os.O_WRONLY | os.O_NONBLOCK)
        return None

    writing = wait_until(opened)
    assert writing is not None
    files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
    process.terminate()
    os.close(writing)
    assert process.wait(PATIENCE) == 130
    assert files == [os.devnull] * 3


ENCODINGS = [
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""},
]


@pytest.mark.parametrize("env", ENCODINGS, ids=["cp1252", "C"])
def test_what_stdout_cannot_encode_is_written_as_python_would(env: dict[str, str]) -> None:
    write_model(CAT, DOG)
    words = ("predict", "model", "photos/plain.png")
    output = printed(words, **env)
    assert {r"\u732b", r"\u72ac"} <= set(output.split())
    document = json.loads(printed((*words, "--json"), **env))
    assert {top["class"] for top in document["images"][0]["top"]} == {CAT, DOG}
    assert {CAT, DOG} <= set(printed(words, PYTHONIOENCODING="utf-8").split())


@pytest.mark.slow
def test_names_in_japanese_from_search_to_prediction() -> None:
    write("train", {CAT: 10, DOG: 10})
    write("test", {CAT: 3, DOG: 3})
    data = ("--data-dir", "photos")
    reports, study = ("--reports-dir", DOG), ("--study", "pets")
    search = ("search", "--budget", "5M", "--dataset", "folder", *data, *FAST, *study, *reports)
    commands = (
        search,
        ("doctor", *study, *data),
        ("report", *study, *reports),
        ("train", *study, *data, "--out", DOG),
        ("final", *study, *data, *reports, *FINAL[3:5], "--epochs", "1", "--seeds", "1"),
        ("predict", "studies/pets/final", "photos"),
    )
    told = [printed(words, **ENCODINGS[0]) for words in commands]
    assert [index for index, text in enumerate(told) if r"\u72ac" in text] == [0, 2, 3, 4, 5]


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is() -> None:
    words = tuple(word.replace("run", "run-\udcff") for word in TRAIN)
    assert r"run-\udcff: best.pt" in printed(words, PYTHONIOENCODING="utf-8")
