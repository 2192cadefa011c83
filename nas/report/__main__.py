"""``python -m nas.report``: the same as ``nas report``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("report")
