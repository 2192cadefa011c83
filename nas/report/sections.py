"""Sections of the report beyond the first look: what `insights` and `charts` show, with words."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from nas.architecture import LETTERS
from nas.final.records import FinalRecord
from nas.report import charts, insights, words
from nas.report.document import Plot
from nas.report.drawing import draw
from nas.report.figures import figure_json
from nas.report.final import chosen_in_words
from nas.report.markup import Column, section, table
from nas.report.mistakes import gallery, pictures_of, sureness
from nas.search.importances import Importances, importances
from nas.study.records import StudyRecord
from nas.text import are, millions, percent, percent_range, plural, whole

TOO_FEW = 20  # designs trained to the end, for importances to be shown at all
ENOUGH = 50  # for them to be read: the best tenth has five then, as Optuna advises
_MOST_DESIGNS = 600  # drawn in a figure of all designs
_CONFUSED = 15  # pairs in the table

_NAMES = ", ".join(f"{letter} {name.replace('_', ' ')}" for name, letter in LETTERS.items())


def _integer(value: Any) -> str:
    return whole(int(value))


def _share(value: Any) -> str:
    return f"{value:.1%}"


@dataclass(frozen=True, slots=True)
class Words(Plot):
    """Stands where a figure would, and says why there is none: its caption."""

    def section(self) -> str:
        """The words under the figure's heading."""
        return section(self.heading, f'<p class="caption">{escape(self.caption)}</p>')


def funnel_plot(study: StudyRecord) -> Plot:
    """What became of the proposals."""
    steps = insights.funnel_table(study)
    columns = (
        Column("step", "Step", kind="text"),
        Column("trials", "Trials", _integer),
        Column("share", "Share", _share),
    )
    return Plot(
        "funnel",
        "From proposals to designs",
        "Look at how much of the search was training: proposals over the budget and duplicates "
        "are never built and cost milliseconds; all others took time, also those that failed.",
        table(steps, columns, caption="What became of the proposals"),
        figure_json(charts.funnel(steps)) if study.trials else None,
    )


def time_plot(study: StudyRecord) -> Plot:
    """The incumbent over time."""
    progress = insights.progress_table(study)
    columns = (
        Column("number", "Trial", _integer),
        Column("elapsed", "Since the first trial", words.duration),
        Column("worked", "Training, all workers", words.duration),
        Column("incumbent", "Incumbent's validation accuracy", percent),
    )
    return Plot(
        "time",
        "The incumbent over time",
        "Look at when the last rise came: above by the clock, pauses between searches included; "
        "below by the time that was spent in training.",
        table(progress, columns, caption="The incumbent over time"),
        None if progress.empty else figure_json(charts.incumbent_over_time(progress)),
    )


def references_section(study: StudyRecord, references: pd.DataFrame) -> str:
    """Which networks the squares of the figure of accuracy and size are; empty without any."""
    if references.empty:
        return ""
    columns = (
        Column("mark", "Mark", kind="text"),
        Column("name", "Network", kind="text"),
        Column("parameters", "Parameters", _integer),
        Column("fits", "Budget", lambda fits: "within" if fits else "over, not drawn", kind="text"),
        Column("accuracy", "Test accuracy", percent),
        Column("interval", "95% interval", kind="text"),
        Column("kind", "What it is", kind="text"),
        Column("source", "Source", kind="text long"),
    )
    shown = _with_interval(references.assign(kind=references["kind"].str.partition(" (")[0]))
    caption = (
        "The squares in the figure of accuracy and size. All are test accuracies, while a search "
        "sees validation images alone. Open squares were published: trained elsewhere, in other "
        "ways, and mostly longer, so they show what is possible at a size, not what the design "
        "alone is worth. Filled ones were measured here, in one final training, alike."
    )
    text = f'<p class="caption">{caption}</p>'
    return section("Reference networks", text + table(shown, columns, caption="Reference networks"))


