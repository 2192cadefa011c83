"""`nas search` and `nas report` as a person meets them: output, exit status, bad input, Ctrl-C."""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from PIL import Image

from nas.commands import main, make_parser
from nas.counting import COSTS
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits import warm
from tests.kits.commands import error_of
from tests.kits.waiting import PATIENCE, wait_until

EXAMPLES = Path(__file__).parents[2] / "studies"
FAST = ["--dataset", "digits", "--epochs", "1", "--subset", "0.1", "--space", "tiny.toml"]

pytestmark = pytest.mark.usefixtures("own_directory", "tiny_space")


def search(*arguments: str, budget: str = "5e6", trials: str = "2") -> int:
    return main(["search", "--budget", budget, "--trials", trials, *FAST, *arguments])


def test_prints_a_ranking_where_things_are_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search() == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == [*("rank", "trial", "accuracy", "parameters", "mult-adds", "design")]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert "trials  finished 2 of 2: 2 full" in lines
    assert max(map(len, lines[: lines.index("")])) <= 80
    assert "study   studies/digits-5M.db" in lines
    assert "report  reports/digits-5M.html" in lines
    assert lines[-3:] == [
        "next    python -m nas.dashboard --study digits-5M",
        "        python -m nas.report --study digits-5M",
        "        python -m nas.final --study digits-5M",
    ]
    assert Path("studies/digits-5M.db").is_file()
    assert "<html" in Path("reports/digits-5M.html").read_text()
    progress = captured.err.splitlines()
    ended = [line for line in progress if re.match(r" +\d+  full ", line)]
    assert [line.split()[0] for line in ended] == ["0", "1"]
    assert "best so far" in ended[0]
    assert max(map(len, ended)) <= 80
    assert progress[-1].startswith("finished 2 of 2: 2 full in ")
    assert "\x1b" not in captured.err
    assert "test images (unread)" in captured.err


def test_the_command_that_is_told_is_what_was_typed_and_what_was_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = shlex.split(
        "search --budget 50k --trials 1 --dataset digits --subset 0.1 --time 1m "
        "--precision float32 --studies-dir 'my studies'"  # auto depends on what else runs
    )
    assert main(typed) == 0
    (told,) = re.findall(r"\bnas search .*", capsys.readouterr().err)
    words = shlex.split(told)
    assert words[1 : len(typed) + 1] == typed
    assert words[len(typed) + 1 :: 2] == ["--epochs", "--max-mult-adds"]
    assert main([*words[1:], "--study", "again"]) == 0
    assert "nas search" not in capsys.readouterr().err  # nothing was measured
    first, again = (
        read_study(StudyLocation.at(name, studies_dir="my studies"))
        for name in ("digits-50k", "again")
    )
    assert first.settings == again.settings
    assert first.command == shlex.join(["nas", *typed])


def test_a_trial_that_lost_its_costs_is_still_in_the_ranking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search(trials="1") == 0
    ranked = capsys.readouterr().out.splitlines()[1].split()
    with closing(sqlite3.connect("studies/digits-5M.db")) as database, database:
        database.executemany(
            "DELETE FROM trial_user_attributes WHERE key = ?", [(name,) for name in COSTS]
        )
    assert search(trials="1") == 0
    said, _, row, *_ = capsys.readouterr().out.splitlines()
    assert said.startswith("Nothing left to do")
    assert row.split() == ranked  # they are those of its design


def test_says_when_nothing_is_left_and_goes_on_with_more_trials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search() == 0
    capsys.readouterr()
    assert search() == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Nothing left to do: 2 of 2 designs finished")
    assert "full " not in captured.err
    assert search(trials="3") == 0
    assert "finished 3 of 3: 3 full" in capsys.readouterr().err


