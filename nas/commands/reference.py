"""The reference of all commands as Markdown, from their parsers.

::

    python -m nas.commands.reference > docs/commands.md

It is made from the options themselves, not from the text of `--help`, whose form depends on the
terminal and on the version of Python. A test holds the file to it.
"""

import argparse
import re
from collections.abc import Iterator

from nas.commands import make_parser

_INTRODUCTION = """\
# Commands

Made from the commands' own options by `python -m nas.commands.reference`;
`nas COMMAND --help` says the same.

`nas COMMAND` and `python -m nas.COMMAND` are the same. Results go to stdout, progress and notes to
stderr. Exit status: 0 done; 1 the run failed, the answer is no, or a package that nas needs cannot
be imported (`nas doctor` finds which); 2 bad usage or bad input, reported in one line; 130 after
Ctrl-C. Output that cannot be written (a closed pipe, a full disk) does not stop a command; if a
full disk has cost results on stdout, the exit status is 1.
Option names cannot be abbreviated. `nas --version` prints the version.
"""
_DEFAULT = re.compile(r" \(default: (.*)\)$")  # in a help text


def reference() -> str:
    """The whole page, with a final newline."""
    _, commands = make_parser()
    listed = [f"- [`{name}`](#nas-{name}): {_about(c)}" for name, c in commands.items()]
    sections = [section for name, c in commands.items() for section in _command(name, c)]
    return "\n".join([_INTRODUCTION, *listed, "", *sections])


def _about(command: argparse.ArgumentParser) -> str:
    text = (command.description or "").removesuffix(".")
    return _cell(text[:1].lower() + text[1:])


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## nas {name}\n"
    yield f"{_cell(command.description or '')}\n"
    yield f"```text\n{_usage(name, command)}\n```\n"
    for group in command._action_groups:  # argparse shows its groups nowhere else
        shown = [action for action in group._group_actions if _is_shown(action)]
        if not shown:
            continue
        if group.title not in ("positional arguments", "options"):
            yield f"**{(group.title or '')[:1].upper()}{(group.title or '')[1:]}**\n"
        yield "| option | meaning | default |\n|---|---|---|"
        yield from (_row(command, action) for action in shown)
        yield ""


def _is_shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction)


def _usage(name: str, command: argparse.ArgumentParser) -> str:
    """What must be given; everything else is in the tables."""
    shown = [action for action in command._actions if _is_shown(action)]
    needed = [_spelled(a) for a in shown if a.option_strings and a.required]
    needed += [
        f"({' | '.join(map(_spelled, group._group_actions))})"
        for group in command._mutually_exclusive_groups
        if group.required
    ]
    places = [_spelled(a) for a in shown if not a.option_strings]
    rest = ["[options]"] if any(a.option_strings and not a.required for a in shown) else []
    return " ".join([f"nas {name}", *needed, *rest, *places])


def _spelled(action: argparse.Action) -> str:
    """An option with its value, or an argument, as it is typed."""
    value = _value(action)
    return " ".join([*action.option_strings[-1:], *([value] if value else [])])


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    name = action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}"
    return f"{name} [{name} ...]" if action.nargs == "+" else name


def _row(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    names = ", ".join([*action.option_strings[:-1], _spelled(action)])
    meaning = (action.help or "") % {**vars(action), "prog": command.prog}
    found = _DEFAULT.search(meaning)
    default = found[1] if found else _default(action)
    return f"| {_code(names)} | {_cell(_DEFAULT.sub('', meaning))} | {_cell(default)} |"


def _default(action: argparse.Action) -> str:
    if action.required and action.option_strings:
        return "required"
    untold = action.default is None or action.default is False
    return "" if untold else _code(str(action.default))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")
