"""``python -m nas.train``: the same as ``nas train``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("train")
