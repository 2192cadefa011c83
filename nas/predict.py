"""``python -m nas.predict``: the same as ``nas predict``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("predict")
