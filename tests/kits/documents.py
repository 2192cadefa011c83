"""What a document shows as programs, commands and output."""

import re


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a Markdown page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def blocks_of(language: str, page: str) -> list[str]:
    """The texts of those blocks that are in a language."""
    return [text for name, text in blocks(page) if name == language]


def tables(page: str) -> list[list[dict[str, str]]]:
    """The tables of a Markdown page: their rows, by the headings of the columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        lines = [line.strip("|").split("|") for line in block.splitlines()]
        head, _, *rows = [[cell.strip() for cell in line] for line in lines]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found