def importance_plot(study: StudyRecord) -> Plot:
    """What mattered, or how many designs are missing to tell."""
    heading = "What mattered"
    trained = sum(t.val_accuracy is not None for t in study.ranking)
    found = importances(study) if trained >= TOO_FEW else Importances(trained, (), ())
    if found.designs < TOO_FEW or not found.letters:
        text = (
            f"Which choices mattered cannot be told: {_designs(found.designs)} of the space "
            f"trained to the end, and below {TOO_FEW} luck alone makes any choice look important. "
            "Designs that were stopped early do not count: their accuracy is that of fewer epochs."
        )
        return Words("importances", heading, text, "", None)
    mattered = insights.importance_table(found)
    columns = (
        Column("name", "Choice", kind="text"),
        Column("letter", "Letter", kind="text"),
        Column("share", "Share", _share),
        Column("chance", "Largest by chance", _share),
        Column("beyond", "Beyond chance", lambda b: "yes" if b else "no", kind="text"),
    )
    return Plot(
        "importances",
        heading,
        importance_in_words(found),
        table(mattered, columns, caption="What mattered"),
        figure_json(charts.importances(mattered, weak=found.designs < ENOUGH)),
        importance_note(found),
    )


def importance_in_words(found: Importances) -> str:
    """What to look at among importances."""
    beyond = [i.name for i in found.letters if i.is_beyond_chance]
    text = (
        "Look at which bars pass the mark: of 19 times that the same accuracies were dealt out at "
        "random it is the largest bar of all, so where nothing matters one study in 20 has any bar "
        "beyond it; a bar that ends before it says nothing. "
    )
    passed = f"Beyond it: {words.listed(beyond)}." if beyond else "None ends beyond it."
    if found.designs >= ENOUGH:
        text += passed
    else:
        if beyond:
            passed = f"Beyond it, but not to be leaned on: {words.listed(beyond)}."
        text += passed + (
            f" Grey, since {_designs(found.designs)} are few: from {ENOUGH} on the best tenth has "
            "five, the least that Optuna advises."
        )
    return text


