"""`nas count`: parameters, mult-adds and the layer table of one design."""

import argparse
import dataclasses
import json

from nas.architecture import Architecture, ImageInput
from nas.commands import arguments, design
from nas.counting import Count, Layer, count, layer_table
from nas.errors import RequestError
from nas.space import Limits
from nas.text import plural

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
    parser.add_argument(
        "--budget",
        type=arguments.large_number,
        metavar="N",
        help="most parameters a design may have; exit status 1 when it has more",
    )
    parser.add_argument(
        "--max-mult-adds",
        type=arguments.large_number,
        metavar="N",
        help="most mult-adds a design may have; exit status 1 when it has more",
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
    fits = _fits(options, cost)
    if options.json:
        document = {
            "design": str(architecture),
            "key": architecture.key,
            "parameters": cost.parameters,
            "mult_adds": cost.mult_adds,
            "fits": fits,
            "layers": [dataclasses.asdict(layer) for layer in layers],
        }
        print(json.dumps(document, indent=2))
    else:
        print(_text(architecture, input, layers, cost))
        if fits is not None:
            print(_verdict(options, cost))
    return 1 if fits is False else 0


def _fits(options: argparse.Namespace, cost: Count) -> bool | None:
    if options.budget is None and options.max_mult_adds is None:
        return None
    budget = options.budget if options.budget is not None else cost.parameters
    return Limits(max_parameters=budget, max_mult_adds=options.max_mult_adds).allow(cost)


def _verdict(options: argparse.Namespace, cost: Count) -> str:
    verdicts = []
    for limit, value, called in (
        (options.budget, cost.parameters, "parameter"),
        (options.max_mult_adds, cost.mult_adds, "mult-add"),
    ):
        if limit is not None:
            side = "fits" if value <= limit else "over"
            verdicts.append(f"{side}: {value:,} of {plural(limit, called)} ({value / limit:.1%})")
    return "\n".join(verdicts)


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
    lines += ["", f"parameters  {cost.parameters:,}", f"mult-adds   {cost.mult_adds:,}"]
    return "\n".join(lines)
