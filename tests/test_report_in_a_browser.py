"""The report as Chromium shows it: its figures, themes, sorting, widths and print."""

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.report.browser import Browser, Page, find_browser
from nas.report.compare import render_comparison
from nas.report.document import encoded
from nas.report.page import render
from nas.report.pictures import write_pictures
from nas.report.unreadable import render_unreadable
from nas.study.records import UnreadableStudy
from tests.test_report import EVIL, mixed
from tests.test_report_figures import final_record, read_record

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("needs Chromium: install chromium")
    with Browser(executable) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with long and evil names, and trials that differ in all columns."""
    record = replace(mixed(), name="a-very-long-name-" * 6, notes=(EVIL, "x" * 300))
    seconds = {1: 59.0, 2: 3600.0, 4: 61.0, 9: 7.5}
    trials = tuple(
        replace(t, seconds=seconds.get(t.number), reason=f"reason {20 - t.number}")
        for t in record.trials
    )
    return written(render(replace(record, trials=trials)), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Page:
    """The report in a page of its own, opened once: it is large."""
    page = browser.page()
    resize(page, 1440)
    page.open(report)
    return page


@pytest.fixture
def page(opened: Page) -> Page:
    """The report as it is first seen, light and wide."""
    opened.call("Page.bringToFront")
    resize(opened, 1440)
    see(opened, dark=False)
    return opened


@pytest.fixture(scope="module")
def second(browser: Browser) -> Page:
    """Another page: a new one draws much slower."""
    return browser.page()


@pytest.fixture
def other(second: Page) -> Page:
    """The page in which tests open what they look at, in front: others are drawn seldom."""
    second.call("Page.bringToFront")
    return second


def written(page: str, directory: Path) -> Path:
    path = directory / "report.html"
    path.write_bytes(encoded(page))
    return path


def resize(page: Page, width: int) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    until(page, f"innerWidth === {width}")


def see(page: Page, *, dark: bool) -> None:
    """What the system prefers."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])
    if page.evaluate("location.protocol") == "file:":
        theme = "dark" if dark else "light"
        until(page, f"document.documentElement.dataset.theme === '{theme}'")


def until(page: Page, condition: str) -> None:
    """Waits for what a browser does when it comes to it."""
    held = page.evaluate(
        f"""(async () => {{
        for (let tries = 0; tries < 500 && !({condition}); tries++) {{
            await new Promise(done => setTimeout(done, 20));
        }}
        return {condition};
        }})()"""
    )
    assert held, condition


def problems(page: Page) -> list[Any]:
    """What the console shows, and all requests but that of the page itself and what is in it."""
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    asked = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    return [
        *(event for kind in kinds for event in page.events(kind)),
        *(
            url
            for url in (*asked, *loaded)
            if not url.endswith("/report.html") and not url.startswith("data:image/png")
        ),
    ]


MARKS = """Object.fromEntries(Array.from(document.querySelectorAll(".plot"), plot => [plot.id, [
    plot.querySelectorAll(".scatterlayer .point").length,
    plot.querySelectorAll(".scatterlayer .js-line").length,
    plot.querySelectorAll(".barlayer .point").length,
]]))"""
COLOURS = """(() => {
    const of = (query, name) => getComputedStyle(document.querySelector(query))[name];
    return [of("body", "backgroundColor"), of("h2", "color"), of(".xtick text", "fill")];
})()"""