def importance_note(found: Importances) -> str:
    """What importances are, and how far to trust them."""
    best = max(1, -(-found.designs // 10))
    return (
        f"Measured is how differently a choice was made in the best tenth ({whole(best)}) of "
        f"{_designs(found.designs)} trained to the end than in all of them (PED-ANOVA, Optuna's "
        "default), summed over the stages. The search did not choose at random, the budget ties "
        "choices together, and later stages exist in some designs only: this says where to look, "
        "not what causes what. Designs that were stopped early are left out, since their accuracy "
        "is that of fewer epochs."
    )


def slices_plot(study: StudyRecord) -> Plot:
    """Accuracy by each choice."""
    choices = insights.choices_table(study)
    shown = insights.thinned(choices, _MOST_DESIGNS)
    return Plot(
        "slices",
        "Accuracy by choice",
        "Look at whether a cloud rises or falls: a dot is a design trained to the end, an orange "
        "bar the median of a value with three designs or more. Choices hang together through the "
        f"budget, so one cloud alone is no proof. {_left_out(choices, shown)}",
        table(shown, _choice_columns(), caption="Choices of each design"),
        None if choices.empty else figure_json(charts.slices(shown)),
        tall=True,
    )


def parallel_plot(study: StudyRecord) -> Plot:
    """All choices of each design at once."""
    choices = insights.choices_table(study)
    shown = insights.thinned(choices, _MOST_DESIGNS)
    return Plot(
        "parallel",
        "Designs side by side",
        "Look at where the thick lines, the best tenth, run together: there the best designs "
        f"agree. A line is a design trained to the end; {_NAMES}; C, F and K are the largest of "
        f"the stages, the size is on a logarithmic axis. {_left_out(choices, shown)}",
        "<p>The designs are those of the table under Accuracy by choice.</p>",
        None if choices.empty else figure_json(charts.parallel(shown)),
    )


def design_section(study: StudyRecord, final: FinalRecord | None = None) -> str:
    """The best design of the search as a picture, with its layers; empty without one.

    Args:
        study: whose incumbent is drawn.
        final: the last final training; a design that it chose instead is named.
    """
    heading = "The best design of the search"
    best = study.incumbent
    if best is None or best.architecture is None:
        return ""
    try:
        picture = draw(
            best.architecture, study.settings.input, words.design_in_words(best.architecture)
        )
        shares, layers = insights.share_table(best, study), insights.layers_table(best, study)
    except ValueError as error:  # of another version, or written by hand
        text = f"The design of trial {best.number} cannot be drawn: {error}."
        return section(heading, f"<p>{escape(text)}</p>")
    caption = (
        f"Trial {best.number}, to scale: heights are those of the maps, widths numbers of channels "
        "(of each convolution; the thinnest boxes are a little thicker than they should be). Arcs "
        "are shortcuts: plain lines carry the image on as it is, dashed ones are projections with "
        "the kernel that stands above."
    )
    if final is not None and final.chosen.architecture != best.architecture:
        caption += (
            f" The final training chose another design, {chosen_in_words(final)}: "
            f"{final.chosen.architecture}."
        )
    sizes = (
        Column("parameters", "Parameters", _integer),
        Column("mult_adds", "Mult-adds", millions),
    )
    share_columns = (
        Column("part", "Part", kind="text"),
        sizes[0],
        Column("share", "Share", _share),
        sizes[1],
        Column("mult_adds_share", "Share", _share),
    )
    layer_columns = (
        Column("name", "Layer", kind="text"),
        Column("kind", "Kind", kind="text"),
        Column("output", "Output", kind="text"),
        Column("kernel", "Kernel", kind="text"),
        Column("stride", "Stride", _integer),
        *sizes,
    )
    return section(
        heading,
        f'<figure><figcaption class="caption">{escape(caption)}</figcaption>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Picture, scrolls">'
        f"{picture}</div></figure><h3>Where its parameters and mult-adds sit</h3>"
        f"{table(shares, share_columns, caption='Stem, stages and head')}"
        f"<details><summary>{plural(len(layers), 'layer')}</summary>"
        f"{table(layers, layer_columns, caption='Layers')}</details>",
    )


def confusion_plot(final: FinalRecord) -> Plot:
    """Which class the exported network takes for which."""
    pairs = insights.confused_table(final, _CONFUSED)
    columns = (
        Column("label", "True class", kind="text"),
        Column("predicted", "Answer", kind="text"),
        Column("images", "Test images", _integer),
        Column("share", "Share of the class", _share),
    )
    figure = charts.confusion(final.exported.confusion, final.classes)
    return Plot(
        "confusion",
        "What is taken for what",
        "Look off the diagonal: a row is a true class, a column an answer of the exported network, "
        "orange a mistake (darker: more of the class, on a scale of its own), blue a right answer. "
        f"The table names the {_CONFUSED} most frequent mistakes at most.",
        table(pairs, columns, caption="Most frequent mistakes")
        if len(pairs)
        else "<p>No test image was classified wrongly.</p>",
        figure_json(figure),
    )


def tested_section(final: FinalRecord, folder: Path | None) -> str:
    """The exported network by class, and its surest mistakes.

    Args:
        final: what was measured.
        folder: of the exported model, where the pictures lie; None where it is not known.
    """
    classes = _with_interval(insights.class_table(final.exported))
    columns = (
        Column("name", "Class", kind="text"),
        Column("images", "Test images", _integer),
        Column("accuracy", "Accuracy", percent),
        Column("interval", "95% interval", kind="text"),
    )
    content = (
        '<p class="caption">The exported network on the test images, by class, the worst first. '
        f"With few images of a class its interval is wide.</p>"
        f"{table(classes, columns, caption='Classes')}"
        "<h3>Surest mistakes</h3>"
    )
    if not final.exported.mistakes:
        content += "<p>No test image was classified wrongly.</p>"
    else:
        pictures = pictures_of(final, folder)
        missing = f" Without pictures: {pictures.why}." if pictures.why else ""
        content += (
            f'<p class="caption">Test images that the exported network is '
            f"{sureness(final)}, and wrong; some may be labelled wrongly.{escape(missing)}</p>"
            f"{gallery(final, pictures)}"
        )
    return section("Classes and surest mistakes", content)


def _with_interval(frame: pd.DataFrame) -> pd.DataFrame:
    """With `low` and `high` as a text, `interval`."""
    pairs = zip(frame["low"].tolist(), frame["high"].tolist(), strict=True)
    texts: list[Any] = [None if pd.isna(low) else percent_range(low, high) for low, high in pairs]
    return frame.assign(interval=texts)


def _choice_columns() -> tuple[Column, ...]:
    return (
        Column("number", "Trial", _integer),
        *(Column(letter, letter, _integer) for letter in LETTERS.values()),
        Column("parameters", "Parameters", _integer),
        Column("val_accuracy", "Validation accuracy", percent),
    )


def _left_out(choices: pd.DataFrame, shown: pd.DataFrame) -> str:
    if len(shown) == len(choices):
        return ""
    return (
        f"{whole(len(shown))} of {plural(len(choices), 'design')} {are(len(shown))} shown: the "
        f"best {whole(_MOST_DESIGNS // 5)}, and every so many of the others."
    )


def _designs(number: int) -> str:
    return f"{plural(number, 'design')}"
