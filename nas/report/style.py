"""The colours of the report by theme."""

PALETTES = {
    "light": {
        "page": "#f6f7f9",
        "card": "#ffffff",
        "text": "#1b2129",
        "soft": "#59626e",
        "line": "#dfe3e8",
        "grid": "#e4e7ec",
        "accent": "#0b64ad",
        "warn": "#fff4dc",
        "warn-line": "#d98a00",
        "warn-text": "#573a00",
    },
    "dark": {
        "page": "#12161b",
        "card": "#1a2027",
        "text": "#e8ebef",
        "soft": "#a3acb8",
        "line": "#2e3742",
        "grid": "#303944",
        "accent": "#79b8f2",
        "warn": "#35290f",
        "warn-line": "#e0a030",
        "warn-text": "#ffe2a8",
    },
}
"""Given to the page as CSS variables, and to the figures by its script."""
