"""``python -m nas.doctor``: the same as ``nas doctor``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("doctor")
