"""Checkpoints: a run's state in one file that is always whole, and never runs code when read."""

import contextlib
import copy
import io
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from nas.files import remove_unfinished, replacing
from nas.training.config import DEFAULTS

_KIND = "nas checkpoint"
_VERSION = 1
_SHARE = 0.05  # of the time, at most, is spent on writing
_TRIES = 20  # to write into a folder that a search that ends finds empty and removes
_LEAST = 1.0  # seconds of training that are worth a checkpoint
_ANEW = "remove its folder and start without --resume, or name another folder with --out"


class CheckpointError(ValueError):
    """A checkpoint cannot be used: what was expected, what came, what to do."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values; an older file is replaced as a whole.

    Raises:
        OSError: the file cannot be written; an older one is then unchanged.
    """
    whole = io.BytesIO()  # torch's writer would hide the error of a full disk behind its own
    torch.save({"kind": _KIND, "version": _VERSION, **content}, whole)
    with replacing(path) as file:
        file.write(whole.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged or something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file: it is refused below
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()  # torch does not compare checksums
            if broken:
                raise zipfile.BadZipFile(f"wrong checksum of {broken}")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file") from error
    except Exception as error:  # damage breaks torch's reader in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint, got a damaged or foreign file ({reason[:120]}); "
            f"{_ANEW}"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CheckpointError(
            f"{path}: expected a checkpoint written by nas, got another program's file; {_ANEW}"
        )
    version = content.get("version")
    if version != _VERSION:
        raise CheckpointError(
            f"{path}: expected a checkpoint of version {_VERSION}, got {version}; {_ANEW}"
        )
    return content


class Resumable(Protocol):
    """What has a state between two epochs: `nas.training.loop.Run`."""

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to what `state` gave."""


class Checkpoint:
    """The file from which another process goes on with a run.

    It is written seldom, for a run that may be killed at any moment, and removed at its end. One
    that cannot be written or read, or belongs to another run, is ignored, and the run starts over.
    A checkpoint that is `kept` is written after every epoch, and such things are errors.

    Args:
        path: of the file; its folder is made for the first one.
        identity: what a run that goes on from it must share, as plain values. One that is not kept
            also belongs to a version of torch, since nobody decides whether to go on with it.
        kept: see above.
        least: seconds of training before the first one, and between two; more where writing one
            takes over a twentieth of that.
        parents: whether the folders above the file's own are made, too; without, what was moved
            away while a run trained is not made anew.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        kept: bool = False,
        least: float = _LEAST,
        parents: bool = True,
    ) -> None:
        self.path = path
        self.identity = {**identity} if kept else {**identity, "torch": str(torch.__version__)}
        self.kept = kept
        self.error: OSError | None = None  # why the last one could not be written
        self._parents = parents
        self._least = self._pause = least
        self._saved = time.monotonic()

    def restore(self, run: Resumable) -> None:
        """Brings a fresh run to the state of the file, where there is one.

        Raises:
            CheckpointError: the file is kept, and damaged or of another run.
        """
        remove_unfinished(self.path.parent)
        self._saved = time.monotonic()
        try:
            self._restore(run)
        except CheckpointError:
            if self.kept and self.path.exists():
                raise

    def _restore(self, run: Resumable) -> None:
        content = load_checkpoint(self.path)
        another = f"{self.path}: expected the state of a run, got a checkpoint of another kind"
        before = content.get("identity")
        if not isinstance(before, dict) or not isinstance(before.get("recipe", {}), dict):
            raise CheckpointError(f"{another}; {_ANEW}")
        if changed := _changes(before, self.identity):
            raise CheckpointError(
                f"{self.path}: expected the same run to continue, got {'; '.join(changed)}; use "
                "those settings, or another folder with --out"
            )
        fresh = copy.deepcopy(run.state())
        try:
            run.load_state(content["run"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            run.load_state(fresh)
            raise CheckpointError(f"{another} ({type(error).__name__}); {_ANEW}") from error

    def save(self, run: Resumable, *, at_once: bool = False) -> None:
        """Writes the state of a run between two epochs, if it is time for that.

        Args:
            run: between two epochs.
            at_once: write it in any case.

        Raises:
            OSError: the file is kept and cannot be written.
        """
        started = time.monotonic()
        if not (self.kept or at_once) and started - self._saved < self._pause:
            return
        self.error = None
        content = {"identity": self.identity, "run": run.state()}
        try:
            self._write(content)
        except OSError as error:
            if self.kept:
                raise
            self.error = error
        self._saved = time.monotonic()
        self._pause = max(self._least, (self._saved - started) / _SHARE)

    def _write(self, content: dict[str, Any]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self.path.parent.mkdir(parents=self._parents, exist_ok=True)
                return save_checkpoint(self.path, content)
            except FileNotFoundError:  # another search ended, found it empty and removed it
                if not left:
                    raise

    def remove(self) -> None:
        """Removes the file; its folder, where others may be writing theirs, stays."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            remove_unfinished(self.path.parent)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs differ, as text."""
    values_before, values = (
        {**identity, **DEFAULTS, **identity.get("recipe", {})} for identity in (before, now)
    )
    return [
        f"{name} {values_before.get(name)} before, {value} now"
        for name, value in values.items()
        if name != "recipe" and values_before.get(name) != value
    ]
