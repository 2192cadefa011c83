"""The model card: what a reader must know of an exported network, in Markdown.

After Mitchell et al. 2019 (arXiv:1810.03993): what it is, how it was made, how well it does and for
whom, and what it must not be used for.
"""

from nas.counting import shown_costs
from nas.data.catalogue import DATASETS
from nas.export.formats import CALIBRATION
from nas.final import words
from nas.final.records import FinalRecord
from nas.final.request import ALL
from nas.templates import Templates
from nas.text import duration, percent, plural, points, times, whole

_OWN_LICENCE = "that of your own images"
_render = Templates(
    "nas.final",
    calibration=CALIBRATION,
    shown_costs=shown_costs,
    words=words,
    duration=duration,
    percent=percent,
    plural=plural,
    points=points,
    times=times,
    whole=whole,
).render


def model_card(record: FinalRecord) -> str:
    """The card of the exported network, which was tested."""
    info = DATASETS.get(record.dataset)
    title, licence = (info.title, info.licence) if info else ("own images", _OWN_LICENCE)
    return _render(
        "card.md",
        record=record,
        chosen=record.chosen,
        exported=record.exported,
        title=title,
        licence=licence,
        trained_on_all=record.on == ALL,
        recipe={**record.recipe, "precision": record.precision},
        gains={gain.reference: gain for gain in record.gains},
    )
