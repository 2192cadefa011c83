"""``python -m nas.count``: the same as ``nas count``."""

from nas.entry import run

if __name__ == "__main__":
    run("count")
