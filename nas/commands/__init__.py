"""The commands: they parse arguments, print and exit; what they do lives in the other modules.

Nothing heavy is imported before a command needs it, so that help and `count` answer at once.
"""

import argparse
import itertools
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nas.commands import (
    count,
    dashboard,
    devices,
    doctor,
    export,
    final,
    log,
    predict,
    report,
    search,
    studies,
    train,
)
from nas.commands.arguments import as_typed, without_password
from nas.data.catalogue import DataError
from nas.errors import RequestError
from nas.export.spec import ModelError
from nas.packages import PackageError, importing, version
from nas.runtime import signals
from nas.study.location import StudyError, StudyGone
from nas.text import error_lines, in_one_line
from nas.values import choices, did_you_mean

_COMMANDS = {
    "search": search,
    "count": count,
    "devices": devices,
    "train": train,
    "final": final,
    "export": export,
    "predict": predict,
    "report": report,
    "dashboard": dashboard,
    "log": log,
    "studies": studies,
    "doctor": doctor,
}


_OUR_WORDS = {
    r"argument (.*)": r"\1",
    r"the following arguments are required: (.*)": r"expected \1, got none",
    r"one of the arguments (\S+) (\S+) is required": r"expected \1 or \2, got neither",
    r"(\S+): not allowed with argument (\S+)": r"expected \2 or \1, got both",
    r"(\S+): expected (?:at least )?one argument": r"\1: expected a value, got none",
    r"(\S+): expected (\d+) arguments": r"\1: expected \2 values, got fewer",
    r"(\S+): ignored explicit argument (.*)": r"\1: expected no value, got \2",
}
"""What argparse says of bad usage, and how other errors would say it: expected, came."""


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names, and reports bad usage in one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"expected {choices(value, action.choices)}")

    def error(self, message: str) -> NoReturn:
        for pattern, words in _OUR_WORDS.items():
            message = re.sub(rf"^{pattern}$", words, message, flags=re.DOTALL)
        self.exit(2, f"error: {in_one_line(message)}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"nas {version()}")
        parser.exit()


class _HelpFormatter(argparse.HelpFormatter):
    """Adds the default to an option's help where there is one to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        untold = (None, False, argparse.SUPPRESS)
        if action.required or any(action.default is value for value in untold):
            return action.help
        return f"{action.help} (default: %(default)s)"


def make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of `nas`, and that of each of its commands."""
    parser = _Parser(
        prog="nas",
        description="Finds the most accurate residual network that fits a parameter budget.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = module.SUMMARY
        module.add_arguments(
            commands.add_parser(
                name,
                help=summary,
                description=f"{summary[0].upper()}{summary[1:]}.",
                formatter_class=_HelpFormatter,
            )
        )
    return parser, commands.choices


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    0 done; 1 the run failed, a package cannot be imported, or the answer is no; 2 bad usage or bad
    input; 130 on Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with signals.listening():
            try:
                with importing():
                    status = _run(arguments)
            finally:  # one that came late, or is behind an error: of a connection it ended, say
                signals.check()
        return status
    except SystemExit as ending:  # argparse, after help or an error
        return int(ending.code or 0)
    except (RequestError, StudyError, DataError, ModelError) as error:
        print(*error_lines(error), sep="\n", file=sys.stderr)  # such as each setting that differs
        return 2
    except (PackageError, StudyGone) as error:
        print("error:", in_one_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return signals.INTERRUPTED
    except OSError as error:
        print("error:", in_one_line(error), file=sys.stderr)
        return 1
    except Exception as error:
        from nas.runtime.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        print(
            f"error: out of memory: {in_one_line(str(error) or type(error).__name__)}; close "
            "other programs that use much memory, or choose another --device",
            file=sys.stderr,
        )
        return 1


def _run(arguments: Sequence[str]) -> int:
    parser, commands = make_parser()
    if not arguments:
        parser.print_help()
        return 0
    known = commands.get(arguments[0])
    if known is not None:  # before what is required is asked for, which may be misspelled
        _check_options(known, arguments[1:])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        commands[options.command].error(f"unknown: {shlex.join(unknown)}")
    options.typed = as_typed(arguments)
    signals.check()  # commands load for seconds
    status: int = _COMMANDS[options.command].run(options)
    return status


def _check_options(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    options = {name for action in command._actions for name in action.option_strings}
    for i, argument in enumerate(arguments):
        name = argument.partition("=")[0]
        if argument == "--":
            return
        if name.startswith("--") and name not in options:
            values = itertools.takewhile(lambda word: word[:1] != "-", arguments[i + 1 :])
            words = [argument, *values]  # no more: others may hold a password
            unknown = shlex.join(map(without_password, words))
            command.error(f"unknown: {unknown}{did_you_mean(name, options, prefix='--')}")
