"""A written page as a browser would see it."""

import re
from html.parser import HTMLParser

from nas.report.theme import plotly_js


class Parsed(HTMLParser):
    """What a browser would see: tags with attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts = ""
        self.rows: list[list[str]] = []
        self._headings: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif re.fullmatch(r"h[1-6]", tag):
            self._headings.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts += data
        elif self._inside != "style":
            self.text += data
            if self._inside in ("td", "th"):
                self.rows[-1][-1] += data
            elif re.fullmatch(r"h[1-6]", self._inside):
                self._headings[-1] = (self._inside, self._headings[-1][1] + data)

    def headings(self, level: int) -> list[str]:
        """The headings of a level, in their order."""
        return [text for tag, text in self._headings if tag == f"h{level}"]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.tags]


def parsed(page: str) -> Parsed:
    return Parsed(page.replace(plotly_js(), ""))
