"""docs/commands.md says what the commands' own options say."""

import re

from nas.commands import make_parser
from nas.commands.reference import reference
from tests.kits.places import ROOT

PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")


def test_the_page_is_that_of_the_present_options() -> None:
    assert reference() == PAGE, "run: python -m nas.commands.reference > docs/commands.md"


def test_every_option_of_every_command_is_there() -> None:
    _, commands = make_parser()
    sections = dict(zip(commands, PAGE.split("\n## nas ")[1:], strict=True))
    for name, command in commands.items():
        assert sections[name].startswith(f"{name}\n")
        for action in command._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert f"| `{option}" in sections[name]
    for name in ("search", "final"):
        groups = re.findall(r"^\*\*(\w+)\*\*$", sections[name], re.MULTILINE)
        known = ("Basics", "Data", "Training", "Search", "Machine", "Output")
        assert groups == [group for group in known if name == "search" or group != "Search"]
        assert sections[name].count("| option |") == len(groups)  # none is outside of them
    assert "| `--budget N` | maximum number of parameters" in sections["search"]
    assert "\nnas report (--study NAME | --compare A B) [options]\n" in sections["report"]
    assert sections["final"].count("| required |") == 1  # --study
    assert "| `--seeds N` | runs per design, each with its own seed | `3` |" in PAGE
