"""What `nas doctor` found on a GPU, kept for the searches that come after it.

A verdict is about one model of GPU, the CUDA version of its driver, and one torch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from nas.files import cache_folder, replacing


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a GPU trains as it should."""

    good: bool
    capture: bool  # whether steps may be captured as graphs
    checked: str  # the day, ISO 8601


def read_verdict(device: torch.device) -> Verdict | None:
    """The verdict on this GPU; None if there is none that can be read."""
    return _read().get(_name(device))


def write_verdict(device: torch.device, verdict: Verdict) -> None:
    """Keeps the verdict on this GPU.

    Raises:
        OSError: there is no place for it.
    """
    path = _path()
    if path is None:
        raise FileNotFoundError("no cache folder: neither XDG_CACHE_HOME nor a home is known")
    path.parent.mkdir(parents=True, exist_ok=True)
    verdicts = {**_read(), _name(device): verdict}
    document = {name: asdict(kept) for name, kept in verdicts.items()}
    with replacing(path) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def _name(device: torch.device) -> str:
    driver = getattr(torch._C, "_cuda_getDriverVersion", lambda: 0)()
    return f"{torch.cuda.get_device_name(device)}, driver {driver}, torch {torch.__version__}"


def _read() -> dict[str, Verdict]:
    path = _path()
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return {name: Verdict(**values) for name, values in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _path() -> Path | None:
    folder = cache_folder()
    return folder / "devices.json" if folder else None
