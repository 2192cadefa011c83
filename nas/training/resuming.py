"""The checkpoint of a run that may be killed at any moment: written seldom, gone when it ends."""

import contextlib
import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nas.files import remove_unfinished
from nas.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

_SHARE = 0.05  # of the time, at most, is spent on writing
_LEAST = 1.0  # seconds of training that are worth a checkpoint


class Resumable(Protocol):
    """What has a state between two epochs: `nas.training.loop.Run`."""

    def state(self) -> dict[str, Any]:
        """All that decides how it goes on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to what `state` gave."""


class EpochCheckpoint:
    """The file from which another process goes on with a run.

    A file that cannot be written or read, or is of another run, is as good as none: the run then
    begins anew.

    Args:
        path: of the file; its folder is made for the first one.
        identity: what a run that goes on from it must share, as plain values.
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
        least: float = _LEAST,
        parents: bool = True,
    ) -> None:
        self.path = path
        self._parents = parents
        self.error: OSError | None = None  # why the last one could not be written
        self._identity = dict(identity)
        self._least = least
        self._saved = time.monotonic()
        self._pause = least

    def restore(self, run: Resumable) -> bool:
        """Brings a fresh run to the state of the file; returns whether it did."""
        remove_unfinished(self.path.parent)
        self._saved = time.monotonic()
        try:
            content = load_checkpoint(self.path)
        except CheckpointError:
            return False
        if content.get("identity") != self._identity or not isinstance(content.get("run"), dict):
            return False
        fresh = copy.deepcopy(run.state())
        try:
            run.load_state(content["run"])
        except (KeyError, TypeError, ValueError, RuntimeError):  # of another version of torch, say
            run.load_state(fresh)
            return False
        return True

    def save(self, run: Resumable, *, at_once: bool = False) -> None:
        """Writes the state of a run between two epochs, if the last one is long enough ago.

        Args:
            run: between two epochs.
            at_once: write it in any case.
        """
        started = time.monotonic()
        if not at_once and started - self._saved < self._pause:
            return
        self.error = None
        try:
            self.path.parent.mkdir(parents=self._parents, exist_ok=True)
            save_checkpoint(self.path, {"identity": self._identity, "run": run.state()})
        except OSError as error:
            self.error = error
        self._saved = time.monotonic()
        self._pause = max(self._least, (self._saved - started) / _SHARE)

    def remove(self) -> None:
        """Removes the file, and folders that were made for it and are empty."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            remove_unfinished(self.path.parent)
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()
