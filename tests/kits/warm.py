"""Python programs that begin at once, forked from a process that has imported everything.

A program of ours needs 5 to 10 s of a slow core to import torch, Optuna and the rest, and the tests
start some hundreds. `Popen` and `run` are those of `subprocess` for `[sys.executable, "-m", module,
...]`, `[sys.executable, "-c", code, ...]` and `[sys.executable, file, ...]`. What they start is
other in what Python does before the first line of a program: all modules are loaded, hashes have
the seed of the process that forks, and variables that Python or a library reads once, such as
PYTHONHASHSEED and OMP_NUM_THREADS, change nothing. What tests just that takes `subprocess` itself.
Processes that these programs spawn are forked likewise.

Linux only: a forked process becomes a child of the one that asked for it.
"""

import atexit
import ctypes
import json
import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, AnyStr

from tests.kits.places import ROOT

LARGEST_REQUEST = 1 << 20  # bytes
MOST_FILES = 200  # that a new process has
_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_really_spawn = multiprocessing.util.spawnv_passfds


class Popen(subprocess.Popen[AnyStr]):
    """As `subprocess.Popen`.

    Args:
        args: as there, like the rest.
        closed: of the standard streams, those that the program does not have.
        settings: see there.
    """

    def __init__(self, args: list[str], *, closed: Sequence[int] = (), **settings: Any) -> None:
        self._closed = closed
        super().__init__(args, **settings)

    def _execute_child(self, args: Any, executable: Any, *more: Any) -> None:
        preexec, _, pass_fds, cwd, env, _, _, shell, *streams = more[:14]
        start_new_session, process_group = more[-2:]
        assert args[0] == sys.executable, "only our own Python starts warm"
        unknown = (preexec, shell, pass_fds, executable, process_group != -1)
        assert not any(unknown), "not for warm programs"
        p2cread, _, _, c2pwrite, _, errwrite = streams
        given = enumerate((p2cread, c2pwrite, errwrite))
        files = {number: number if fd == -1 else fd for number, fd in given}
        for number in self._closed:
            del files[number]
        try:
            self.pid = _forked(
                [os.fsdecode(word) for word in args[1:]],
                files,
                directory=os.path.abspath(cwd or "."),
                environment=dict(os.environ if env is None else env),
                session=start_new_session,
            )
            self._child_created = True
        finally:
            self._close_pipe_fds(*streams)  # type: ignore[attr-defined]


def run(
    args: list[str], *, timeout: float | None = None, **settings: Any
) -> "subprocess.CompletedProcess[Any]":
    """As `subprocess.run` with `capture_output`."""
    settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen[Any](args, **settings) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(args, process.returncode, output, errors)


def spawn_warm() -> None:
    """Makes `multiprocessing` fork what it spawns from this process in the same way."""
    multiprocessing.util.spawnv_passfds = _spawn  # type: ignore[assignment]


def _spawn(path: bytes, args: Sequence[str], passfds: Sequence[int]) -> int:
    if "--multiprocessing-fork" not in args:  # its resource tracker
        return _really_spawn(path, args, passfds)
    files = {number: number for number in (0, 1, 2, *passfds)}
    return _forked(
        list(args[args.index("-c") :]),
        files,
        directory=os.getcwd(),
        environment=dict(os.environ),
        session=False,
    )


@dataclass
class _Server:
    """What forks: a child of this process, which ends with it."""

    asked: socket.socket | None = None  # None: it is to be started
    process: "subprocess.Popen[bytes] | None" = None

    def ask(self, request: bytes, files: list[int]) -> bytes:
        if self.asked is None:
            self._start()
        assert self.asked is not None
        socket.send_fds(self.asked, [request], files)
        return self.asked.recv(64)

    def _start(self) -> None:
        self.asked, theirs = channel()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.kits.warm_server", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._stop)

    def _stop(self) -> None:
        assert self.asked is not None
        assert self.process is not None
        self.asked.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


server = _Server()
_one_at_a_time = threading.Lock()


def channel() -> tuple[socket.socket, socket.socket]:
    """Two ends for requests and answers."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_REQUEST)
    return ends


def _forked(words: list[str], files: dict[int, int], **more: Any) -> int:
    """The id of a new process, a child of this one.

    Args:
        words: its arguments behind the name of Python.
        files: those of this process by the numbers that they have there.
        more: see `tests.kits.warm_server.become`.
    """
    blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
    request = {"words": words, "files": list(files), "blocked": blocked, **more}
    adopt = ctypes.CDLL(None).prctl
    with _one_at_a_time:
        # What forks it ends at once, so that it becomes a child of ours and no one else's.
        adopt(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            answer = server.ask(json.dumps(request).encode(), list(files.values()))
        finally:
            adopt(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert answer, "the process that forks has ended"
    return int(answer)
