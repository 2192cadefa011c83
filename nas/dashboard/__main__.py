"""``python -m nas.dashboard``: the same as ``nas dashboard``."""

from nas.commands import run_as_module

if __name__ == "__main__":
    run_as_module("dashboard")
