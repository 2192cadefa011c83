"""Pieces of HTML. Text goes in plain and is escaped here; only `content` and `data` are HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

MISSING = "–"  # noqa: RUF001  an en dash, as tables show what is not known


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table is shown."""

    name: str  # in the table
    heading: str
    show: Callable[[Any], str] = str
    kind: str = ""  # CSS classes: text, design, long; a number needs none

    @property
    def css(self) -> str:
        """The class attribute of the column's cells."""
        return f' class="{self.kind}"' if self.kind else ""


def table(frame: pd.DataFrame, columns: Sequence[Column], *, best_first: bool = False) -> str:
    """A table in a container of its own, so that a wide one scrolls without moving the page."""
    head = "".join(f'<th scope="col"{c.css}>{escape(c.heading)}</th>' for c in columns)
    rows: list[str] = []
    for values in zip(*(frame[c.name].tolist() for c in columns), strict=True):
        cells = "".join(
            f"<td{c.css}>{escape(MISSING if pd.isna(v) else c.show(v))}</td>"
            for c, v in zip(columns, values, strict=True)
        )
        rows.append(f"<tr{' class=best' if best_first and not rows else ''}>{cells}</tr>")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table, scrolls"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def facts(values: Mapping[str, str]) -> str:
    """A table of names and values, or a word where there are none."""
    if not values:
        return "<p>Not recorded.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in values.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def section(heading: str, content: str, *, long: bool = False) -> str:
    """A section of the page; a long one may break across printed pages."""
    name = heading.lower().replace(" ", "-")
    return (
        f'<section{" class=long" if long else ""} aria-labelledby="{name}">'
        f'<h2 id="{name}">{escape(heading)}</h2>{content}</section>\n'
    )
