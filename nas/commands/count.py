"""`nas count`: parameters, mult-adds and the layer table of one design."""

import argparse
import dataclasses
import json

from nas.architecture import Architecture, ImageInput
from nas.commands import arguments, design
from nas.counting import COSTS, Count, Layer, count, layer_table
from nas.errors import RequestError
from nas.space import Limits
from nas.text import share

SUMMARY = "count the parameters and mult-adds of one design"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas count`."""
    design.add_design_options(parser)
    parser.add_argument(
        "--image",
        type=arguments.image_shape,
        default="3x32x32",
        metavar="CxHxW",
        help="image shape",
    )
    parser.add_argument(
        "--classes", type=arguments.whole_number, default=10, metavar="N", help="number of classes"
    )
    for cost in COSTS.values():
        parser.add_argument(
            cost.option,
            dest=cost.maximum,
            type=arguments.large_number,
            metavar="N",
            help=f"most {cost.units} a design may have; exit status 1 when it has more",
        )
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the count; 1 when the design is over a limit, else 0."""
    input = arguments.image_input(options.image, options.classes)
    try:
        architecture = design.design_of(options)
        layers = layer_table(architecture, input)
    except ValueError as error:
        raise RequestError(str(error)) from error
    cost = count(architecture, input)
    maxima = {c.maximum: getattr(options, c.maximum) for c in COSTS.values()}
    limits = Limits(**maxima) if any(maxima.values()) else None
    fits = limits.allow(cost) if limits else None
    if options.json:
        document = {
            "design": str(architecture),
            "key": architecture.key,
            **dataclasses.asdict(cost),
            "fits": fits,
            "layers": [dataclasses.asdict(layer) for layer in layers],
        }
        print(json.dumps(document, indent=2))
    else:
        print(_text(architecture, input, layers, cost))
        for name, most in (limits or {}).items():
            value: int = getattr(cost, name)
            side = "fits" if value <= most else "over"
            print(f"{side}: {value:,} of {COSTS[name].exactly(most)} ({share(value / most)})")
    return 1 if fits is False else 0


def _text(architecture: Architecture, input: ImageInput, layers: list[Layer], cost: Count) -> str:
    width = max(len(layer.name) for layer in layers)
    lines = [
        f"{architecture}   for {input}",
        "",
        f"{'layer':<{width}}  {'kind':<6}  {'output':>12}  {'kernel':>6}  {'stride':>6}  "
        f"{'parameters':>12}  {'mult-adds':>14}",
    ]
    for layer in layers:
        output = "x".join(map(str, layer.output))
        kernel = f"{layer.kernel}x{layer.kernel}" if layer.kernel else ""
        stride = str(layer.stride) if layer.kernel else ""
        lines.append(
            f"{layer.name:<{width}}  {layer.kind:<6}  {output:>12}  {kernel:>6}  {stride:>6}  "
            f"{layer.parameters:>12,}  {layer.mult_adds:>14,}"
        )
    lines.append("")
    width = max(len(c.units) for c in COSTS.values())
    lines += [f"{c.units:<{width}}  {getattr(cost, name):,}" for name, c in COSTS.items()]
    return "\n".join(lines)
