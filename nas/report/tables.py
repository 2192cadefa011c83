"""Tables: frames whose columns have the same types for any rows, and how they are shown.

Accuracies stay 0..1 in frames.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from nas.counting import COSTS, Cost
from nas.report.html import html
from nas.runtime import signals
from nas.study.records import StudyRecord
from nas.text import percent, percent_range, plural, whole

MISSING = "–"  # noqa: RUF001  an en dash, as tables show what is not known
MOST_ROWS = 1_000  # of a table; more are no longer read, and make a page slow


def integer(value: float) -> str:
    """A whole number, which is a float in a column with gaps."""
    return whole(int(value))


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table is shown."""

    name: str  # in the table
    heading: str
    show: Callable[[Any], str] = str
    kind: str = ""  # CSS classes: text, design, long; a number needs none
    exact: bool = False  # keep the value for sorting: what is shown sorts otherwise (times)


def _of(cost: Cost) -> Column:
    return Column(
        cost.name,
        cost.heading,
        lambda value: cost.rounded(int(value)),
        exact=cost.rounded is not whole,
    )


TRIAL = Column("number", "Trial", integer)
OUTCOME = Column("outcome", "Outcome", kind="text")
PARAMETERS, MULT_ADDS = _of(COSTS["parameters"]), _of(COSTS["mult_adds"])
DESIGN = Column("design", "Design", kind="text design")
VAL_ACCURACY = Column("val_accuracy", "Validation accuracy", percent)
INTERVAL = Column("interval", "95% interval", kind="text interval")


def cost_columns(*studies: StudyRecord) -> tuple[Column, ...]:
    """Those of the costs that any of the studies shows."""
    shown = {cost for study in studies for cost in study.shown_costs}
    return tuple(_of(cost) for cost in COSTS.values() if cost in shown)


def design_columns(study: StudyRecord) -> tuple[Column, ...]:
    """A design and its costs."""
    return (DESIGN, *cost_columns(study))


def table(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    caption: str,
    marked: int | None = None,
    fold: bool = False,
) -> Markup:
    """A table in a container of its own, so that a wide one scrolls without moving the page.

    Of more than `MOST_ROWS` rows those with the best `val_accuracy` are shown, or the first ones
    where there is none; and the page says so.

    Args:
        frame: the rows.
        columns: which columns, and how.
        caption: what the table holds, for who does not see the heading above it.
        marked: the place of the row that stands out, from 0.
        fold: whether only the first ten rows are shown until a reader asks for all.

    Raises:
        KeyboardInterrupt: a signal came before.
    """
    signals.check()
    note = ""
    if len(frame) > MOST_ROWS:
        ranked = "val_accuracy" in frame.columns
        note = (
            f"The {'best' if ranked else 'first'} {whole(MOST_ROWS)} of "
            f"{plural(len(frame), 'row')}; nas report --csv FILE writes all trials."
        )
        if ranked:
            ranking = frame["val_accuracy"].sort_values(ascending=False, kind="stable")
            frame = frame.loc[ranking.head(MOST_ROWS).index.sort_values()]
        frame = frame.head(MOST_ROWS)
    shown = ([_cell(column, value) for value in frame[column.name].tolist()] for column in columns)
    return html(
        "table.html",
        caption=caption,
        note=note,
        columns=columns,
        rows=list(zip(*shown, strict=True)),
        marked=marked,
        fold=fold,
    )


def _cell(column: Column, value: Any) -> tuple[Column, str, str]:
    """The column, what is shown, and the exact value where it is kept."""
    if pd.isna(value):
        return column, MISSING, ""
    return column, column.show(value), str(value) if column.exact else ""


def spread(numbers: Iterable[int], best: Collection[int], most: int) -> set[int]:
    """At most `most` of the numbers: the `best` of them, and others at regular intervals."""
    rest = [number for number in numbers if number not in best]
    wanted = min(most - len(best), len(rest))
    return {*best, *(rest[i * len(rest) // wanted] for i in range(wanted))}


def facts(values: Mapping[str, str]) -> Markup:
    """A table of names and values, or a word where there are none."""
    return html("facts.html", values=values)


def with_interval(frame: pd.DataFrame) -> pd.DataFrame:
    """With `low` and `high` as a text, `interval`."""
    pairs = zip(frame["low"].tolist(), frame["high"].tolist(), strict=True)
    texts: list[Any] = [None if pd.isna(low) else percent_range(low, high) for low, high in pairs]
    return frame.assign(interval=texts)


def typed_frame(
    rows: Iterable[Mapping[str, object]],
    *,
    integers: str = "",
    floats: str = "",
    texts: str = "",
    flags: str = "",
) -> pd.DataFrame:
    """Rows as a table whose columns have the same types for any rows, none included.

    The names of its columns are given by type, with spaces between them.
    """
    kinds = {"Int64": integers, "Float64": floats, "string": texts, "boolean": flags}
    dtypes = {name: dtype for dtype, names in kinds.items() for name in names.split()}
    return frame_of(rows, list(dtypes)).astype(dtypes)


def frame_of(
    rows: Iterable[Mapping[str, object]], columns: list[str] | None = None
) -> pd.DataFrame:
    r"""Rows as a table, with what UTF-8 cannot hold (from a file's name) as `\udcff`.

    Where pyarrow is installed, pandas keeps text in it, which refuses anything else.
    """
    return pd.DataFrame(
        [{name: _encodable(value) for name, value in row.items()} for row in rows], columns=columns
    )


def _encodable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", errors="backslashreplace").decode("utf-8")
