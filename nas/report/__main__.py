"""``python -m nas.report``: the same as ``nas report``."""

from nas.entry import run

if __name__ == "__main__":
    run("report")
