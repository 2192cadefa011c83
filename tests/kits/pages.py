"""A written page as a browser would see it."""

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

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts += data
        elif self._inside != "style":
            self.text += data
            if self._inside in ("td", "th"):
                self.rows[-1][-1] += data

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.tags]


def parsed(page: str) -> Parsed:
    return Parsed(page.replace(plotly_js(), ""))
