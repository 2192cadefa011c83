"""`nas count`: parameters, mult-adds and the layer table of one design."""

import argparse
import dataclasses
import json

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.commands import arguments
from nas.counting import Count, Layer, count, layer_table
from nas.space import Limits
from nas.study.request import RequestError

SUMMARY = "count the parameters and mult-adds of one design"

_PER_STAGE = ("blocks", "channels", "kernels", "shortcut_kernels", "strides")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas count`."""
    numbers = arguments.whole_numbers
    parser.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    for name, letter, example in (
        ("blocks", "B", "2,1,1,1"),
        ("channels", "C", "64,128,256,512"),
        ("kernels", "F, 3 if left out", "3"),
        ("shortcut-kernels", "K, 1 if left out", "1"),
        ("strides", "1,2,2,... if left out", "1,2,2,2"),
    ):
        parser.add_argument(
            f"--{name}", type=numbers, metavar="LIST", help=f"{letter}; such as {example}"
        )
    parser.add_argument("--pool", type=arguments.whole_number, metavar="P", help="pool size, P")
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
        architecture = _architecture(options)
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


def _architecture(options: argparse.Namespace) -> Architecture:
    given = {n: getattr(options, n) for n in (*_PER_STAGE, "pool") if getattr(options, n)}
    if options.preset is not None:
        if given:
            raise ValueError(
                "expected --preset or the fields of a design, "
                f"got --preset and --{next(iter(given)).replace('_', '-')}"
            )
        if options.preset not in PRESETS:
            raise ValueError(
                f"--preset: expected one of {', '.join(PRESETS)}, got {options.preset!r}"
            )
        return PRESETS[options.preset]
    missing = [n for n in ("blocks", "channels", "pool") if n not in given]
    if missing:
        raise ValueError(
            "expected --preset, or --blocks, --channels and --pool, "
            f"got no --{' and no --'.join(missing)}"
        )
    lists = {"kernels": (3,), "shortcut_kernels": (1,), **given}
    pool = lists.pop("pool")
    stages = max(len(values) for values in lists.values())
    return Architecture(
        **{n: v * stages if len(v) == 1 else v for n, v in lists.items()}, pool=pool
    )


def _fits(options: argparse.Namespace, cost: Count) -> bool | None:
    if options.budget is None and options.max_mult_adds is None:
        return None
    budget = options.budget if options.budget is not None else cost.parameters
    return Limits(max_parameters=budget, max_mult_adds=options.max_mult_adds).allow(cost)


def _verdict(options: argparse.Namespace, cost: Count) -> str:
    verdicts = []
    for limit, value, called in (
        (options.budget, cost.parameters, "parameters"),
        (options.max_mult_adds, cost.mult_adds, "mult-adds"),
    ):
        if limit is not None:
            side = "fits" if value <= limit else "over"
            verdicts.append(f"{side}: {value:,} of {limit:,} {called} ({value / limit:.1%})")
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
