"""Values as they are given, checked and made plain, with the same bounds in Python and in commands.

NumPy's and torch's scalars are taken like Python's own numbers. What comes back is plain, so that
JSON keeps it. A bool is no number. What does not pass raises a RequestError, whose message begins
with the name.
"""

import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypeVar

from nas.errors import RequestError
from nas.text import short_count

T = TypeVar("T")
Check = Callable[[str, Any], object]
"""From a name and a value to the plain value."""

NO_LIMIT = "none"  # of time or of mult-adds, as it is typed
LARGEST = 10**18  # of a whole number: beyond it is a slip of the finger


def whole(name: str, value: object, least: int = 1, most: int = LARGEST) -> int:
    """A whole number in `least..most`."""
    if type(value) is int and least <= value <= most:
        return value
    try:
        if _is_flag(value) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's, of a tensor of several
        raise RequestError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        ) from error
    if not least <= number <= most:
        bound = f"least {least}" if number < least else f"most {most}"
        raise RequestError(f"{name} must be a whole number of at {bound}, got {number}")
    return number


def amount(name: str, value: object) -> int:
    """A whole number from 1 on, of things that are counted in millions. Raises as `whole`."""
    return whole(name, value)


def amount_or_none(name: str, value: object) -> int | str:
    """A limit as `amount` has it, or `none`. Raises as `amount`."""
    return NO_LIMIT if isinstance(value, str) and value == NO_LIMIT else amount(name, value)


def memory(name: str, value: object) -> int:
    """A whole number of bytes from 1 on. Raises as `whole`."""
    return whole(name, value)


def real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """A finite number within the bounds that are given."""
    bounds = (("above", above), ("at least", least), ("below", below), ("at most", most))
    words = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    try:
        if _is_flag(value) or not isinstance(value, SupportsFloat):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        expected = f"a number {words}".rstrip()
        raise RequestError(f"{name} must be {expected}, got {value!r}") from error
    if not (
        abs(number) < float("inf")
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    ):
        raise RequestError(f"{name} must be {words or 'a finite number'}, got {number}")
    return number


seed = partial(whole, least=0)
"""A whole number from 0 on."""

share = partial(real, above=0, most=1)
"""A number above 0 and at most 1."""

duration = partial(real, above=0)
"""Seconds, above 0."""

points = partial(real, least=0, most=100)
"""Percentage points, from 0 to 100."""


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(name: str, value: object) -> str:
    """A time span above 0 as it is typed, such as 90s, 30m, 2h or 1d; a number is seconds."""
    if isinstance(value, str):
        typed = value
    else:
        typed = f"{duration(name, value):f}".rstrip("0").rstrip(".") + "s"
    if not re.fullmatch(r"\d+(\.\d+)?[smhd]", typed, re.ASCII):
        raise RequestError(f"{name} must be a time such as 90s, 30m, 2h or 1d, got {value!r}")
    duration(name, seconds_of(typed))
    return typed


def seconds_of(span: str) -> float:
    """Seconds of a time span as it is typed."""
    return float(span[:-1]) * _SECONDS[span[-1:]]


def typed(value: float | str | None) -> str:
    """The value of an option as a person would type it: 22M, 0.1, 30m, none."""
    if value is None:
        return NO_LIMIT
    if isinstance(value, str):
        return value
    return short_count(value) if isinstance(value, int) else f"{value:g}"


_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def latency(name: str, value: object) -> float:
    """Milliseconds above 0; also as they are typed, with a unit: 5ms, 800us or 0.02s."""
    if not isinstance(value, str):
        return real(name, value, above=0)
    typed = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", value.strip(), re.ASCII)
    if typed is None:
        raise RequestError(f"{name} must be a latency such as 5ms, 800us or 0.02s, got {value!r}")
    return real(name, float(typed[1]) * _MILLISECONDS[typed[2]], above=0)


def flag(name: str, value: object) -> bool:
    """True or False."""
    if not _is_flag(value):
        raise RequestError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def text(name: str, value: object) -> str:
    """A text, without a type of its own."""
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a text, got {value!r}")
    return str(value)


def path(name: str, value: object) -> Path:
    """A path, also from a text; with the home folder in the place of ``~``."""
    if not isinstance(value, str | os.PathLike):
        raise RequestError(f"{name} must be a path, got {value!r}")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{name} must be a path, got {str(value)!r}: {error}") from error


def several(name: str, values: object, of: str = "values") -> tuple[object, ...]:
    """The members of a list, a tuple or an array; in a text or a mapping nobody meant its parts."""
    if isinstance(values, tuple | list):  # the abstract classes below take ten times as long
        return tuple(values)
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise RequestError(f"{name} must be a list of {of}, got {values!r}")
    return tuple(values)


def names(name: str, values: object) -> tuple[str, ...]:
    """Texts, each once, in their order."""
    return tuple(dict.fromkeys(text(name, value) for value in several(name, values, "names")))


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """A text that is one of the known ones; the error names these, and a close one."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise RequestError(f"{name} must be {choices(value, known)}")
    return str(value)


def choices(value: object, known: Iterable[object]) -> str:
    """What is expected and came, where a value is none of those that are known."""
    words = tuple(map(str, known))
    return f"one of {', '.join(words)}, got {value!r}{did_you_mean(value, words)}"


def did_you_mean(value: object, known: Iterable[str], prefix: str = "") -> str:
    """The close one of the known words to add to a message; empty where none is close.

    Compared is what follows the prefix; a known word without it is left out.
    """
    from difflib import get_close_matches  # which a command without a slip need not load

    words = [word.removeprefix(prefix) for word in known if word.startswith(prefix)]
    found = get_close_matches(str(value).removeprefix(prefix), words, n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def or_none(check: Check) -> Check:
    """The check of a value that may also be None."""
    return lambda name, value: None if value is None else check(name, value)


def keep_plain(record: object, checks: Mapping[str, Check]) -> None:
    """Puts what the checks give back into the fields of a frozen dataclass that is being made."""
    for name, check in checks.items():
        object.__setattr__(record, name, check(name, getattr(record, name)))


@dataclass(frozen=True, slots=True)
class Option:
    """The option that sets a field of a request; its check also decides how it is read."""

    check: Check
    help: str
    otherwise: str = ""  # what holds where it is not given, if not just the field's {default}
    name: str = ""  # where that is not the field's
    metavar: str | None = None  # where that is not the one of its check
    choices: tuple[str, ...] = ()
    nargs: str | None = None


def option(default: T, check: Check, help: str, **others: Any) -> T:
    """A field of a request, with the `Option` that sets it in its metadata."""
    made: T = field(default=default, metadata={"option": Option(check, help, **others)})
    return made


def options_of(request: Any) -> Iterator[tuple[Field[Any], Option]]:
    """The fields of a request, or of its class, that options set."""
    return ((f, f.metadata["option"]) for f in fields(request) if "option" in f.metadata)


def keep_options(request: object) -> None:
    """`keep_plain` with the checks of its options; where None is the default it may stay."""
    for kept, option in options_of(request):
        value = getattr(request, kept.name)
        check = partial(one_of, known=option.choices) if option.choices else option.check
        if value is not None or kept.default is not None:
            object.__setattr__(request, kept.name, check(kept.name, value))


def _is_flag(value: object) -> bool:
    """Whether it is a bool; those of NumPy and torch are known by their dtype."""
    return "bool" in str(getattr(value, "dtype", type(value).__name__))
