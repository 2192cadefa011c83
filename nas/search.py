"""``python -m nas.search``: the same as ``nas search``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("search")
