"""What tests of unfinished files share: writers that are killed or live on while others work."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WRITER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from nas.files import replacing, temporary_folder

with ExitStack() as stack:
    for folder in map(Path, sys.argv[1:]):
        stack.enter_context(replacing(folder / "late")).write(b"whole")
        place = stack.enter_context(temporary_folder(folder, "place"))
        (place / "part").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def unfinished(*folders: Path) -> set[Path]:
    """Everything in these folders that has no place of its own yet."""
    return {path for folder in folders for path in folder.glob(".*.tmp")}


def killed_writer(*folders: Path) -> set[Path]:
    """What a process left that was killed while it wrote a file and a folder in each of these."""
    before = unfinished(*folders)
    with _writer(*folders) as process:
        process.kill()
    left = unfinished(*folders) - before
    assert len(left) == 2 * len(folders)
    return left


@contextmanager
def living_writer(*folders: Path) -> Iterator[None]:
    """A process in the middle of the same until the block ends; it must end well."""
    before = unfinished(*folders)
    with _writer(*folders) as process:
        own = unfinished(*folders) - before
        yield
        assert own <= unfinished(*folders)
        process.communicate()
    assert process.returncode == 0
    assert own.isdisjoint(unfinished(*folders))
    assert all((folder / "late").read_bytes() == b"whole" for folder in folders)


@contextmanager
def _writer(*folders: Path) -> Iterator["subprocess.Popen[str]"]:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, *map(str, folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
