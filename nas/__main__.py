"""``python -m nas``: the same as ``nas``."""

from nas.entry import run

if __name__ == "__main__":
    run()
