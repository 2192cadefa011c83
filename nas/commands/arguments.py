"""How the commands read values from a command line, and the options they share."""

import argparse
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from nas import values
from nas.architecture import ImageInput
from nas.errors import RequestError
from nas.final.request import FinalRequest
from nas.runtime.precision import AUTO
from nas.search.design_options import space_of
from nas.search.request import SearchRequest, designs, silence, time_limit, worker_count
from nas.study.location import without_secrets

T = TypeVar("T")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_COUNT = re.compile(r"(\d[\d_]{0,29}(?:\.\d{1,30})?(?:e\+?\d{1,2})?)([kmg]?)", re.IGNORECASE)


def large_number(text: str) -> int:
    """A positive count such as 5000000, 5_000_000, 5e6, 5M or 4.9M."""
    return _count(text, "5000000, 5e6 or 5M")


def large_number_or_none(text: str) -> int | str:
    """A positive count such as 5000000, 5e6 or 5M, or none."""
    if text.strip() == values.NO_LIMIT:
        return values.NO_LIMIT
    return _count(text, "5000000, 5e6 or 5M, or none")


def whole_number(text: str) -> int:
    """A positive count such as 50."""
    return _count(text, "10")


def workers(text: str) -> int | str:
    """A positive count such as 4, or auto."""
    return AUTO if text.strip() == AUTO else _count(text, "4, or auto")


@dataclass(frozen=True, slots=True)
class Trials:
    """How many designs are to be trained: in a study, or beyond those that it holds."""

    number: int
    additional: bool

    def __str__(self) -> str:
        """As it is typed."""
        return f"{'+' if self.additional else ''}{self.number}"


def trials(text: str) -> Trials:
    """A positive count such as 50, or +20 for so many more."""
    number = text.strip().removeprefix("+")
    try:
        return Trials(whole_number(number), additional=number != text.strip())
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected a positive whole number such as 50, or +20 for 20 more, got {text!r}"
        ) from None


def memory(text: str) -> int:
    """Bytes such as 262144, 256k or 1M, where k is 1,024."""
    return _whole(text, _BYTES, "bytes such as 262144, 256k or 1M")


def _count(text: str, example: str) -> int:
    return _whole(text, _UNITS, f"a positive whole number such as {example}")


def _whole(text: str, units: Mapping[str, int], expected: str) -> int:
    match = _COUNT.fullmatch(text.strip())
    value = Fraction(match[1].replace("_", "")) * units[match[2].lower()] if match else Fraction()
    whole = int(value) if value.denominator == 1 else None
    return _checked(values.whole, whole, expected, text)


def seed(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text) if re.fullmatch(r"\d{1,30}", text) else None
    return _checked(values.seed, value, "a whole number such as 0 or 42", text)


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    expected = "a share above 0 and at most 1, such as 0.1"
    return _checked(values.share, _number(text), expected, text)


def seconds(text: str) -> float:
    """A duration above 0, in seconds."""
    return _checked(values.duration, _number(text), "seconds above 0, such as 3600", text)


def points(text: str) -> float:
    """Percentage points."""
    expected = "percentage points from 0 to 100, such as 0.5"
    return _checked(values.points, _number(text), expected, text)


def latency(text: str) -> float:
    """A latency above 0, in milliseconds."""
    expected = "a latency such as 5ms, 800us or 0.02s"
    return _checked(values.latency, text, expected, text)


def time(text: str) -> str:
    """A limit of time, as it is typed."""
    return _checked(time_limit, text, "a time such as 90s, 30m, 2h or 1d, or none", text)


def port(text: str) -> int:
    """A TCP port a user may listen on."""
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port in 1..65535, got {text!r}")
    return int(text)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, such as 2,1,1,1."""
    if not re.fullmatch(r"\s*\d{1,18}\s*(,\s*\d{1,18}\s*)*", text):
        raise argparse.ArgumentTypeError(
            f"expected comma-separated whole numbers, such as 2,1,1,1, got {text!r}"
        )
    return tuple(int(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names with commas between, such as lr,optimizer."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(
            f"expected comma-separated names, such as lr,optimizer, got {text!r}"
        )
    return found


def image_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width, such as 3x32x32."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected channels x height x width such as 3x32x32, got {text!r}"
        )
    return int(match[1]), int(match[2]), int(match[3])


def image_input(shape: tuple[int, int, int], classes: int) -> ImageInput:
    """Image shape and classes as one value."""
    channels, height, width = shape
    return ImageInput(channels=channels, height=height, width=width, classes=classes)


def real(text: str) -> float:
    """A finite number."""
    return _checked(values.real, _number(text), "a number such as 0.1", text)


def path(text: str) -> Path:
    """A path, in which ~ is the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"expected a path, got {text!r}, whose ~ has no home folder here: write the path in "
            "full"
        ) from error


