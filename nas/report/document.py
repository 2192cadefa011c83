"""One HTML document that needs no other file and no network: its frame and its figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nas.report import figures
from nas.report.markup import section
from nas.report.style import STYLE

# The browser itself refuses any request: scripts and styles are inline, pictures are data.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_CONFIG = (
    '{"responsive": true, "displaylogo": false, "scrollZoom": false, '
    '"modeBarButtons": [["toImage", "zoom2d", "resetScale2d"]]}'
)


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

    def script(self) -> str:
        """The statement that draws the figure, or nothing."""
        if self.json is None:
            return ""
        return (
            f"{{const f = {self.json}; "
            f'Plotly.newPlot("plot-{self.name}", f.data, f.layout, {_CONFIG});}}\n'
        )


def document(title: str, body: Sequence[str], plots: Sequence[Plot]) -> str:
    """The whole page; the drawing library is part of it when there is something to draw."""
    draw = "".join(plot.script() for plot in plots)
    if draw:
        draw = f"<script>{figures.plotly_js()}</script>\n<script>\n{draw}</script>\n"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{''.join(body)}</main>\n"
        f"{draw}</body>\n</html>\n"
    )


def encoded(page: str) -> bytes:
    """The page as UTF-8.

    What UTF-8 cannot hold (half of a surrogate pair, from a file name) must not lose a page.
    """
    return page.encode("utf-8", errors="xmlcharrefreplace")
