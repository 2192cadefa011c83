"""``python -m nas.studies``: the same as ``nas studies``."""

from nas.entry import run

if __name__ == "__main__":
    run("studies")
