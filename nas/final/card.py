"""The model card: what a reader must know of an exported network, in Markdown.

After Mitchell et al. 2019 (arXiv:1810.03993): what it is, how it was made, how well it does and for
whom, and what it must not be used for.
"""

import re
from collections.abc import Sequence

from nas.data.catalogue import DATASETS
from nas.final import words
from nas.final.records import FinalDesign, FinalRecord, Measured
from nas.final.request import ALL
from nas.text import percent, plural, points, times, whole

_OWN_LICENCE = "that of your own images"


def model_card(record: FinalRecord) -> str:
    """The card of the exported network."""
    chosen, exported = record.chosen, record.exported
    assert chosen.test is not None
    assert chosen.validation is not None
    info = DATASETS.get(record.dataset)
    title, licence = (info.title, info.licence) if info else ("own images", _OWN_LICENCE)
    spread = _spread(chosen.test)
    lines = [
        f"# {_text(record.study)}: a residual network for {title}",
        "",
        f"{whole(chosen.parameters)} parameters, {whole(chosen.mult_adds)} mult-adds an image; "
        f"the budget was {whole(record.max_parameters)} parameters.",
        "",
        f"**Test accuracy {percent(exported.accuracy.value)}** (95% interval "
        f"{words.interval(exported.accuracy)}) of this network on "
        f"{plural(record.test_images, 'test image')}. The design's mean over "
        f"{words.seeds(record)} is {percent(chosen.test.mean.value)}{spread} (95% interval "
        f"{words.interval(chosen.test.mean)}).",
        "",
        _reading(record),
        "",
        "## Use",
        "",
        "```python",
        "import nas",
        "",
        'model = nas.load("this folder")',
        'print(model.predict(["photo.jpg"]))',
        "```",
        "",
        "or `python -m nas.predict FOLDER photo.jpg`. Without this package: `model.onnx` reads "
        "8-bit images and normalizes them itself; `model.safetensors` holds the weights of the "
        "design in `architecture.json`, which also says how images are prepared.",
        "",
        "## Design",
        "",
        f"`{chosen.architecture}`, {chosen.name} of the study. It reads {record.input}: "
        + ", ".join(_text(name) for name in record.classes[:100])
        + ("." if len(record.classes) <= 100 else ", ..."),
        "",
        "## Data",
        "",
        f"{title}: {plural(record.train_images, 'image')} to train on"
        + (f" ({100 * record.subset:.4g}% of those there are)" if record.subset < 1 else "")
        + (", the validation images among them" if record.on == ALL else "")
        + f", {whole(record.validation_images)} to choose by, {whole(record.test_images)} to test "
        f"on. Licence of the data: {licence}.",
        *(f"\n{_text(note)}" for note in record.notes),
        "",
        "## Training",
        "",
        f"Recipe `{record.recipe_name}`, seeds {', '.join(map(str, record.seeds))}; this network "
        f"is that of seed {exported.seed}, "
        + (
            "the first."
            if record.on == ALL
            else "the one with the highest validation accuracy, the first of equals."
        )
        + f" On {', '.join(record.devices)}, {record.seconds:,.0f} s in all runs together.",
        "",
        *_table(
            ("setting", "value"),
            [
                (f"`{name}`", f"`{value}`")
                for name, value in {**record.recipe, "precision": record.precision}.items()
            ],
        ),
        "",
        "## How it was chosen",
        "",
        f"By mean validation accuracy over {words.seeds(record)}; test images were read after it.",
        "",
        *_table(
            ("design", "parameters", "in the search", "validation accuracy", "95% interval"),
            [_finalist(design) for design in record.finalists],
        ),
        "",
        words.choice(record),
        "",
        *_references(record),
        "## Accuracy by class",
        "",
        *_table(
            ("class", "test images", "right", "accuracy"),
            [
                (_cell(c.name), whole(c.images), whole(c.correct), _share(c.correct, c.images))
                for c in exported.per_class
            ],
        ),
        "",
        "## Limits",
        "",
        "- The intervals hold for further images of the same kind. Photos taken elsewhere, by "
        "other cameras or of other things are not, and accuracy on them may be far lower.",
        "- Every image gets one of the classes above, also one that shows none of them, and the "
        "probabilities are not calibrated.",
        f"- Images are reduced to {record.input.height}x{record.input.width} pixels: small things "
        "are lost.",
        "- It was not checked for fairness or against attacks. Do not let it decide about people.",
        "",
        "## Origin",
        "",
        *_code(record.command),
        f"Tested {record.read}. Versions: "
        + ", ".join(f"{name} {version}" for name, version in record.versions.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _reading(record: FinalRecord) -> str:
    if record.readings == 1:
        return (
            "The test images were read once, after the choice, by the networks of this design"
            + (" and of those it is compared with below." if record.references else ".")
        )
    return (
        f"**The test images were read {times(record.readings)} in this study.** What is chosen "
        "after a reading may be chosen by it, so this accuracy may be too high, by an unknown "
        "amount."
    )


def _references(record: FinalRecord) -> list[str]:
    if not record.references:
        return []
    gains = {gain.reference: gain for gain in record.gains}

    def row(design: FinalDesign) -> tuple[str, ...]:
        gain = gains.get(design.name)
        published = f"{percent(design.published)} ({design.source})" if design.published else "-"
        return (
            f"`{design.name}`",
            f"{whole(design.parameters)}{words.size_note(design, record)}",
            _measured(design.test) if design.test else f"failed: {_cell(design.failed or '')}",
            f"{points(gain.architecture.value)} ({points(gain.architecture.low)} to "
            f"{points(gain.architecture.high)})"
            if gain
            else "-",
            published,
            points(gain.recipe) if gain and gain.recipe is not None else "-",
        )

    return [
        "## Against known designs",
        "",
        "Trained here with the same recipe, images and seeds, and tested in the same reading.",
        "",
        *_table(
            (
                "design",
                "parameters",
                "test accuracy",
                "gain by the design (95% interval)",
                "published",
                "gain by the recipe",
            ),
            [row(design) for design in record.references],
        ),
        "",
    ]


def _finalist(design: FinalDesign) -> tuple[str, ...]:
    validation = design.validation
    return (
        f"{design.name} `{design.architecture}`",
        whole(design.parameters),
        percent(design.search_accuracy),
        f"{percent(validation.mean.value)}{_spread(validation)}"
        if validation
        else f"failed: {_cell(design.failed or '')}",
        words.interval(validation.mean) if validation else "-",
    )


def _spread(measured: Measured) -> str:
    deviation = measured.standard_deviation
    return "" if deviation is None else f", standard deviation {100 * deviation:.2f}"


def _measured(measured: Measured) -> str:
    return f"{percent(measured.mean.value)} ({words.interval(measured.mean)})"


def _share(part: int, of: int) -> str:
    return percent(part / of) if of else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _code(text: str | None) -> list[str]:
    """A block of code, fenced by more backticks than are in it."""
    if text is None:
        return []
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, text, fence, ""]


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """Text from a person or a file, that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#])", r"\\\1", " ".join(text.split()))
