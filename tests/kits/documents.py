"""What a document shows as programs, commands and output."""

import re


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a Markdown page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def blocks_of(language: str, page: str) -> list[str]:
    """The texts of those blocks that are in a language."""
    return [text for name, text in blocks(page) if name == language]


def table(page: str) -> list[dict[str, str]]:
    """The rows of the first table of a Markdown page, by the headings of its columns."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]
