"""One HTML document that needs no other file and no network: its sections, its frame, its file."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup

from nas.files import replacing
from nas.report.html import html, packed
from nas.report.tables import MISSING
from nas.report.theme import PALETTES, figure_json, plotly_js

_VERSUS = "--vs--"  # between the names of two studies


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading."""

    heading: str
    content: Markup
    figure: str = ""  # the name of its figure
    json: Markup | None = None  # the figure; None: there is nothing to draw
    parts: tuple["Section", ...] = ()  # with headings of their own

    @property
    def id(self) -> str:
        """What links lead to."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-") or "section"

    @property
    def is_empty(self) -> bool:
        """Whether it is about a figure for which nothing was measured."""
        return bool(self.figure) and self.json is None

    @property
    def figures(self) -> Iterator[tuple[str, Markup]]:
        """The figures in it, each with its name."""
        if self.json is not None:
            yield self.figure, self.json
        for part in self.parts:
            yield from part.figures


def section(heading: str, *pieces: str, caption: str = "") -> Section:
    """A section of pieces of HTML, and of texts, each a paragraph; below its caption, if any."""
    return Section(heading, html("section.html", caption=caption, pieces=pieces))


def group(
    heading: str, open: Sequence[Section | None], folded: Sequence[Section | None] = ()
) -> Section | None:
    """A section of sections; empty ones are left out.

    Args:
        heading: of all.
        open: shown; where none of several has content, there is no section.
        folded: below them, each behind a click.
    """
    shown, behind = _with_content(open), _with_content(folded)
    if not shown and (open or not behind):
        return None
    content = html("group.html", open=shown, folded=behind)
    return Section(heading, content, parts=(*shown, *behind))


def _with_content(sections: Iterable[Section | None]) -> list[Section]:
    return [section for section in sections if section is not None and not section.is_empty]


def figure_section(
    name: str,
    heading: str,
    caption: str,
    data: Markup,
    figure: go.Figure | None,
    *,
    note: str = "",
    tall: bool = False,
) -> Section:
    """A section with a figure.

    Args:
        name: of the element it is drawn in, and of its picture.
        heading: of the section.
        caption: one sentence: what to look at.
        data: the table behind it.
        figure: None: there is nothing to draw, and the section will be left out.
        note: below the figure: how far to trust it.
        tall: whether it has several rows of panels.
    """
    content = html(
        "figure.html",
        name=name,
        heading=heading,
        caption=caption,
        data=data,
        note=note,
        tall=tall,
    )
    return Section(heading, content, name, None if figure is None else figure_json(figure))


def document(
    name: str,
    kind: str,
    sections: Iterable[Section | None],
    *,
    title: str,
    notes: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> str:
    """The whole page; the drawing library is part of it when there is something to draw.

    Args:
        name: what it is about.
        kind: what kind of page it is, above the name.
        sections: in their order; None and empty ones are left out.
        title: of the document.
        notes: what a reader must know before all else.
        files: what its buttons save, by name.
    """
    shown = _with_content(sections)
    figures = dict(figure for section in shown for figure in section.figures)
    page = html(
        "page.html",
        name=name,
        kind=kind,
        sections=shown,
        title=title,
        notes=notes,
        figures=figures,
        files={name: packed(content) for name, content in (files or {}).items()},
        library=plotly_js() if figures else None,
        palettes=PALETTES,
        missing=MISSING,
    )
    return str(page)


def write_page(page: str, directory: Path, *names: str) -> Path:
    """Writes the page of a study, or of two, and returns its path. An older one is replaced.

    It is `directory/NAME.html`, or `directory/A--vs--B.html`, with the names as `slug` makes them.

    Raises:
        OSError: the directory or the file cannot be written; an older page is then unchanged.
    """
    path = page_path(directory, *names)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(encoded(page))
    return path


def page_path(directory: Path, *names: str) -> Path:
    """Where the page of a study, or of two, is written."""
    return directory / f"{_VERSUS.join(slug(name, 200 // len(names)) for name in names)}.html"


def slug(name: str, longest: int = 200) -> str:
    """A study's name as a plain file name: only `A-Za-z0-9._-`, not hidden, not too long.

    A name that is none, or looks like that of a comparison, ends in a digest, so that no two
    studies share a file.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".")
    if plain == name and len(name) <= longest and name and _VERSUS not in name:
        return name
    digest = sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:8]
    return f"{plain[: longest - 9] or 'study'}-{digest}"


def encoded(page: str) -> bytes:
    """The page as UTF-8.

    What UTF-8 cannot hold (half of a surrogate pair, from a file name) must not lose a page.
    """
    return page.encode("utf-8", errors="xmlcharrefreplace")
