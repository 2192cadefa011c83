"""The options that describe one design: a preset, or its fields."""

import argparse

from nas.architecture import FIELDS, PRESETS, STAGE_FIELDS, Architecture
from nas.commands import arguments
from nas.values import choices

_PER_STAGE = (*(field.name for field in STAGE_FIELDS), "strides")


def add_design_options(parser: argparse._ActionsContainer) -> None:
    """`--preset`, or a value or list per field."""
    parser.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    fields = [
        (f.name, f.letter + (f", {f.default} if left out" if f.default else ""), f.example)
        for f in STAGE_FIELDS
    ]
    for name, letter, example in (*fields, ("strides", "1,2,2,... if left out", "1,2,2,2")):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=arguments.whole_numbers,
            metavar="LIST",
            help=f"{letter}; such as {example}",
        )
    parser.add_argument("--pool", type=arguments.whole_number, metavar="P", help="pool size, P")


def given_fields(options: argparse.Namespace) -> list[str]:
    """The options of `add_design_options` that were used, as they are typed."""
    names = ("preset", *_PER_STAGE, "pool")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]


def design_of(options: argparse.Namespace) -> Architecture:
    """The design that the options describe; one value serves all stages.

    Raises:
        ValueError: they describe none.
    """
    given = {n: getattr(options, n) for n in (*_PER_STAGE, "pool") if getattr(options, n)}
    if options.preset is not None:
        if given:
            raise ValueError(
                "expected --preset or the fields of a design, "
                f"got {' and '.join(given_fields(options)[:2])}"
            )
        if options.preset not in PRESETS:
            raise ValueError(f"--preset: expected {choices(options.preset, PRESETS)}")
        return PRESETS[options.preset]
    missing = [f.name for f in FIELDS if f.default is None and f.name not in given]
    if missing:
        raise ValueError(
            "expected --preset, or --blocks, --channels and --pool, "
            f"got no --{' and no --'.join(missing)}"
        )
    lists = {**{f.name: (f.default,) for f in STAGE_FIELDS if f.default}, **given}
    pool = lists.pop("pool")
    stages = max(len(values) for values in lists.values())
    return Architecture(
        **{n: v * stages if len(v) == 1 else v for n, v in lists.items()}, pool=pool
    )