_READ: Mapping[values.Check, tuple[Callable[[str], Any], str]] = {
    values.amount: (large_number, "N"),
    values.amount_or_none: (large_number_or_none, "N"),
    values.memory: (memory, "BYTES"),
    values.whole: (whole_number, "N"),
    values.seed: (seed, "N"),
    values.share: (share, "SHARE"),
    values.duration: (seconds, "SECONDS"),
    values.points: (points, "POINTS"),
    values.latency: (latency, "TIME"),
    values.path: (path, "DIR"),
    values.names: (names, "LIST"),
    values.text: (str, "NAME"),
    designs: (trials, "N"),
    silence: (seconds, "SECONDS"),
    worker_count: (workers, "N"),
    time_limit: (time, "TIME"),
    space_of: (path, "FILE"),
}
"""How what a check takes is read from a text, and what it is called in a help text."""


def add_groups(
    parser: argparse.ArgumentParser,
    request: type[SearchRequest | FinalRequest],
    groups: Mapping[str, Sequence[str]],
) -> argparse._ArgumentGroup:
    """The options of a request in the groups of a help text, each with the fields it names.

    One that names none has all that no group names. Returns the last one.
    """
    named = {name for fields in groups.values() for name in fields}
    others = [field.name for field, _ in values.options_of(request) if field.name not in named]
    for title, fields in groups.items():
        group = parser.add_argument_group(title)
        add_options(group, request, *(fields or others))
    return group


def add_options(
    parser: argparse._ActionsContainer, request: type[SearchRequest | FinalRequest], *names: str
) -> None:
    """The options of some fields of a request, in their order there.

    One that is not given is None where the option says what holds otherwise, else the field's
    default.
    """
    for field, option in values.options_of(request):
        if field.name not in names:
            continue
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default) or None
        shown = "none" if default is None else default
        otherwise = f" (default: {option.otherwise.format(default=shown)})"
        settings: dict[str, Any] = {
            "help": option.help + (otherwise if option.otherwise else ""),
            "default": None if option.otherwise or default is MISSING else default,
        }
        if option.check is values.flag:
            settings |= {"action": "store_true", "default": None}
        else:
            read, metavar = _READ[option.check]
            settings |= {
                "type": str if option.nargs else read,
                "nargs": option.nargs,
                "choices": option.choices or None,
                "metavar": option.metavar or (None if option.choices else metavar),
                "required": default is MISSING and not option.otherwise,
            }
        parser.add_argument(_name(field, option), **settings)


def given(
    options: argparse.Namespace, request: type[SearchRequest | FinalRequest]
) -> dict[str, Any]:
    """The fields of a request that a command line gives, with their values."""
    found = {
        field.name: getattr(options, _name(field, option)[2:].replace("-", "_"))
        for field, option in values.options_of(request)
    }
    return {name: value for name, value in found.items() if value is not None}


def _name(field: Field[Any], option: values.Option) -> str:
    return option.name or f"--{field.name.replace('_', '-')}"


def add_reports_option(parser: argparse._ActionsContainer) -> None:
    """The option that says where reports go."""
    parser.add_argument(
        "--reports-dir",
        type=path,
        default=Path("reports"),
        metavar="DIR",
        help="where the report is written",
    )


def add_display_options(parser: argparse._ActionsContainer) -> None:
    """The options that say what is shown while a command works."""
    parser.add_argument(
        "--quiet", action="store_true", help="show only improvements, warnings and the end"
    )
    parser.add_argument(
        "--log-file",
        type=path,
        metavar="FILE",
        help="also add every line to this file, with its time; --quiet leaves out none there",
    )


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """The option that makes stdout one JSON document."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def as_typed(words: Sequence[str]) -> str:
    """A command as it was typed, to be typed again; without --json and the password of a URL."""
    return shlex.join(["nas", *(without_password(word) for word in words if word != "--json")])


def without_password(word: str) -> str:
    """A word of a command line, of which a URL may hold a password."""
    if "://" not in word:
        return word
    option, equals, url = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{without_secrets(url)}"


def _checked(check: Callable[[str, object], T], value: object, expected: str, text: str) -> T:
    """What a check of `nas.values` gives for what was read from a text."""
    try:
        return check("", value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
