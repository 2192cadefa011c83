"""``python -m nas.final``: the same as ``nas final``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("final")
