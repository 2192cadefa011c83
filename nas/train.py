"""``python -m nas.train``: the same as ``nas train``."""

from nas.entry import run

if __name__ == "__main__":
    run("train")
