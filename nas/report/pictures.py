"""The figures of a report as PNG files, drawn by a headless Chromium."""

import base64
import html
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from nas.files import replacing, temporary_folder
from nas.runtime import signals

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 300.0  # seconds for all figures of a report
_OPTIONS = (
    "--headless=new",
    "--dump-dom",  # prints the page once its scripts have run
    "--virtual-time-budget=60000",  # milliseconds; they pass at once where the page is idle
    "--blink-settings=preferredColorScheme=1",  # light, whatever the system prefers
    "--no-sandbox",  # needed as root, as in containers; it opens no page but ours
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU, for figures that want it
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# As on white paper, and twice the pixels, so that they are sharp in print.
_DRAW = """<script>
const all = Object.entries(figures);
const picture = async ([name, figure]) => {
  const layout = {...coloured(figure.layout, "light"), paper_bgcolor: "#ffffff"};
  const options = {format: "png", width: 1000, height: 560, scale: 2};
  const url = await Plotly.toImage({data: figure.data, layout, config: {}}, options);
  return [name, url.split(",")[1]];
};
Promise.resolve(all.length && load())
  .then(() => Promise.all(all.map(picture)))
  .then((pictures) => ({pictures}), (error) => ({error: String(error)}))
  .then((drawn) => {
    const element = document.createElement("pre");
    element.id = "drawn";
    element.textContent = JSON.stringify(drawn);
    document.body.append(element);
  });
</script>"""
_DRAWN = re.compile('<pre id="drawn">([^<]*)</pre>')


class PicturesError(RuntimeError):
    """Figures cannot be drawn as pictures here."""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome of this machine, None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


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
        KeyboardInterrupt: a signal came; the browser has ended.
    """
    executable = check_browser()
    # Beside the report, since a packaged browser may not see the folder of temporary files.
    with temporary_folder(report.absolute().parent, "nas-browser") as home:
        page = home / "page.html"
        page.write_bytes(report.read_bytes() + _DRAW.encode())
        shown = _shown(executable, page, home)
    found = _DRAWN.search(shown)
    if found is None:
        raise _failed(executable, "no figures")
    drawn = json.loads(html.unescape(found[1]))
    if "error" in drawn:
        raise _failed(executable, drawn["error"])
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in drawn["pictures"]:
        path = directory / f"{name}.png"
        with replacing(path) as file:
            file.write(base64.b64decode(content))
        paths.append(path)
    return paths


def _shown(executable: str, page: Path, home: Path) -> str:
    """A page as a browser has it once its scripts have run.

    Args:
        executable: the browser.
        page: a file.
        home: the folder that the browser may write in.

    Raises:
        PicturesError: the browser does not start, fails, or does not end.
        KeyboardInterrupt: a signal came.
    """
    command = [executable, *_OPTIONS, f"--user-data-dir={home}/profile", page.as_uri()]
    output = home / "shown.html"
    with output.open("wb") as file:
        try:
            browser = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(home)},
                process_group=0,
            )
        except OSError as error:
            raise _failed(executable, f"it cannot be started: {error.strerror}") from error
        deadline = time.monotonic() + _PATIENCE
        try:
            while (status := browser.poll()) is None:
                if time.monotonic() > deadline:
                    raise _failed(executable, "it does not end")
                signals.sleep(signals.LOOK)
        finally:
            if browser.returncode is None:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
    if status != 0:
        raise _failed(executable, f"it ended with exit status {status}")
    return output.read_text(encoding="utf-8", errors="replace")


def _failed(executable: str, reason: str) -> PicturesError:
    return PicturesError(
        f"--png: expected {executable} to draw the figures, got: {reason}; try another version of "
        "it, or leave --png out"
    )