def test_everything_is_drawn_and_nothing_overflows(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for width in (1440, 375):
        resize(page, width)
        for dark in (False, True):
            see(page, dark=dark)
            until(page, f"document.documentElement.scrollWidth === {width}")
            paper, heading, tick = map(brightness, page.evaluate(COLOURS))
            assert (heading > paper) == (tick > paper) == dark
    assert page.evaluate(MARKS) == {
        "plot-funnel": [0, 0, 9],
        "plot-history": [4, 1, 0],
        "plot-time": [6, 2, 0],
        "plot-size": [19, 1, 0],  # with the star and 14 published networks
        "plot-curves": [5, 5, 0],
        "plot-slices": [23, 0, 0],
        "plot-parallel": [0, 3, 0],
    }
    assert problems(page) == []


def test_the_button_changes_the_theme_and_it_is_remembered(other: Page, report: Path) -> None:
    page = other
    see(page, dark=False)
    page.open(report)
    before = page.evaluate(COLOURS)
    assert page.evaluate("document.getElementById('theme').textContent") == "Dark theme"
    page.evaluate("document.getElementById('theme').click()")
    after = page.evaluate(COLOURS)
    assert all(a != b for a, b in zip(before, after, strict=True))
    page.open(report)
    assert page.evaluate(COLOURS) == after
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(COLOURS) == before
    page.evaluate("localStorage.clear()")


def column(page: Page, name: str) -> list[str]:
    """What stands in a column of the table of all trials, from the top."""
    shown: list[str] = page.evaluate(
        f"""(() => {{
        const table = document.querySelector("[aria-labelledby=every-trial] table");
        const heads = Array.from(table.tHead.rows[0].cells, cell => cell.textContent);
        const column = heads.indexOf("{name}");
        return Array.from(table.tBodies[0].rows, row => row.cells[column].textContent);
        }})()"""
    )
    return shown


def test_tables_are_sorted_with_the_keyboard(page: Page) -> None:
    press = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    head = "[...document.querySelectorAll('[aria-labelledby=every-trial] th')]" + (
        ".find(head => head.textContent === 'Validation accuracy')"
    )
    page.evaluate("document.querySelector('[aria-labelledby=every-trial] details').open = true")
    page.evaluate(f"{head}.querySelector('button').focus()")
    for order in ("ascending", "descending"):
        page.call("Input.dispatchKeyEvent", type="keyDown", **press)
        page.call("Input.dispatchKeyEvent", type="keyUp", **press)
        assert page.evaluate(f"{head}.getAttribute('aria-sort')") == order
        shown = column(page, "Validation accuracy")
        known = [float(text.rstrip("%")) for text in shown if text.endswith("%")]
        assert len(known) == 4
        assert known == sorted(known, reverse=order == "descending")
        assert not any(text.endswith("%") for text in shown[len(known) :])  # unknown: last
    assert sorted(map(int, column(page, "Trial"))) == list(range(12))


def test_times_and_text_are_sorted_by_what_they_mean(page: Page) -> None:
    timed = [9, 1, 4, 2]
    rest = [number for number in range(12) if number not in timed]
    for name in ("Reason", "Training time"):  # of equals, the order stays
        page.evaluate(
            "[...document.querySelectorAll('[aria-labelledby=every-trial] th button')]"
            f".find(button => button.textContent === '{name}').click()"
        )
        shown = list(map(int, column(page, "Trial")))
        assert shown == (list(range(11, -1, -1)) if name == "Reason" else [*timed, *reversed(rest)])


def test_on_paper_figures_are_light_and_as_wide_as_it(page: Page) -> None:
    see(page, dark=True)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = (
        "[...document.querySelectorAll('.main-svg')].map(svg => svg.getBoundingClientRect().width)"
    )
    assert max(page.evaluate(widths)) <= 690
    drawn = (
        "Object.fromEntries([...document.querySelectorAll('.plot')].map(plot => "
        "[plot.id, plot.querySelector('.main-svg').getBoundingClientRect().height]))"
    )
    heights = page.evaluate(drawn)
    assert heights.pop("plot-slices") == 560
    assert set(heights.values()) == {340}
    page.call("Emulation.setEmulatedMedia", media="print")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(plot => plot.getBoundingClientRect().height)"
    )
    page.call("Emulation.setEmulatedMedia", media="")
    assert boxes == [340] * 5 + [560, 340]
    assert brightness(page.evaluate(COLOURS)[2]) < 400
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert max(page.evaluate(widths)) > 690
    pdf = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert problems(page) == []


def test_long_names_of_classes_fit(other: Page, tmp_path: Path) -> None:
    names = tuple(f"a class with quite a long name, number {i}" for i in range(20))
    page = other
    for classes in (names, names[:10], ("x" * 80, "y" * 80)):
        resize(page, 320)
        page.open(written(render(read_record(final_record(classes))), tmp_path))
        for width in (320, 375):
            resize(page, width)
            until(page, f"document.documentElement.scrollWidth === {width}")
            assert page.evaluate("document.querySelectorAll('#plot-confusion .hm').length") == 2
    assert problems(page) == []


def test_other_pages_draw_their_figures(other: Page, tmp_path: Path) -> None:
    page = other
    record = mixed()
    unreadable = UnreadableStudy(
        name=EVIL, reason=EVIL, attributes={EVIL: {"a": EVIL}}, trials=record.trials
    )
    page.open(written(render_unreadable(unreadable), tmp_path))
    assert page.evaluate(MARKS) == {"plot-history": [4, 0, 0]}
    page.open(written(render_comparison(record, replace(record, name=EVIL)), tmp_path))
    assert page.evaluate(MARKS) == {"plot-incumbents": [6, 2, 0], "plot-sizes": [6, 0, 0]}
    assert problems(page) == []


@pytest.mark.usefixtures("browser")  # or it is skipped
def test_figures_become_pictures(report: Path, tmp_path: Path) -> None:
    paths = write_pictures(report, tmp_path / "new")
    assert [path.name for path in paths] == [
        f"{name}.png"
        for name in ("funnel", "history", "time", "size", "curves", "slices", "parallel")
    ]
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20], "big") == 2000


@pytest.mark.skipif("NAS_AXE" not in os.environ, reason="needs axe-core: NAS_AXE=.../axe.min.js")
def test_axe_finds_nothing(browser: Browser, report: Path) -> None:
    axe = Path(os.environ["NAS_AXE"]).read_text(encoding="utf-8")
    page = browser.page()
    page.call("Page.setBypassCSP", enabled=True)
    resize(page, 375)
    page.open(report)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.evaluate(f"{axe};0")
    for dark in (False, True):
        see(page, dark=dark)
        found = page.evaluate(
            "axe.run().then(said => said.violations.map(v => [v.id, v.impact, v.nodes[0].html]))"
        )
        assert found == []


def brightness(color: str) -> int:
    return sum(map(int, re.findall(r"\d+", color)[:3]))
