"""The process behind `tests.kits.warm`: imports everything, then forks a child for each request."""

import atexit
import fcntl
import importlib
import json
import multiprocessing.process
import os
import pkgutil
import random
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
import types
from typing import Any, NoReturn

import numpy as np

import nas
from tests.kits import warm
from tests.kits.entries import ENTRIES

# What is imported late, where a program first needs it.
LATE = ("torch._dynamo", "torchvision", "sklearn.datasets", "optuna.importance", "scipy.stats")


def import_everything() -> None:
    """All modules of ours but those that are commands, and what they import late."""
    commands = {"nas." + file.removesuffix(".py").replace("/", ".") for file in ENTRIES}
    needs_triton = {"nas.training.fused_norms", "nas.training.norm_kernels"}
    trackers = {f"nas.trackers.to_{name}" for name in ("mlflow", "tensorboard", "wandb")}
    for module in pkgutil.walk_packages(nas.__path__, "nas."):
        if module.name not in commands - {"nas.entry"} | needs_triton | trackers:
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)


def become(
    words: list[str],
    files: list[int],
    *,
    received: list[int],
    directory: str,
    environment: dict[str, str],
    session: bool,
    blocked: list[int],
) -> NoReturn:
    """Does in this process what a fresh Python would do.

    Args:
        words: its arguments.
        files: the numbers that what was received shall have.
        received: open files.
        directory: where it works.
        environment: its variables.
        session: whether it leads a session of its own.
        blocked: signals that it does not hear.
    """
    above = [fcntl.fcntl(file, fcntl.F_DUPFD, warm.MOST_FILES) for file in received]
    os.closerange(0, warm.MOST_FILES)
    for file, number in zip(above, files, strict=True):
        os.dup2(file, number)
    os.closerange(warm.MOST_FILES, 3 * warm.MOST_FILES)
    if session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    random.seed()
    np.random.seed()
    os.chdir(directory)
    setattr(multiprocessing.process, "ORIGINAL_DIR", directory)  # as of a fresh import  # noqa: B010
    os.environ.clear()
    os.environ.update(environment)
    if "--multiprocessing-fork" not in words:
        fork_for_this_process()
    encoding = os.environ.get("PYTHONIOENCODING") or "utf-8"
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None
        if number in files:
            buffering, errors = (1, "backslashreplace") if name == "stderr" else (-1, "strict")
            mode = "w" if number else "r"
            stream = open(number, mode, buffering, encoding, errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    kind = words.pop(0) if words[0] in ("-m", "-c") else "file"
    program, *arguments = words
    sys.path.insert(0, "" if kind == "-c" else directory)
    sys.argv[:] = [program if kind == "file" else kind, *arguments]
    status = 0
    try:
        if kind == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        elif kind == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), main.__dict__)
        else:
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for open_stream in (sys.stdout, sys.stderr):
        if open_stream is not None:
            open_stream.flush()
    os._exit(status)


def fork(request: dict[str, Any], received: list[int]) -> int:
    """The id of a new process, whose parent is not this one."""
    answer, told = os.pipe()
    between = os.fork()
    if not between:  # ends at once, so that its child has another parent
        itself = os.getpid()
        child = os.fork()
        if not child:
            while os.getppid() == itself:
                time.sleep(0.001)
            become(received=received, **request)
        os.write(told, str(child).encode())
        os._exit(0)
    os.close(told)
    os.waitpid(between, 0)
    number = os.read(answer, 64)
    for file in (answer, *received):
        os.close(file)
    return int(number)


def fork_for_this_process() -> None:
    """Lets a child fork what this process spawns, which then is a child of it, too."""
    ends = []
    for end in warm.channel():  # it may have the numbers of closed streams
        with end:
            number = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, warm.MOST_FILES)
        ends.append(socket.socket(fileno=number))
    ours, theirs = ends
    os.closerange(3, warm.MOST_FILES)
    if not os.fork():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        ours.close()
        os.closerange(0, warm.MOST_FILES)
        try:
            serve(theirs)
        finally:  # without the ends of libraries, which wait for threads that a fork lacks
            os._exit(1)
    theirs.close()
    warm.server.asked = ours
    warm.spawn_warm()


def serve(asked: socket.socket) -> NoReturn:
    """Forks until the other end is closed."""
    while True:
        request, received, _, _ = socket.recv_fds(asked, warm.LARGEST_REQUEST, warm.MOST_FILES)
        if not request:
            os._exit(0)
        asked.send(str(fork(json.loads(request), received)).encode())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one in a terminal is for its children
    import_everything()
    serve(socket.socket(fileno=int(sys.argv[1])))
