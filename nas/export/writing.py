"""A trained network to a folder of files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from nas.export.formats import FORMATS
from nas.export.graph import onnx_model
from nas.export.spec import CARD, DESCRIPTION, GRAPH, METRICS, WEIGHTS, ModelSpec
from nas.files import replacing_all
from nas.model import ResNet


def write_model(
    folder: Path | str,
    network: ResNet,
    spec: ModelSpec,
    *,
    metrics: Mapping[str, Any],
    card: str,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes the five files of a model; those of an older one are replaced, other files stay.

    All are written in full under other names and then renamed, the description last. It names the
    weights it belongs to, so that `load` never takes files of two models for one.

    Args:
        folder: made if it is not there.
        network: what was trained, on any device; it is not changed.
        spec: what it reads and answers.
        metrics: how good it is, for `metrics.json`: plain finite values.
        card: for a reader, in Markdown, for `README.md`.
        files: int8 files of this network, by their names; those of an older model go.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older model is then
            whole, if perhaps without its int8 files.
        ValueError: the network is not that of the description, or the metrics are no JSON.
    """
    spec.check_network(network.architecture, network.input)
    tensors = {
        name: tensor.detach().cpu().float().contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()  # not the batches that norms have seen, which nobody counts
    }
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    description = {**spec.to_dict(), "weights_sha256": hashlib.sha256(weights).hexdigest()}
    contents = {
        WEIGHTS: weights,
        GRAPH: onnx_model(network, spec),
        **(files or {}),
        **_about(metrics, card),
        DESCRIPTION: _a_line_each(description).encode(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for format in FORMATS.values():  # first, so that none ever lies beside another model
        if format.file not in contents:
            (folder / format.file).unlink(missing_ok=True)
    replacing_all({folder / name: content for name, content in contents.items()})


def add_files(
    folder: Path, files: Mapping[str, bytes], *, metrics: Mapping[str, Any], card: str
) -> None:
    """Adds int8 files to a model that is there, with what is said of it; arguments as above.

    Raises:
        OSError: the folder cannot be written; nothing in it is changed.
    """
    contents = {**files, **_about(metrics, card)}
    replacing_all({folder / name: content for name, content in contents.items()})


def _about(metrics: Mapping[str, Any], card: str) -> dict[str, bytes]:
    return {
        METRICS: (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode(),
        CARD: card.encode("utf-8", "backslashreplace"),
    }


def _a_line_each(document: Mapping[str, Any]) -> str:
    """A JSON object with a line per member, so that a list of numbers stays on one."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
