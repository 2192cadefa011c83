"""An exported network from its folder, ready to name what is on an image.

Shapes: N images, C channels, H x W pixels, K classes.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from nas.data.decode import Shape, decode
from nas.export.spec import DESCRIPTION, METRICS, WEIGHTS, ModelError, ModelSpec
from nas.model import ResNet
from nas.runtime import signals
from nas.runtime.arithmetic import arithmetic
from nas.runtime.devices import find_device
from nas.runtime.precision import Precision
from nas.text import in_one_line
from nas.training.batches import Normalize
from nas.values import whole

_BATCH = 256  # images in the network at a time
_REMEDY = "export the model again, or copy its whole folder"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest classes of one image, the likeliest first."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]  # 0..1, one for each of these classes


class Classifier:
    """A network with all it needs to read images; made by `load`.

    Attributes:
        spec: all that `architecture.json` says, of which the next three are a part.
        architecture: the design.
        input: what the network reads and answers.
        classes: their names, in the order of the logits.
        metrics: what `metrics.json` says.
        network: in evaluation mode, on the device it was loaded to.
    """

    def __init__(
        self, spec: ModelSpec, network: ResNet, metrics: Mapping[str, Any], device: torch.device
    ) -> None:
        self.spec = spec
        self.architecture, self.input, self.classes = spec.architecture, spec.input, spec.classes
        self.network = network.to(device).eval()
        self.metrics = metrics
        self._device = device
        self._normalize = Normalize(spec.mean, spec.std, device)

    def logits(self, pixels_NCHW: Tensor) -> Tensor:
        """Logits of uint8 images, (N, K), float32, on the CPU.

        Raises:
            ValueError: the images are of another type or shape.
        """
        shape = (self.input.channels, self.input.height, self.input.width)
        if pixels_NCHW.dtype != torch.uint8 or pixels_NCHW.shape[1:] != shape:
            raise ValueError(
                f"pixels_NCHW must be uint8 images of {'x'.join(map(str, shape))}, "
                f"got {pixels_NCHW.dtype} {tuple(pixels_NCHW.shape)}"
            )
        pixels_NHWC = pixels_NCHW.permute(0, 2, 3, 1)
        with torch.no_grad(), arithmetic(self._device, Precision.FLOAT32):
            return torch.cat(
                [
                    self.network(self._normalize(part.to(self._device))).cpu()
                    for part in torch.split(pixels_NHWC, _BATCH)
                ]
            )

    def predict(
        self, paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], *, top: int = 3
    ) -> list[Prediction]:
        """The `top` likeliest classes of each image file, decoded as the training images were.

        One path is taken for a list of one.

        Raises:
            DataError: a file is no readable image.
            ValueError: `top` is no whole number of at least 1.
        """
        top = whole("top", top)
        given = [paths] if isinstance(paths, str | os.PathLike) else paths
        names = [str(path) for path in given]
        shape = Shape(self.input.channels, self.input.height, self.input.width, bits=self.spec.bits)
        predictions = []
        for start in range(0, len(names), _BATCH):
            signals.check()
            some = names[start : start + _BATCH]
            pixels_NHWC = torch.from_numpy(decode(some, shape))
            logits_NK = self.logits(pixels_NHWC.permute(0, 3, 1, 2))
            shares, labels = logits_NK.softmax(dim=1).topk(min(top, len(self.classes)))
            predictions += [
                Prediction(name, tuple(self.classes[k] for k in row), tuple(probabilities))
                for name, row, probabilities in zip(
                    some, labels.tolist(), shares.tolist(), strict=True
                )
            ]
        return predictions


def load(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Classifier:
    """The network that is in a folder, as `nas final` writes it.

    Reads the weights, `architecture.json` and `metrics.json`; nothing in them is run.

    Raises:
        RequestError: this machine has no such device.
        ModelError: there is no such folder, a file is missing, damaged, of another model or of
            another version.
    """
    where = find_device(device) if isinstance(device, str) else device
    place = Path(folder)
    if not os.path.isdir(place):
        came = "a file" if os.path.exists(place) else "no such folder"
        raise ModelError(
            f"{place}: expected the folder of an exported model, got {came}; "
            "name one, such as studies/NAME/final"
        )
    document = _read_json(place / DESCRIPTION)
    try:
        spec = ModelSpec.from_dict(document)
    except ModelError as error:
        raise ModelError(f"{place / DESCRIPTION}: {error}; {_REMEDY}") from error
    weights = _read(place / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != document.get("weights_sha256"):
        raise ModelError(
            f"{place / WEIGHTS}: expected the weights that {DESCRIPTION} names, got others or a "
            f"damaged file; {_REMEDY}"
        )
    try:
        with torch.device("meta"):  # memory for no more than the file holds
            network = ResNet(spec.architecture, spec.input)
        network.load_state_dict(safetensors.torch.load(weights), assign=True)
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = in_one_line(error)[:160]
        raise ModelError(
            f"{place / WEIGHTS}: expected the weights of {spec.architecture}, got others "
            f"({reason}); {_REMEDY}"
        ) from error
    return Classifier(spec, network, _read_json(place / METRICS), where)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: expected a file of an exported model, got no such file; {_REMEDY}"
        ) from error
    except OSError as error:
        raise ModelError(
            f"{path}: expected a readable file, got: {error.strerror}; {_REMEDY}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    content = _read(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected JSON, got a damaged file ({error}); {_REMEDY}"
        ) from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: expected a JSON object, got another value; {_REMEDY}")
    return document
