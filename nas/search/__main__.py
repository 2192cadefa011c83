"""``python -m nas.search``: the same as ``nas search``."""

from nas.entry import run

if __name__ == "__main__":
    run("search")
