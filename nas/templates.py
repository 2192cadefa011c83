"""Templates with Jinja2: HTML and SVG, where all text is escaped, and Markdown, where `text` does.

A package keeps its own in a folder `templates`.
"""

import re

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

_LONGEST = 500  # characters of a code span


class Templates:
    """The templates of packages, given by their dotted names; all of them may call `globals`.

    Of one name in several packages it is that of the first.
    """

    def __init__(self, *packages: str, **globals: object) -> None:
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package) for package in packages]),
            autoescape=select_autoescape(("html", "svg")),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        self._environment.globals |= globals
        self._environment.filters.update(code=code, fenced=fenced, text=text)

    def render(self, template: str, /, **values: object) -> str:
        """The template with these values."""
        return self._environment.get_template(template).render(values)

    def html(self, template: str, /, **values: object) -> Markup:
        """The same of HTML or SVG, which is not escaped again in another template."""
        return Markup(self.render(template, **values))


def code(text: object) -> str:
    """A text from elsewhere as one code span of Markdown: no line break, no markup."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    plain = " ".join(plain.split())[:_LONGEST] or " "
    if "`" not in plain:
        return f"`{plain}`"
    fence = _fence(plain, 1)
    return f"{fence} {plain} {fence}"  # the spaces are no part of it


def fenced(text: str) -> str:
    """A block of code in Markdown."""
    fence = _fence(text, 3)
    return f"{fence}\n{text}\n{fence}"


def text(text: str) -> str:
    """A text from elsewhere in one line, without what Markdown would act on."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", " ".join(text.split()))


def _fence(text: str, least: int) -> str:
    """More backticks than there are in a row in the text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
