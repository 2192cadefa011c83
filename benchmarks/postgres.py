"""A PostgreSQL server of its own, for as long as a benchmark or a test needs it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


def _program(name: str) -> str | None:
    """PostgreSQL's program; Debian keeps those of a server off the PATH."""
    of_debian = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return shutil.which(name) or (of_debian[-1] if of_debian else None)


INITDB, PG_CTL = _program("initdb"), _program("pg_ctl")
MISSING = None if INITDB and PG_CTL else "needs PostgreSQL: apt-get install postgresql"


@dataclass(frozen=True)
class Server:
    """A server that runs, with an empty database."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]  # at once, as in a crash

    def restart(self) -> None:
        """Stops it and starts it again."""
        self.stop()
        self.start()


@contextmanager
def serving(settings: str = "") -> Iterator[Server]:
    """A server until the block ends.

    Args:
        settings: further options of `postgres`, such as ``-c max_connections=200``.

    Raises:
        LookupError: it is run by root, whom PostgreSQL refuses, and there is no user postgres.
    """
    with tempfile.TemporaryDirectory() as name:
        directory, user = Path(name), None
        if os.geteuid() == 0:
            user = "postgres"
            shutil.chown(directory, user)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = directory / "data"

        def call(*words: str | None) -> None:
            subprocess.run(
                [word for word in words if word],
                user=user,
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=directory,
            )

        call(INITDB, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off {settings}"
        log = str(directory / "log")

        def start() -> None:
            call(PG_CTL, "-D", str(data), "-o", options, "-l", log, "-w", "start")

        def stop() -> None:
            call(PG_CTL, "-D", str(data), "-m", "immediate", "stop")

        start()
        try:
            yield Server(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", start, stop)
        finally:
            stop()
