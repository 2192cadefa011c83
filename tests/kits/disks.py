"""A disk of a certain size."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """A file system of its own of this size at the directory."""
    directory.mkdir()
    mount = shutil.which("mount")
    options = [*("-t", "tmpfs", "-o", f"size={size}", "tmpfs"), str(directory)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system: run it as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
