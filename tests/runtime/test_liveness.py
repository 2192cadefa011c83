"""Who runs a trial, and whether that process is still there."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nas.runtime.liveness import is_alive, is_here, worker_name
from tests.kits.waiting import wait_until


def test_who_is_alive() -> None:
    host = socket.gethostname()
    with worker_name() as first, worker_name() as second:
        assert first != second
        assert is_alive(first)
        place = first.partition("@")[2]
    assert is_alive(f"{host}:1:1-0@elsewhere")  # a container of the same name, say
    assert not is_alive(f"{host}:{os.getppid()}:1-0@{place}")
    assert not is_alive(first)  # this process is, that search is not
    assert is_alive("elsewhere:1:1-0")  # nobody here can know
    assert not is_alive(None)
    assert not is_alive(f"{host}:{os.getpid()}")
    parent = os.getppid()
    assert is_alive(f"{host}:{parent}")
    assert not is_alive(f"{host}:{parent}:1-0")  # its number was another process's before
    assert is_alive(f"{host}:{parent}:-0")  # of a system that did not tell when it was started
    assert not is_alive(f"{host}:-5:1-0")  # no process has such a number


@pytest.mark.parametrize("name", ["", ":", ":one:1-0", f":{'9' * 5000}"])
def test_a_damaged_name_is_nobody(name: str) -> None:
    assert not is_alive(socket.gethostname() + name)


@pytest.mark.parametrize("name", [7, True, ["a"], {}])
def test_what_is_no_name_is_nobody(name: object) -> None:
    assert not is_alive(name)
    assert not is_here(name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="names with Linux's ticks")
def test_names_hold_what_linux_calls_the_start_time() -> None:
    host, parent = socket.gethostname(), os.getppid()
    text = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace")
    ticks = int(text.rpartition(")")[2].split()[19])  # field 22 of proc(5)
    assert is_alive(f"{host}:{parent}:{ticks}-0")
    assert not is_alive(f"{host}:{parent}:{ticks - 1}-0")


def test_a_killed_process_is_gone_before_its_parent_asks() -> None:
    code = (
        "from nas.runtime.liveness import *\nwith worker_name() as n: print(n, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert is_alive(name)
        process.kill()
        wait_until(lambda: not is_alive(name))
