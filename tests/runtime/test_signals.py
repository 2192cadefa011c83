"""Ctrl-C and SIGTERM: noted in a handler, acted on where the program looks for them."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import FrameType

import pytest
from torchvision import datasets

import signals as benchmark
from nas.data import download
from nas.data.loading import load_dataset
from nas.report.page import write_report
from nas.report.pictures import write_pictures
from nas.runtime import signals
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from tests.kits import warm
from tests.kits.places import STUDIES
from tests.kits.waiting import PATIENCE, wait_until

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def waits(frame: FrameType | None) -> bool:
    files = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return files[0] == threading.__file__ and signals.__file__ in files


def when_waiting(act: Callable[[], None]) -> threading.Thread:
    """Acts in another thread once the main thread waits in `nas.runtime.signals`."""
    main = threading.main_thread().ident
    assert main is not None

    def run() -> None:
        wait_until(lambda: waits(sys._current_frames()[main]))
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@BOTH
def test_a_signal_raises_where_it_is_looked_for_and_once(number: signal.Signals) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with signals.listening():
        signals.check()
        send(number)  # raises nothing
        with pytest.raises(KeyboardInterrupt):
            signals.check()
        signals.check()
        signals.sleep(0.001)  # cleaning up may wait for something
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    with signals.listening():  # which begins anew
        signals.check()


@BOTH
def test_a_signal_in_a_destructor_or_a_callback_is_not_lost(number: signal.Signals) -> None:
    class Dying:
        def __del__(self) -> None:
            send(number)
            self.ended = [i for i in range(100)]  # Python has time to run a handler here

    with signals.listening():
        Dying()
        with pytest.raises(KeyboardInterrupt):
            signals.check()

    class Plain:
        pass

    with signals.listening():
        there = Plain()
        reference = weakref.ref(there, lambda _: send(number))
        del there
        assert reference() is None
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def test_a_sleeper_is_woken() -> None:
    with signals.listening():
        sender = when_waiting(lambda: send(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            signals.sleep(3600)
        sender.join()


def test_a_result_that_does_not_come_is_not_waited_for_after_a_signal() -> None:
    never: Future[int] = Future()
    with signals.listening():
        sender = when_waiting(lambda: send(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            signals.result(never)
        sender.join()
    never.set_result(3)
    assert signals.result(never) == 3
    late: Future[int] = Future()
    late.set_exception(TimeoutError("of the work itself"))
    with pytest.raises(TimeoutError, match="of the work itself"):
        signals.result(late)


def test_one_block_in_another_shares_it() -> None:
    with signals.listening():
        outer = signal.getsignal(signal.SIGTERM)
        with signals.listening():
            send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == outer
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def test_a_signal_that_nobody_looked_for_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), signals.listening():
        send(signal.SIGINT)

    def fail() -> None:
        send(signal.SIGINT)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), signals.listening():
        fail()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in the background
    try:
        with signals.listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            send(signal.SIGINT)
            signals.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_change_nothing_and_are_told_nothing() -> None:
    seen: list[object] = []

    def run() -> None:
        with signals.listening():
            seen.append(signal.getsignal(signal.SIGTERM))
        signals.check()
        seen.append("checked")

    before = signal.getsignal(signal.SIGTERM)
    other = threading.Thread(target=run)
    other.start()
    other.join()
    assert seen == [before, "checked"]
    with signals.listening():
        signals.stop()
        other = threading.Thread(target=run)
        other.start()
        other.join()
        assert len(seen) == 4
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def test_stop_is_as_a_first_signal_and_never_a_second() -> None:
    signals.stop()  # with nobody to hear it
    with signals.listening():
        signals.check()
        sender = when_waiting(signals.stop)
        with pytest.raises(KeyboardInterrupt):
            signals.sleep(3600)
        sender.join()
        for _ in range(3):
            signals.stop()
            signals.check()
        send(signal.SIGTERM)  # the first one
        signals.check()


def program(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


LONG_CALL = """
import hashlib
from nas.runtime import signals
with signals.listening():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # in C for a quarter of an hour
"""


def test_a_second_signal_ends_the_process_in_a_long_call_too() -> None:
    process = program(LONG_CALL)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    while process.poll() is None:  # one that comes right after the first is the same
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert process.wait(PATIENCE) == 130
    assert process.communicate() == ("", "")


PATIENT = """
import os, signal
from nas.runtime import signals
with signals.listening(second_ends=False):
    try:
        print("begun", flush=True)
        signals.sleep(3600)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        signals.sleep(0.1)
        print("cleaned up", flush=True)