def test_json_is_one_document_that_agrees_with_the_database(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search("--json") == 0
    document = json.loads(capsys.readouterr().out)
    with closing(sqlite3.connect("studies/digits-5M.db")) as database:
        values = [row[0] for row in database.execute("SELECT value FROM trial_values")]
    assert [t["val_accuracy"] for t in document["ranking"]] == sorted(values, reverse=True)
    assert document["incumbent"] == document["ranking"][0]
    assert document["trained"] == document["newly_trained"] == 2
    assert document["outcomes"] == {"trained": 2}
    assert (document["ending"], document["dataset"]) == ("done", "digits")


def test_report_writes_the_file_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert search() == 0
    first = Path("reports/digits-5M.html").read_text()
    capsys.readouterr()
    assert main(["report", "--study", "digits-5M", "--reports-dir", "elsewhere"]) == 0
    assert capsys.readouterr().out == "elsewhere/digits-5M.html\n"
    assert Path("elsewhere/digits-5M.html").read_text() == first


@pytest.mark.parametrize("budget", ["5e6", "5_000_000", "5M", "5000k"])
def test_budgets_may_be_written_in_many_ways(budget: str) -> None:
    assert search(budget=budget, trials="1") == 0
    assert Path("studies/digits-5M.db").is_file()


def test_a_budget_with_a_fraction_of_a_million(capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--json", budget="4.9M", trials="1") == 0
    assert json.loads(capsys.readouterr().out)["max_parameters"] == 4_900_000
    assert Path("studies/digits-4.9M.db").is_file()


def test_a_database_url_holds_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--storage", "sqlite:///own.db", "--study", "mine") == 0
    assert "study   own.db" in capsys.readouterr().out
    names = optuna.get_all_study_names("sqlite:///own.db")
    assert names == ["mine"]
    assert not Path("studies").exists()
    assert main(["report", "--study", "mine", "--storage", "sqlite:///own.db"]) == 0


@pytest.mark.parametrize("budget", ["-1", "0", "nan", "abc", "5.5", "1e99", ""])
def test_a_budget_that_is_no_count_is_refused(
    capsys: pytest.CaptureFixture[str], budget: str
) -> None:
    said = error_of(capsys, search(budget=budget))
    assert "--budget: expected a positive whole number such as 5000000" in said
    assert f"got {budget!r}" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--trials", "0"],
            "--trials: expected a positive whole number such as 50, or +20 for 20 more, got",
        ),
        (["--dataset", "imagenet"], "'imagenet'"),
        (["--subset", "0"], "above 0 and at most 1"),
        (["--subset", "1.5"], "above 0 and at most 1"),
        (["--epochs", "0"], "--epochs: expected a positive whole number"),
        (["--timeout", "-3"], "--timeout"),
        *(
            (
                ["--time", time],
                f"--time: expected a time such as 90s, 30m, 2h or 1d, or none, got {time!r}",
            )
            for time in ("20", "0s", "1hour", "nanm", "infd", "5w", "1_0m", " 2h", "m", "")
        ),
        (["--seed", "x"], "--seed: expected a whole number"),
        (["--device", "cuda:99"], "--device: expected auto, cpu or a CUDA device"),
        (["--device", "toaster"], "--device: expected auto, cpu or a CUDA device"),
        (["--sampler", "magic"], "--sampler"),
        (["--study", "a/b"], "--study: expected a name of the letters a to z"),
        (["--study", "what?"], "--study: expected a name of the letters a to z"),
        (["--storage", "nonsense"], "--storage: expected a database URL"),
        (["--storage", "nosuch://x/y"], "--storage: expected a database URL"),
        (["--space", "missing.toml"], "--space: expected a TOML file, got missing.toml"),
        (["--trail", "8"], "unknown: --trail 8; did you mean --trials?; see nas search --help"),
    ],
)
def test_bad_options_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in error_of(capsys, search(*arguments))
    assert not list(Path().glob("*/*.db"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://someone:{}@127.0.0.1:9/none",
        "postgresql+psycopg://someone@127.0.0.1:9/none?connect_timeout=2&password={}",
        "postgresql+psycopg:///none?host=127.0.0.1&port=9&sslpassword={}&user=someone",
        "postgresql+psycopg://someone:{}@127.0.0.1:port/none",
        "postgresql+psycopg://someone:{}@127.0.0.1:9/none?nonsense=1",
        "postgresql+psycopg://someone:half@{}@127.0.0.1:9/none",
        "postgresql+psycopg://someone:half@{}/more@127.0.0.1:9/none",
        "postgresql+psycopg://someone:half/{}@127.0.0.1:9/none",
        "postgresql+nodriver://someone:{}@127.0.0.1:9/none",
        "postgresql:/someone:{}@127.0.0.1:9/none",
        "someone:{}@127.0.0.1:9/none",
    ],
)
def test_no_error_prints_the_password_of_a_url(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    secret = "hush4711"
    arguments = ["--study", "s", "--storage", url.format(secret)]
    status = search(*arguments)
    captured = capsys.readouterr()
    assert (status, captured.err.splitlines()[-1][:7]) == (2, "error: ")
    assert secret not in captured.out + captured.err
    for command in ("report", "dashboard", "train"):
        assert secret not in error_of(capsys, main([command, *arguments]))
    assert main(["doctor", "--dataset", "digits", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("kernels = [3, 4]", "kernels must be odd"),
        ("kernel = 3", "got 'kernel'"),
        ("channels = []", "channels must have at least one choice"),
        ("channels = {low = 64, high = 16}", "empty range"),
        ("channels = {low = 1, high = 1000000000}", "at most 10,000 choices"),
        ("blocks = [1, 2000]", "blocks must be a whole number of at most 1000"),
        ("stages = 2\npool = 8", "pool must have a choice in 1..4"),
        ("stages = 2\nblocks = [[1], [2], [3]]", "one list per stage"),
        ("stages = ", "expected a TOML file"),
    ],
)
def test_a_bad_space_is_one_line_that_names_the_file(
    capsys: pytest.CaptureFixture[str], space: str, said: str
) -> None:
    Path("bad.toml").write_text(space)
    message = error_of(capsys, search("--space", "bad.toml"))
    assert said in message
    assert "bad.toml" in message


def test_a_budget_no_design_meets_names_the_smallest(capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, main(["search", "--budget", "100", "--dataset", "cifar10"]))
    assert "at least 15,226 parameters" in said
    assert "B1,1,1 C16,16,16 F3,3,3 K1,1,1 P8" in said
    assert [path.name for path in Path().iterdir()] == ["tiny.toml"]


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i, 2 * i, 99)).save(folder / f"{i}.png")


