"""Pictures of the exported network's surest mistakes, read from the folder of the model.

What a study says of files is not trusted: a picture is a small PNG inside the folder, or none.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from nas.final.records import FinalRecord, Mistake
from nas.text import are, plural

_SIDE = 96  # pixels, at most; larger pictures are made smaller
_LARGEST_FILE = 20_000_000  # bytes
_LARGEST_IMAGE = 4_000_000  # pixels
_SURE, _LIKELY = 0.9, 0.5  # probabilities of an answer


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a final training's mistakes."""

    urls: tuple[str | None, ...]  # one per mistake, `data:`; None: missing
    why: str | None = None  # some are missing


def pictures_of(final: FinalRecord, folder: Path | None) -> Pictures:
    """The pictures in the folder of the exported model, as far as they are there.

    Args:
        final: what was measured.
        folder: of the model; None where it is not known.
    """
    mistakes = final.exported.mistakes
    nothing = (None,) * len(mistakes)
    if folder is None:
        return Pictures(nothing, "the folder of the exported model was not given")
    if not folder.is_dir():
        return Pictures(
            nothing,
            "the folder of the exported model is not where this report was made: it was deleted, "
            "moved, or is on another machine",
        )
    if _read(folder) != final.read:
        return Pictures(nothing, "the folder of the exported model holds another final training")
    urls = tuple(_url(folder, mistake) for mistake in mistakes)
    missing = sum(url is None for url in urls)
    images = plural(len(urls), "picture")
    why = f"{missing} of {images} {are(missing)} not in the model's folder" if missing else None
    return Pictures(urls, why)


def sureness(final: FinalRecord) -> str:
    """How sure the exported network is where it is wrong, in words."""
    most = max((mistake.probability for mistake in final.exported.mistakes), default=0.0)
    if most >= _SURE:
        return "sure about"
    return f"{'rather' if most >= _LIKELY else 'not'} sure about (at most {most:.0%})"


def mistake_in_words(final: FinalRecord, mistake: Mistake) -> str:
    """Such as `true cat, predicted dog at 97%`."""
    label, predicted = final.classes[mistake.label], final.classes[mistake.predicted]
    return f"true {label}, predicted {predicted} at {mistake.probability:.0%}"


def _read(folder: Path) -> object:
    """When the test images were read for the model in the folder; None if that is not known."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics.get("read") if isinstance(metrics, dict) else None


def _url(folder: Path, mistake: Mistake) -> str | None:
    path = (folder / mistake.file).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > _LARGEST_IMAGE:
                return None
            image.thumbnail((_SIDE, _SIDE))
            written = BytesIO()
            image.save(written, "PNG", optimize=True)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return f"data:image/png;base64,{b64encode(written.getvalue()).decode()}"
