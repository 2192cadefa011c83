"""``python -m nas.predict``: the same as ``nas predict``."""

from nas.entry import run

if __name__ == "__main__":
    run("predict")
