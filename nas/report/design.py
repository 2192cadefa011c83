"""The design that one would deploy: its picture, and where its parameters and mult-adds sit."""

import pandas as pd

from nas.architecture import Architecture, ImageInput
from nas.counting import layer_table
from nas.final.records import FinalRecord
from nas.report.document import Section, section
from nas.report.drawing import draw, parts
from nas.report.html import html
from nas.report.tables import MULT_ADDS, PARAMETERS, Column, integer, table, typed_frame
from nas.report.words import design_in_words
from nas.study.records import StudyRecord
from nas.text import plural, share


def design(study: StudyRecord, final: FinalRecord | None) -> Section | None:
    """The exported design, or else the incumbent, as a picture with its layers; None without one.

    Args:
        study: where it was found.
        final: the last final training, which exported the design that it chose.
    """
    architecture: Architecture | None
    if final is not None:
        name, architecture = f"The exported design, {final.chosen.name}", final.chosen.architecture
    elif (best := study.incumbent) is not None:
        name, architecture = f"The incumbent, trial {best.number}", best.architecture
    else:
        return None
    if architecture is None:
        return None
    input = study.settings.input
    try:
        picture = draw(architecture, input, design_in_words(architecture))
        shares, layers = share_table(architecture, input), layers_table(architecture, input)
    except ValueError as error:  # of another version, or written by hand
        return section("Design", f"{name} cannot be drawn: {error}.")
    caption = (
        f"{name}, to scale: heights show the size of the maps, widths the number of channels "
        "(of each convolution; the thinnest boxes are drawn slightly thicker). Arcs are shortcuts: "
        "solid lines are identities, dashed ones projections with the kernel size above them."
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
    return Section("Design", content)


def share_table(architecture: Architecture, input: ImageInput) -> pd.DataFrame:
    """Where a design's parameters and mult-adds sit: stem, each stage, head.

    Raises:
        ValueError: the design cannot read these images.
    """
    costs = parts(architecture, input)
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


def layers_table(architecture: Architecture, input: ImageInput) -> pd.DataFrame:
    """The layers of a design in the order of the forward pass. Raises as `share_table`."""
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
            for layer in layer_table(architecture, input)
        ),
        integers="stride parameters mult_adds",
        texts="name kind output kernel",
    )
