"""``python -m nas.dashboard``: the same as ``nas dashboard``."""

from nas.entry import run

if __name__ == "__main__":
    run("dashboard")
