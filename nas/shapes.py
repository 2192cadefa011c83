"""Records from the values that JSON keeps, and whether they hold what their fields say."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Check = Callable[[Any], bool]


def from_json(kind: Any, value: Any) -> Any:
    """A value of a type from what JSON makes of it: dataclasses are objects, tuples lists.

    What does not fit the type stays as it is, for `check_fields`.

    Raises:
        TypeError: a field of a dataclass is missing or unknown, or the value is no object at all.
        ValueError: a dataclass refuses a value.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kinds = [part for part in inner if part is not NoneType]
        return value if value is None or len(kinds) > 1 else from_json(kinds[0], value)
    if origin is tuple and inner[-1] is Ellipsis and isinstance(value, list | tuple):
        return tuple(from_json(inner[0], held) for held in value)
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise TypeError(f"{kind.__name__} is {str(value)[:100]!r}")
        hints = _hints(kind)
        return kind(**{name: from_json(hints.get(name), held) for name, held in value.items()})
    return value


def check_fields(record: Any) -> None:
    """Checks every field of a dataclass, and all that it holds.

    Raises:
        TypeError: a value is of another type than its field.
    """
    kind: Any = type(record)
    for name, check in _fields(kind).items():
        value = getattr(record, name)
        if not check(value):
            raise TypeError(f"{name} is {str(value)[:100]!r}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: Any) -> dict[str, Check]:
    return {field.name: _check(_hints(kind)[field.name]) for field in dataclasses.fields(kind)}


@cache
def _check(kind: Any) -> Check:
    """What tells whether a value is of a type; a bool is no number, and a whole number is a float.

    Knows the types that records have.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return lambda value: True
    if kind is int:
        return lambda value: type(value) is int
    if kind is float:
        return lambda value: type(value) in (float, int)
    if origin in (Union, UnionType):
        any_of = [_check(part) for part in inner]
        return lambda value: any(check(value) for check in any_of)
    if origin is Mapping:
        key, item = map(_check, inner)
        return lambda value: (
            isinstance(value, Mapping)
            and all(key(name) and item(held) for name, held in value.items())
        )
    if origin is tuple and inner[-1] is not Ellipsis:
        each = [_check(part) for part in inner]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(each)
            and all(check(held) for check, held in zip(each, value, strict=True))
        )
    if origin in (tuple, Sequence):
        one = _check(inner[0])
        return lambda value: isinstance(value, tuple | list) and all(map(one, value))
    if hasattr(kind, "__dataclass_fields__"):
        fields = _fields(kind)
        return lambda value: (
            type(value) is kind
            and all(check(getattr(value, name)) for name, check in fields.items())
        )
    return lambda value: isinstance(value, kind)