"""


def test_where_a_second_signal_is_no_end_cleaning_up_goes_on() -> None:
    process = program(PATIENT)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "cleaned up\n", "")


def test_importing_nas_changes_no_handler() -> None:
    code = (
        "import signal, threading; before = signal.getsignal(signal.SIGINT); import nas\n"
        "print(signal.getsignal(signal.SIGINT) is before, signal.getsignal(signal.SIGTERM) == 0,\n"
        "      threading.active_count())"
    )
    output, _ = program(code).communicate(timeout=PATIENCE)
    assert output == "True True 1\n"


@pytest.mark.parametrize("command", ["search", "report", "doctor"])
def test_a_signal_while_a_command_loads_is_one_line(tmp_path: Path, command: str) -> None:
    options = {"search": ["--budget", "5M"], "report": ["--study", "none"], "doctor": []}
    arguments = (f"nas.{command}", *options[command])
    case = benchmark.Case(command, arguments, lambda folder: None)
    process = benchmark.start(case, tmp_path)  # returns as soon as signals are heard
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (130, "", "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["search --workers 2", "final"])
def test_a_command_may_be_interrupted_at_any_moment(
    case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "Popen", warm.Popen[str])
    status = benchmark.main(["--rounds", "1", "--case", case])
    assert status == 0, capsys.readouterr().out


def test_a_hanging_file_does_not_hold_a_signal_up() -> None:
    code = (
        "import os, threading; from nas.data.opening import map_files\n"
        "from nas.runtime import signals\n"
        "def hang(path):\n"  # as reading from a network file system may
        "    print('begun', flush=True)\n"
        "    threading.Event().wait()\n"
        "with signals.listening():\n"
        "    try:\n"
        "        map_files(hang, ['hangs.png'])\n"
        "    except KeyboardInterrupt:\n"
        "        os._exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")


def test_a_signal_ends_the_wait_for_a_browser_and_the_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, begun = tmp_path / "chromium", tmp_path / "begun"
    hanging.write_text(
        f"#!/bin/sh\necho $$ > {begun}.part && mv {begun}.part {begun}\nexec sleep 3600\n"
    )
    hanging.chmod(0o755)
    (tmp_path / "report.html").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop_once_begun() -> None:
        wait_until(begun.exists)
        signals.stop()

    thread = threading.Thread(target=stop_once_begun)
    thread.start()
    with signals.listening(), pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path / "report.html", tmp_path / "pictures")
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert set(tmp_path.iterdir()) == {hanging, begun, tmp_path / "report.html"}


def test_a_signal_ends_a_download_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "probe", lambda urls: None)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        address = f"http://127.0.0.1:{hanging.getsockname()[1]}/a.tar.gz"
        monkeypatch.setattr(datasets.CIFAR10, "url", address)
        with signals.listening():
            sender = when_waiting(lambda: send(signal.SIGTERM))
            with pytest.raises(KeyboardInterrupt):
                load_dataset("cifar10", tmp_path)
            sender.join()
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_a_report_and_the_older_one_stays(tmp_path: Path) -> None:
    study = read_study(StudyLocation.at("digits-example", studies_dir=STUDIES))
    report = tmp_path / "digits-example.html"
    report.write_text("older")
    with signals.listening():
        signals.stop()
        with pytest.raises(KeyboardInterrupt):
            write_report(study, tmp_path)
    assert report.read_text() == "older"


def test_ctrl_c_in_a_terminal_leaves_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(benchmark.SPACE)
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", *benchmark.SEARCH, "--epochs", "400"],
        cwd=tmp_path,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(benchmark.ROOT)},
    )
    os.close(theirs)
    shown, sent = b"", False
    with contextlib.suppress(OSError):  # what reading gives once the other end is closed
        while part := os.read(terminal, 65536):
            shown += part
            if not sent and re.search(rb"epoch (?!1 )\d+ of 400", shown):  # the first one is done
                process.send_signal(signal.SIGINT)
                sent = True
    os.close(terminal)
    output, _ = process.communicate(timeout=benchmark.LAST_RESORT)
    assert (process.returncode, output) == (130, b"")
    last = shown.decode().splitlines()[-1]
    assert "interrupted: 0 of 50 designs finished" in last
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor is shown again"
    assert b"Traceback" not in shown
