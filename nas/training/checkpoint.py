"""Checkpoints: a run's state in one file that is always whole, and never runs code when read."""

import io
import warnings
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
            "start without --resume, or from another checkpoint"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CheckpointError(
            f"{path}: expected a checkpoint written by nas, got another program's file"
        )
    version = content.get("version")
    if version != _VERSION:
        raise CheckpointError(f"{path}: expected a checkpoint of version {_VERSION}, got {version}")
    return content
