"""Checkpoints: a run's state in one file that is always whole, and never runs code when read."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from nas.files import replacing

_KIND = "nas checkpoint"
_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be used: what was expected, what came, what to do."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values; an older file is replaced as a whole.

    Raises:
        OSError: the file cannot be written; an older one is then unchanged.
    """
    with replacing(path) as file:
        torch.save({"kind": _KIND, "version": _VERSION, **content}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        CheckpointError: there is no such file, or it is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file") from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint, got a damaged or foreign file ({reason[:120]}); "
            "start without --resume, or from another checkpoint"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CheckpointError(
            f"{path}: expected a checkpoint written by nas, got another program's file"
        )
    if content["version"] != _VERSION:
        raise CheckpointError(
            f"{path}: expected a checkpoint of version {_VERSION}, got {content['version']}"
        )
    return content