@pytest.mark.parametrize("dataset", ["cifar10", "folder"])
def test_a_missing_or_empty_data_folder_is_one_line(
    capsys: pytest.CaptureFixture[str], dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar.tar.gz")
    plain = ["search", "--budget", "5M", "--dataset", dataset, "--data-dir"]
    assert "missing" in error_of(capsys, main([*plain, "missing"]))
    Path("empty").mkdir()
    assert "empty" in error_of(capsys, main([*plain, "empty"]))


def test_bad_images_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["search", "--budget", "5M", "--dataset", "folder", "--data-dir", "own"]
    write_images(Path("own/train/cats"), 10)
    assert "cats" in error_of(capsys, main(plain))  # one class
    write_images(Path("own/train/dogs"), 10)
    write_images(Path("own/test/cats"), 1)
    write_images(Path("own/test/dogs"), 1)
    Path("own/train/dogs/broken.png").write_bytes(b"no image")
    assert "broken.png" in error_of(capsys, main(plain))


def test_a_file_that_is_no_study_is_kept_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies").mkdir()
    file = Path("studies/digits-5M.db")
    file.write_bytes(b"a diary, no database" * 100)
    assert "studies/digits-5M.db" in error_of(capsys, search())
    assert file.read_bytes() == b"a diary, no database" * 100
    file.unlink()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    assert "another program" in error_of(capsys, search())
    assert main(["report", "--study", "digits-5M"]) == 2


def test_a_study_made_with_other_settings_is_refused_with_the_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search() == 0
    capsys.readouterr()
    assert search("--epochs", "2") == 2
    said, difference = capsys.readouterr().err.splitlines()[-2:]
    assert said.startswith("error: studies/digits-5M.db: expected the settings")
    assert "--study" in said
    assert difference == "epochs (--epochs): the study has 1, this search 2"


NOT_WRITABLE = ["file/own", "/proc/own", "/proc/self/task", "/sys/kernel"]  # not even by root
if os.geteuid() != 0:
    NOT_WRITABLE.append("closed")


@pytest.fixture
def closed(own_directory: Path) -> Iterator[None]:
    """A file and a directory in which nothing can be made."""
    (own_directory / "file").write_text("")
    (own_directory / "closed").mkdir(mode=0o555)
    yield
    (own_directory / "closed").chmod(0o755)


@pytest.mark.parametrize("place", NOT_WRITABLE)
@pytest.mark.parametrize("option", ["--studies-dir", "--reports-dir"])
@pytest.mark.usefixtures("closed")
def test_a_directory_that_cannot_be_written_is_known_before_the_search(
    capsys: pytest.CaptureFixture[str], option: str, place: str
) -> None:
    said = error_of(capsys, search(option, place))
    assert f"{option}: expected a directory that can be written, got {place}" in said
    assert not list(Path("studies").glob("*"))


@pytest.mark.parametrize(
    "command",
    [
        "search --budget 5M --dataset cifar10 --data-dir missing",
        "search --budget 100 --dataset digits",
        "report --study missing --csv tables/trials.csv --png pictures",
        "final --study missing",
        "final --study cifar10-h200 --again --data-dir missing",
    ],
)
def test_a_command_that_is_refused_leaves_nothing(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar.tar.gz")
    name, *rest = command.split()
    studies = "new/studies" if name == "search" else "there"
    Path("there").mkdir()
    shutil.copy(EXAMPLES / "cifar10-h200.db", "there")
    before = set(Path().rglob("*"))
    assert main([name, *rest, "--studies-dir", studies, "--reports-dir", "new/reports"]) == 2
    assert set(Path().rglob("*")) == before


def test_a_study_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("report", "dashboard"):
        said = error_of(capsys, main([command, "--study", "nothing"]))
        assert "expected a study" in said
        assert not Path("studies").exists()


def start_search(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "nas.search", "--budget", "5M", "--trials", "50"]
    return warm.Popen[str](
        [*command, *FAST, "--epochs", "200", *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_a_running_trial(process: "subprocess.Popen[str]", database: Path) -> None:
    """Until a trial of the study has reported an epoch."""

    def has_reported() -> bool:
        if not database.exists():
            return False
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            try:
                query = "SELECT count(*) FROM trial_intermediate_values"
                return bool(connection.execute(query).fetchone()[0])
            except sqlite3.OperationalError:
                return False  # the tables are not made yet

    wait_until(has_reported, process)


def states() -> list[str]:
    study = optuna.load_study(study_name="digits-5M", storage="sqlite:///studies/digits-5M.db")
    return [trial.state.name for trial in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_study_that_goes_on(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_search()
    wait_for_a_running_trial(process, Path("studies/digits-5M.db"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("interrupted: 0 of 50 designs finished")
    assert states() == ["FAIL", "WAITING"]
    assert search("--epochs", "200", trials="1") == 0
    output = capsys.readouterr().out
    assert "trials  finished 1 of 1: 1 full; also 1 interrupted and queued again" in output
    assert states() == ["FAIL", "COMPLETE"]


def test_sigterm_before_the_search_has_begun_is_as_ctrl_c(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tiny.fifo")  # the search waits for what it says
    process = start_search("--space", "tiny.fifo")

    def opened() -> int | None:
        with contextlib.suppress(OSError):  # nobody reads yet
            return os.open("tiny.fifo", os.O_WRONLY | os.O_NONBLOCK)
        return None

    writing = wait_until(opened, process)
    assert writing is not None
    process.terminate()
    os.close(writing)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_in_a_terminal_a_panel_shows_where_the_search_stands(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nas.search", "--budget", "5M", "--trials", "3", *FAST]
    parent, child = pty.openpty()
    process = warm.Popen[bytes](
        command,
        stderr=child,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # what reading gives once the other end is closed
        while part := os.read(parent, 65536):
            shown += part
    os.close(parent)
    output, _ = process.communicate(timeout=PATIENCE)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert "3 of 3: 3 full" in text
    assert "best so far" in text
    assert "\x1b[?25h" in shown.decode(), "the cursor is shown again"
    assert b"rank" in output


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nas.count", "--preset", "resnet20"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "error: stdout could not be written: No space left on device\n"


def run(program: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )


def test_help_and_count_need_no_heavy_import() -> None:
    program = (
        "import sys; from nas.commands import main\n"
        "for arguments in (['--help'], ['search', '--help'], ['count', '--preset', 'resnet20'],\n"
        "                  ['search', '--budget', '100']):\n"
        "    main(arguments)\n"
        "heavy = {'torch', 'optuna', 'pandas', 'plotly', 'numpy', 'sklearn', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run(program)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_data_folder_is_refused_before_pytorch_is_loaded() -> None:
    Path("empty").mkdir()
    program = (
        "import sys; from nas.commands import main\n"
        "for command in ('search --budget 5M', 'train --preset resnet20'):\n"
        "    for folder in ('missing', 'empty', 'tiny.toml'):\n"
        "        command_line = f'{command} --dataset folder --data-dir {folder}'\n"
        "        assert main(command_line.split()) == 2\n"
        "assert main('final --study missing'.split()) == 2\n"
        "print('torch' in sys.modules)"
    )
    done = run(program)
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 7, done.stderr


@pytest.mark.parametrize("command", ["search", "count", "report", "dashboard", "doctor"])
def test_the_module_and_the_script_are_the_same_command(command: str) -> None:
    script = shutil.which("nas", path=str(Path(sys.executable).parent))
    assert script, "the package is installed with its console script"
    for program in ([script, command], [sys.executable, "-m", f"nas.{command}"]):
        done = subprocess.run([*program, "--help"], text=True, capture_output=True, check=True)
        assert done.stdout.startswith(f"usage: nas {command} ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serch", "--budget", "5M"], "got 'serch'; did you mean search?"),
        (["search", "--budgt", "5M"], "unknown: --budgt 5M; did you mean --budget?"),
        (
            ["search", "--budget", "5M", "--timout", "20"],
            "unknown: --timout 20; did you mean --timeout?",
        ),
        (["search", "--budget", "5M", "--trial=2"], "unknown: --trial=2; did you mean --trials?"),
        (["search", "--budget", "5M", "--dataset", "cifar"], "'cifar'; did you mean cifar10?"),
        (["search", "--budget", "5M", "--enqueue", "resnet21"], "did you mean resnet20?"),
        (["count", "--preset", "resnet-18"], "'resnet-18'; did you mean resnet18?"),
        (["count", "--chanels", "8"], "unknown: --chanels 8; did you mean --channels?"),
        (["train", "--preset", "resnet20", "--recipe", "fst"], "got 'fst'; did you mean fast?"),
        (["final", "--study", "some", "--seed", "3"], "unknown: --seed 3; did you mean --seeds?"),
        (["predict", "model", "a.png", "--tpo", "3"], "unknown: --tpo 3; did you mean --top?"),
        (["predict", "--model", "model", "a.png"], "unknown: --model model a.png; see nas"),
        (["report", "--stduy", "some"], "unknown: --stduy some; did you mean --study?"),
        (["dashboard", "--study", "some", "--no-brows"], "did you mean --no-browser?"),
        (["doctor", "--repare"], "unknown: --repare; did you mean --repair?"),
        (
            ["report", "--storge=postgresql://me:hush@host/db"],
            "'--storge=postgresql://me:***@host/db'; did you",
        ),
        (
            ["report", "--storge", "postgresql://me:hush@host/db"],
            "--storge 'postgresql://me:***@host/db'; did",
        ),
        (["studies", "--studies", "x"], "unknown: --studies x; did you mean --studies-dir?"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in error_of(capsys, main(arguments))


def test_options_are_not_known_by_their_beginnings(capsys: pytest.CaptureFixture[str]) -> None:
    _, commands = make_parser()
    for name, command in commands.items():
        options = {o for action in command._actions for o in action.option_strings}
        for option in options:
            if option[:-1] not in options and len(option) > 3:
                said = error_of(capsys, main([name, option[:-1]]))
                assert said.startswith(f"error: unknown: {option[:-1]}"), (name, option)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["final"], "expected --study, got none; see nas final --help"),
        (["predict"], "expected MODEL_DIR, IMAGE, got none; see nas predict --help"),
        (["report", "--compare", "a"], "--compare: expected 2 values, got fewer; see nas report"),
        (
            ["report", "--study", "a", "--compare", "b", "c"],
            "expected --study or --compare, got bo",
        ),
        (["report"], "expected --study or --compare, got neither; see nas report --help"),
        (["search", "--budget"], "--budget: expected a value, got none; see nas search --help"),
        (["search", "--enqueue"], "--enqueue: expected a value, got none; see nas search --help"),
        (["search", "--json=3"], "--json: expected no value, got '3'; see nas search --help"),
        (["search", "--budget", "x"], "--budget: expected a positive whole number such as 5000000"),
        (["search", "--like", "other", "--budget", "5M"], "--like: studies/other.db: expected a"),
    ],
)
def test_bad_usage_says_what_was_expected_and_what_came(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert error_of(capsys, main(arguments)).startswith(f"error: {said}")


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: nas ")
    assert captured.err == ""


def test_a_study_that_is_called_otherwise_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies").mkdir()
    for name in ("digits-5M", "flowers"):
        Path(f"studies/{name}.db").touch()
    said = error_of(capsys, main(["report", "--study", "digits-50M"]))
    assert "studies there: digits-5M, flowers; did you mean digits-5M?" in said


def test_what_follows_an_unknown_option_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql+psycopg://someone:hush4711@127.0.0.1:9/none"
    said = error_of(capsys, main(["search", "--budgt", "5M", "--storage", url]))
    assert "hush4711" not in said
