"""`nas devices`: the microcontrollers that `--for` knows."""

import argparse
import dataclasses
import json
import textwrap

from nas.commands import arguments
from nas.commands.words import COLUMNS, aligned
from nas.devices import DEVICES, KEPT_BACK, KERNELS, KIB

SUMMARY = "list the devices that --for knows, and what of them a network may use"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nas devices`."""
    arguments.add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the table."""
    if options.json:
        document = [{**dataclasses.asdict(device), **device.maxima} for device in DEVICES.values()]
        print(json.dumps(document, indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("KiB", "", "flash", "of it", "RAM", "of it")]
    for device in DEVICES.values():
        known = (device.flash, device.max_flash, device.ram, device.max_arena)
        rows.append((device.name, device.processor, *(f"{size // KIB:,}" for size in known)))
    print("\n".join(aligned(rows, left=2)))
    print()
    print(textwrap.fill(f"Of it for a network: {KEPT_BACK}. {KERNELS}.", COLUMNS))
    print("Sources of the sizes:")
    for device in DEVICES.values():
        print(f"  {device.name}: {device.source}")
    return 0
