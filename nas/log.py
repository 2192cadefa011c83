"""``python -m nas.log``: the same as ``nas log``."""

from nas.entry import run

if __name__ == "__main__":
    run("log")
