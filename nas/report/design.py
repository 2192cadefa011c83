"""The best design of the search: its picture, and where its parameters and mult-adds sit."""

import pandas as pd

from nas.counting import layer_table
from nas.final.records import FinalRecord
from nas.report.document import Section, section
from nas.report.drawing import draw, parts
from nas.report.html import html
from nas.report.tables import MULT_ADDS, PARAMETERS, Column, integer, table, typed_frame
from nas.report.tested import chosen_in_words
from nas.report.words import design_in_words
from nas.study.records import StudyRecord, TrialRecord
from nas.text import plural, share


def best_design(study: StudyRecord, final: FinalRecord | None = None) -> Section | None:
    """The best design of the search as a picture, with its layers; None without one.

    Args:
        study: whose incumbent is drawn.
        final: the last final training; a design that it chose instead is named.
    """
    heading = "The best design of the search"
    best = study.incumbent
    if best is None or best.architecture is None:
        return None
    try:
        picture = draw(best.architecture, study.settings.input, design_in_words(best.architecture))
        shares, layers = share_table(best, study), layers_table(best, study)
    except ValueError as error:  # of another version, or written by hand
        return section(heading, f"The design of trial {best.number} cannot be drawn: {error}.")
    caption = (
        f"Trial {best.number}, to scale: heights are those of the maps, widths numbers of channels "
        "(of each convolution; the thinnest boxes are a little thicker than they should be). Arcs "
        "are shortcuts: plain lines carry the image on as it is, dashed ones are projections with "
        "the kernel size above them."
    )
    if final is not None and final.chosen.architecture != best.architecture:
        caption += (
            f" The final training chose another design, {chosen_in_words(final)}: "
            f"{final.chosen.architecture}."
        )
    share_columns = (
        Column("part", "Part", kind="text"),
        PARAMETERS,
        Column("share", "Share", share),
        MULT_ADDS,
        Column("mult_adds_share", "Share", share),
    )
    layer_columns = (
        Column("name", "Layer", kind="text"),
        Column("kind", "Kind", kind="text"),
        Column("output", "Output", kind="text"),
        Column("kernel", "Kernel", kind="text"),
        Column("stride", "Stride", integer),
        PARAMETERS,
        MULT_ADDS,
    )
    content = html(
        "design.html",
        caption=caption,
        picture=picture,
        shares=table(shares, share_columns, caption="Stem, stages and head"),
        count=plural(len(layers), "layer"),
        layers=table(layers, layer_columns, caption="Layers"),
    )
    return Section(heading, content)


def share_table(trial: TrialRecord, study: StudyRecord) -> pd.DataFrame:
    """Where a design's parameters and mult-adds sit: stem, each stage, head.

    Raises:
        ValueError: the design cannot read the study's images.
    """
    assert trial.architecture is not None
    costs = parts(trial.architecture, study.settings.input)
    parameters = sum(cost.parameters for cost in costs.values())
    mult_adds = sum(cost.mult_adds for cost in costs.values())
    return typed_frame(
        (
            {
                "part": part,
                "parameters": cost.parameters,
                "share": cost.parameters / parameters,
                "mult_adds": cost.mult_adds,
                "mult_adds_share": cost.mult_adds / mult_adds,
            }
            for part, cost in costs.items()
        ),
        integers="parameters mult_adds",
        floats="share mult_adds_share",
        texts="part",
    )


def layers_table(trial: TrialRecord, study: StudyRecord) -> pd.DataFrame:
    """The layers of a design in the order of the forward pass. Raises as `share_table`."""
    assert trial.architecture is not None
    return typed_frame(
        (
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": "x".join(map(str, layer.output)),
                "kernel": f"{layer.kernel}x{layer.kernel}" if layer.kernel else None,
                "stride": layer.stride,
                "parameters": layer.parameters,
                "mult_adds": layer.mult_adds,
            }
            for layer in layer_table(trial.architecture, study.settings.input)
        ),
        integers="stride parameters mult_adds",
        texts="name kind output kernel",
    )
