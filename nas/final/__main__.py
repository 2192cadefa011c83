"""``python -m nas.final``: the same as ``nas final``."""

from nas.entry import run

if __name__ == "__main__":
    run("final")
