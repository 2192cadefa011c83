"""``python -m nas.count``: the same as ``nas count``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("count")
