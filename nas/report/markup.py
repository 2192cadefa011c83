"""Pieces of HTML. Text goes in plain and is escaped here; only `content` and `data` are HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from re import sub
from typing import Any

import pandas as pd

from nas.runtime import signals
from nas.text import plural, whole

MISSING = "–"  # noqa: RUF001  an en dash, as tables show what is not known
MOST_ROWS = 1_000  # of a table; more are no longer read, and make a page slow


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table is shown."""

    name: str  # in the table
    heading: str
    show: Callable[[Any], str] = str
    kind: str = ""  # CSS classes: text, design, long; a number needs none
    exact: bool = False  # keep the value for sorting: what is shown sorts otherwise (times)

    @property
    def css(self) -> str:
        """The class attribute of the column's cells."""
        return f' class="{self.kind}"' if self.kind else ""


def table(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    caption: str,
    best_first: bool = False,
) -> str:
    """A table in a container of its own, so that a wide one scrolls without moving the page.

    Of more than `MOST_ROWS` rows those with the best `val_accuracy` are shown, or the first ones
    where there is none; and the page says so.

    Args:
        frame: the rows.
        columns: which columns, and how.
        caption: what the table holds, for who does not see the heading above it.
        best_first: whether the first row is marked.

    Raises:
        KeyboardInterrupt: a signal came before.
    """
    signals.check()
    note = ""
    if len(frame) > MOST_ROWS:
        ranked = "val_accuracy" in frame.columns
        note = (
            f'<p class="caption">The {"best" if ranked else "first"} {whole(MOST_ROWS)} of '
            f"{plural(len(frame), 'row')}; nas report --csv FILE writes all trials.</p>"
        )
        if ranked:
            ranking = frame["val_accuracy"].sort_values(ascending=False, kind="stable")
            frame = frame.loc[ranking.head(MOST_ROWS).index.sort_values()]
        frame = frame.head(MOST_ROWS)
    head = "".join(f'<th scope="col"{c.css}>{escape(c.heading)}</th>' for c in columns)
    rows: list[str] = []
    for values in zip(*(frame[c.name].tolist() for c in columns), strict=True):
        cells = "".join(
            _cell(c, v, "td" if place else 'th scope="row"')
            for place, (c, v) in enumerate(zip(columns, values, strict=True))
        )
        rows.append(f"<tr{' class=best' if best_first and not rows else ''}>{cells}</tr>")
    named = f'<caption class="unseen">{escape(caption)}</caption>'
    return (
        f'{note}<div class="scroll" tabindex="0" role="group" '
        f'aria-label="{escape(caption)}"><table>{named}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(column: Column, value: Any, tag: str) -> str:
    """A cell; the first of a row names it, for who hears the table."""
    end = tag[:2]
    if pd.isna(value):
        return f"<{tag}{column.css}>{MISSING}</{end}>"
    exact = f' data-value="{escape(str(value))}"' if column.exact else ""
    return f"<{tag}{column.css}{exact}>{escape(column.show(value))}</{end}>"


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
    name = sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
    return (
        f'<section{" class=long" if long else ""} aria-labelledby="{name}">'
        f'<h2 id="{name}">{escape(heading)}</h2>{content}</section>\n'
    )
