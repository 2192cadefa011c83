"""The model card: what a reader must know of an exported network, in Markdown.

After Mitchell et al. 2019 (arXiv:1810.03993): what it is, how it was made, how well it does and for
whom, and what it must not be used for.
"""

from nas.data.catalogue import DATASETS
from nas.final import words
from nas.final.records import FinalRecord
from nas.final.request import ALL
from nas.numbers import percent, plural, points, times, whole
from nas.templates import Templates

_LICENCES = {
    "cifar10": "no licence is stated by its authors (Krizhevsky 2009, University of Toronto)",
    "cifar100": "no licence is stated by its authors (Krizhevsky 2009, University of Toronto)",
    "svhn": "for non-commercial use only (Netzer et al. 2011)",
    "fashion-mnist": "MIT (Xiao et al. 2017, Zalando)",
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes and Burges)",
    "digits": "CC BY 4.0 (Alpaydin and Kaynak 1998, UCI repository; shipped with scikit-learn)",
}
_OWN = "that of your own images"
_render = Templates(
    "nas.final",
    words=words,
    percent=percent,
    plural=plural,
    points=points,
    times=times,
    whole=whole,
).render


def model_card(record: FinalRecord) -> str:
    """The card of the exported network, which was tested."""
    return _render(
        "card.md",
        record=record,
        chosen=record.chosen,
        exported=record.exported,
        title=DATASETS[record.dataset].title if record.dataset in DATASETS else "own images",
        licence=_LICENCES.get(record.dataset, _OWN),
        trained_on_all=record.on == ALL,
        recipe={**record.recipe, "precision": record.precision},
        gains={gain.reference: gain for gain in record.gains},
    )
