"""`nas count`: every cost and the layer table of one design."""

import argparse
import dataclasses
import json

from nas.architecture import Architecture, ImageInput
from nas.commands import arguments, design
from nas.commands.words import aligned
from nas.counting import COSTS, LIMITED, Count, Layer, count, layer_table
from nas.devices import DEVICES, KEPT_BACK
from nas.errors import RequestError
from nas.space import Limits
from nas.text import share

SUMMARY = "count what one design costs: parameters, mult-adds, RAM and flash on a device"

_PER_LAYER = ("parameters", "mult_adds", "activations")


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
    for cost in LIMITED.values():
        parser.add_argument(
            cost.option,
            dest=cost.maximum,
            type=arguments.memory if cost.memory else arguments.large_number,
            metavar="BYTES" if cost.memory else "N",
            help=f"most {cost.units} a design may have; exit status 1 when it has more",
        )
    parser.add_argument(
        "--for",
        dest="target",
        choices=tuple(DEVICES),
        metavar="DEVICE",
        help=f"sets --max-ram and --max-flash where they are not given: {', '.join(DEVICES)}; "
        f"{KEPT_BACK}",
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
    limits = _limits(options)
    if limits is not None and limits.of_memory and input.channels not in (1, 3):
        raise RequestError(
            "--image: expected 1 channel (gray) or 3 (RGB), which a network in int8 takes, got "
            f"{input.channels}"
        )
    fits = limits.allow(cost) if limits else None
    if options.json:
        document = {
            "design": str(architecture),
            "key": architecture.key,
            **dataclasses.asdict(cost),
            "fits": fits,
            "layers": [
                {**dataclasses.asdict(layer), "activations": layer.activations} for layer in layers
            ],
        }
        print(json.dumps(document, indent=2))
    else:
        print(_text(architecture, input, layers, cost))
        for name, most in (limits or {}).items():
            value: int = getattr(cost, name)
            side = "fits" if value <= most else "over"
            part = f"{value / most:,.0f} times" if value > 10 * most else share(value / most)
            print(f"{side}: {value:,} of {COSTS[name].exactly(most)} ({part})")
        if options.target:
            print(f"for {options.target}: {KEPT_BACK}")
    return 1 if fits is False else 0


def _limits(options: argparse.Namespace) -> Limits | None:
    maxima = {cost.maximum: getattr(options, cost.maximum) for cost in LIMITED.values()}
    if options.target:
        for name, most in DEVICES[options.target].maxima.items():
            maxima[name] = maxima[name] or most
    return Limits(**maxima) if any(maxima.values()) else None


def _text(architecture: Architecture, input: ImageInput, layers: list[Layer], cost: Count) -> str:
    rows = [("layer", "output", "kernel", *(COSTS[name].units for name in _PER_LAYER))]
    for layer in layers:
        stride = f"/{layer.stride}" if layer.stride > 1 else ""
        kernel = f"{layer.kernel}x{layer.kernel}{stride}" if layer.kernel else ""
        output = "x".join(map(str, layer.output))
        costs = [f"{value:,}" if (value := getattr(layer, n)) else "" for n in _PER_LAYER]
        rows.append((layer.name, output, kernel, *costs))
    lines = [f"{architecture}   for {input}", "", *aligned(rows), ""]
    width = max(len(c.title) for c in COSTS.values())
    for name, c in COSTS.items():
        value = getattr(cost, name)
        bytes_ = f" bytes ({c.rounded(value)})" if c.memory else ""
        lines.append(f"{c.title:<{width}}  {value:,}{bytes_}")
    return "\n".join(lines)
