"""The figures of a report as PNG files, drawn by a headless Chromium."""

import base64
from pathlib import Path

from nas.files import replacing
from nas.report.browser import Browser, BrowserError, find_browser

# As on white paper, and twice the pixels, so that they are sharp in print.
_DRAW = """
Promise.all(Array.from(document.querySelectorAll(".js-plotly-plot"), async (plot) => {
  const layout = {...plot.layout, paper_bgcolor: "#ffffff"};
  const options = {format: "png", width: 1000, height: 560, scale: 2};
  const url = await Plotly.toImage({data: plot.data, layout, config: {}}, options);
  return [plot.id.replace(/^plot-/, ""), url.split(",")[1]];
}))
"""


class PicturesError(RuntimeError):
    """Figures cannot be drawn as pictures here."""


def check_browser() -> str:
    """The browser that draws, to be found before any work is done for it.

    Raises:
        PicturesError: there is none.
    """
    executable = find_browser()
    if executable is None:
        raise PicturesError(
            "--png: expected Chromium or Chrome to draw the figures, got none on the PATH; install "
            "one (apt-get install chromium), or leave --png out"
        )
    return executable


def write_pictures(report: Path, directory: Path) -> list[Path]:
    """Writes every figure of a report as `directory/NAME.png`, in the colours of the light theme.

    Args:
        report: what `nas.report.page.write_report` wrote.
        directory: where to; it is made if it is not there.

    Returns:
        The files, in the order of the report; none for a report without figures.

    Raises:
        PicturesError: no browser is there, or it fails.
        OSError: a file cannot be written.
    """
    executable = check_browser()
    try:
        with Browser(executable) as browser:
            page = browser.page()
            page.call(
                "Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": "light"}],
            )
            page.open(report)
            pictures = page.evaluate(_DRAW)
    except BrowserError as error:
        raise PicturesError(
            f"--png: expected {executable} to draw the figures, got: {error}; try another version "
            "of it, or leave --png out"
        ) from error
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in pictures:
        path = directory / f"{name}.png"
        with replacing(path) as file:
            file.write(base64.b64decode(content))
        paths.append(path)
    return paths
