"""``python -m nas.doctor``: the same as ``nas doctor``."""

from nas.entry import run

if __name__ == "__main__":
    run("doctor")
