"""Records from JSON: what is built, and what is refused."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from nas.shapes import check_fields, from_json


@dataclass(frozen=True)
class Part:
    name: str
    share: float

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share must be at most 1, got {self.share}")


@dataclass(frozen=True)
class Record:
    parts: tuple[Part, ...]
    table: tuple[tuple[int, ...], ...] = ()
    best: Part | None = None
    more: Mapping[str, object] = field(default_factory=dict)


RECORD = Record((Part("a", 0.5), Part("b", 1)), ((1, 2), ()), Part("a", 0.5), {"x": [1]})
JSON = json.dumps(dataclasses.asdict(RECORD))


def test_json_and_back_is_the_same() -> None:
    record = from_json(Record, json.loads(JSON))
    check_fields(record)
    assert record == RECORD
    assert from_json(Record, {"parts": []}) == Record(())  # as an older version wrote it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": "ab"}, "parts is 'ab'"),
        ({"parts": ["a"]}, "Part is 'a'"),
        ({"parts": [{"name": "a"}]}, "share"),
        ({"parts": [{"name": 1, "share": 0.5}]}, "parts is"),
        ({"best": {"name": "a", "share": 2}}, "share must be at most 1, got 2"),
        ({"best": {"name": "a", "share": True}}, "best is"),
        ({"table": [[1, "2"]]}, "table is"),
        ({"more": []}, "more is"),
        ({"other": 1}, "other"),
    ],
)
def test_what_fits_no_field_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        check_fields(from_json(Record, {**json.loads(JSON), **changes}))


def test_no_object_is_refused() -> None:
    with pytest.raises(TypeError, match="Record is"):
        from_json(Record, [])
