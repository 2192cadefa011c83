"""``python -m nas.export``: the same as ``nas export``."""

from nas.entry import run

if __name__ == "__main__":
    run("export")
