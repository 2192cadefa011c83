"""One HTML document that needs no other file and no network: its frame and its figures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from pathlib import Path

from markupsafe import Markup

from nas.files import replacing
from nas.report import figures
from nas.report.markup import MISSING, section
from nas.report.style import PALETTES
from nas.templates import Templates

_TEMPLATES = Templates("nas.report")
_VERSUS = "--vs--"  # between the names of two studies
_HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>')  # as `markup.section` writes it


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with what surrounds it."""

    name: str  # of the element it is drawn in
    heading: str
    caption: str  # one sentence: what to look at
    data: str  # the table behind it
    json: str | None  # None: there is nothing to draw
    note: str = ""  # below the figure: how far to trust it
    tall: bool = False  # of several rows of panels

    def section(self) -> str:
        """The figure's section of the page, with its data behind it."""
        if self.json is None:
            text = "Nothing to draw: nothing of what this figure shows was measured so far."
            return section(self.heading, f'<p class="caption">{text}</p>')
        note = f'<p class="soft">{escape(self.note)}</p>' if self.note else ""
        return section(
            self.heading,
            f'<figure><figcaption class="caption">{escape(self.caption)}</figcaption>'
            f'<div class="plot{" tall" if self.tall else ""}" id="plot-{self.name}" role="img" '
            f'aria-label="{escape(self.heading)}. {escape(self.caption)}"></div></figure>{note}'
            "<noscript><p>The figure is drawn by a script, which is switched off; "
            "its data are in the table below.</p></noscript>"
            f"<details><summary>Data of this figure</summary>{self.data}</details>",
        )


def document(title: str, body: Sequence[str], plots: Sequence[Plot]) -> str:
    """The whole page; the drawing library is part of it when there is something to draw."""
    content = "".join(body)
    page = _TEMPLATES.render(
        "page.html",
        title=title,
        content=Markup(content),
        contents=[(name, Markup(heading)) for name, heading in _HEADING.findall(content)],
        drawn=[(plot.name, Markup(plot.json)) for plot in plots if plot.json is not None],
        library=Markup(figures.plotly_js()),
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
