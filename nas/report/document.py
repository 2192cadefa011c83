"""One HTML document that needs no other file and no network: its sections, its frame, its file."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup

from nas.files import replacing
from nas.report.html import html
from nas.report.tables import MISSING
from nas.report.theme import PALETTES, figure_json, plotly_js

_VERSUS = "--vs--"  # between the names of two studies


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading."""

    heading: str
    content: Markup
    long: bool = False  # may break across printed pages
    figure: str = ""  # the name of its figure
    json: Markup | None = None  # the figure; None: there is nothing to draw

    @property
    def id(self) -> str:
        """What links lead to."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-") or "section"


def section(heading: str, *pieces: str, caption: str = "", long: bool = False) -> Section:
    """A section of pieces of HTML, and of texts, each a paragraph; below its caption, if any."""
    return Section(heading, html("section.html", caption=caption, pieces=pieces), long)


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
        figure: None: there is nothing to draw.
        note: below the figure: how far to trust it.
        tall: whether it has several rows of panels.
    """
    content = html(
        "figure.html",
        name=name,
        heading=heading,
        caption=caption,
        data=data,
        drawn=figure is not None,
        note=note,
        tall=tall,
    )
    return Section(heading, content, False, name, None if figure is None else figure_json(figure))


@dataclass(frozen=True, slots=True)
class Card:
    """One number at the head of the page."""

    label: str
    value: str
    detail: str


def document(
    name: str,
    kind: str,
    sections: Iterable[Section | None],
    *,
    title: str,
    notes: Sequence[str] = (),
    cards: Sequence[Card] = (),
) -> str:
    """The whole page; the drawing library is part of it when there is something to draw.

    Args:
        name: what it is about.
        kind: what kind of page it is, above the name.
        sections: in their order; None are left out.
        title: of the document.
        notes: what a reader must know before all else.
        cards: the study at a glance.
    """
    shown = [section for section in sections if section is not None]
    drawn = any(section.json is not None for section in shown)
    page = html(
        "page.html",
        name=name,
        kind=kind,
        sections=shown,
        title=title,
        notes=notes,
        cards=cards,
        library=plotly_js() if drawn else None,
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
