"""The report as Chromium shows it: its figures, themes, sorting, widths and print."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from nas.final.card import model_card
from nas.report.compare import render_comparison
from nas.report.document import encoded
from nas.report.export import trials_csv
from nas.report.page import render
from nas.report.pictures import write_pictures
from nas.report.tested import last_final
from nas.report.unreadable import render_unreadable
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.study.records import StudyRecord, UnreadableStudy
from tests.kits.chromium import chromium, heard_of, new_page, until
from tests.kits.places import STUDIES
from tests.kits.records import EVIL, final_record, mixed, read_record, study, trial

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
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
    page = new_page(browser)
    page.goto(report.as_uri())
    return page


@pytest.fixture
def page(opened: Page) -> Page:
    """The report, light and wide, with all of its parts open."""
    resize(opened, 1440)
    see(opened, dark=False)
    open_all(opened)
    return opened


@pytest.fixture
def other(browser: Browser) -> Iterator[Page]:
    """An empty page."""
    with new_page(browser) as page:
        yield page


def visit(page: Page, path: Path) -> None:
    """Opens a report and waits for its figures that are not folded."""
    page.goto(path.as_uri())
    until(page, DRAWN)


def written(page: str, directory: Path) -> Path:
    path = directory / "report.html"
    path.write_bytes(encoded(page))
    return path


def resize(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})


def open_all(page: Page) -> None:
    """Opens what is folded, and waits until its figures are drawn."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    until(page, "document.querySelectorAll('.plot:not(.js-plotly-plot)').length === 0")


def see(page: Page, *, dark: bool) -> None:
    """What the system prefers."""
    theme: Literal["dark", "light"] = "dark" if dark else "light"
    page.emulate_media(color_scheme=theme)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)


def problems(page: Page) -> list[str]:
    """What the console shows, and all requests but that of the page itself and what is in it."""
    heard = heard_of(page)
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    return [
        *heard.errors,
        *(message.text for message in heard.messages),
        *(
            url
            for url in (*heard.requests, *loaded)
            if not url.endswith("/report.html") and not url.startswith("data:image/png")
        ),
    ]


DRAWN = """[...document.querySelectorAll(".plot")].every((plot) =>
    plot.closest("details:not([open])") || plot.querySelector(".main-svg .xtick"))"""
MARKS = """Object.fromEntries(Array.from(document.querySelectorAll(".plot"), plot => [plot.id, [
    plot.querySelectorAll(".scatterlayer .point").length,
    plot.querySelectorAll(".scatterlayer .js-line").length,
    plot.querySelectorAll(".barlayer .point").length,
]]))"""
LABELS_CLIPPED = """[...document.querySelectorAll(".plot")].flatMap((plot) => {
    const frame = plot.getBoundingClientRect();
    return [...plot.querySelectorAll("text")].filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    }).map((text) => `${plot.id}: ${text.textContent}`);
})"""
LABELS_OVER_ANOTHER = """[...document.querySelectorAll(".plot")].flatMap((plot) => {
    const words = [...plot.querySelectorAll(".xtick text, .ytick text, .legendtext")];
    const boxes = words.map((text) => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([text, a], i) => boxes.slice(i + 1).filter(([, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
    ).map(([other]) => `${plot.id}: ${text} and ${other}`));
})"""
COLOURS = """(() => {
    const of = (query, name) => getComputedStyle(document.querySelector(query))[name];
    return [of("body", "backgroundColor"), of("h2", "color"), of(".xtick text", "fill")];
})()"""


def test_everything_is_drawn_and_nothing_overflows(page: Page) -> None:
    for width in (1440, 375):
        resize(page, width)
        for dark in (False, True):
            see(page, dark=dark)
            until(page, f"document.documentElement.scrollWidth === {width}")
            paper, heading, tick = map(brightness, page.evaluate(COLOURS))
            assert (heading > paper) == (tick > paper) == dark
    assert page.evaluate(MARKS) == {
        "plot-funnel": [0, 0, 10],
        "plot-history": [4, 1, 0],
        "plot-time": [6, 2, 0],
        "plot-size": [19, 1, 0],  # with the star and 14 published networks
        "plot-curves": [5, 5, 0],
        "plot-slices": [23, 0, 0],
    }
    assert problems(page) == []


def test_no_label_of_a_figure_is_clipped_or_over_another(other: Page, report: Path) -> None:
    for width in (1440, 390):
        resize(other, width)
        visit(other, report)
        open_all(other)
        assert other.evaluate(LABELS_CLIPPED) == []
        assert other.evaluate(LABELS_OVER_ANOTHER) == []


def test_without_what_unpacks_the_library_the_page_says_so(other: Page, report: Path) -> None:
    other.add_init_script("delete globalThis.DecompressionStream")
    other.goto(report.as_uri())
    plot = other.locator("#plot-size")
    expect(plot).to_contain_text("This browser cannot draw the figure")
    assert problems(other) == []


def test_the_button_changes_the_theme_and_it_is_remembered(other: Page, report: Path) -> None:
    page = other
    visit(page, report)
    before = page.evaluate(COLOURS)
    page.get_by_role("button", name="Dark theme").click()
    after = page.evaluate(COLOURS)
    assert all(a != b for a, b in zip(before, after, strict=True))
    page.reload()
    until(page, DRAWN)
    assert page.evaluate(COLOURS) == after
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(COLOURS) == before


def every_trial(page: Page) -> Locator:
    """The table of all trials."""
    return page.locator("#every-trial table")


def column(table: Locator, name: str) -> list[str]:
    """What a column of a table shows, from the top."""
    place = table.locator("th").all_text_contents().index(name) + 1
    return table.locator(f"tbody tr > :nth-child({place})").all_text_contents()


def test_tables_are_sorted_with_the_keyboard(page: Page) -> None:
    table = every_trial(page)
    head = table.locator("th", has_text="Validation accuracy")
    head.get_by_role("button").focus()
    for order in ("ascending", "descending"):
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", order)
        shown = column(table, "Validation accuracy")
        known = [float(text.rstrip("%")) for text in shown if text.endswith("%")]
        assert len(known) == 4
        assert known == sorted(known, reverse=order == "descending")
        assert not any(text.endswith("%") for text in shown[len(known) :])  # unknown: last
    assert sorted(map(int, column(table, "Trial"))) == list(range(12))


def test_times_and_text_are_sorted_by_what_they_mean(page: Page) -> None:
    table = every_trial(page)
    timed = [9, 1, 4, 2]
    rest = [number for number in range(12) if number not in timed]
    for name in ("Reason", "Training time"):  # of equals, the order stays
        table.get_by_role("button", name=name).click()
        shown = list(map(int, column(table, "Trial")))
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
    page.emulate_media(media="print")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(plot => plot.getBoundingClientRect().height)"
    )
    page.emulate_media(media="null")
    assert boxes == [340] * 5 + [560]
    assert brightness(page.evaluate(COLOURS)[2]) < 400
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert max(page.evaluate(widths)) > 690
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert problems(page) == []


CLIPPED = """(names) => [...document.querySelectorAll(names)]
    .filter((part) => part.scrollWidth > part.clientWidth && part.clientWidth > 0)
    .map((part) => [part.tagName, part.className, part.textContent.slice(0, 60)])"""
PARTS = "html, section, figure, .plot, .cards, .cards *, dl, dd, pre, .line, .facts, .gallery li"


@pytest.mark.parametrize("name", ["digits-example", "evil", "tested", "curves", "nothing"])
def test_nothing_is_clipped(other: Page, tmp_path: Path, name: str) -> None:
    """On a wide screen tables are whole, too; on a phone they scroll in a frame of their own."""
    if name == "digits-example":
        record = read_study(StudyLocation.at(name, studies_dir=STUDIES))
    else:
        many = [trial(i, accuracy=0.5 + i / 200, epochs=200) for i in range(30)]
        record = {
            "evil": replace(mixed(), name="a-very-long-name-" * 6, notes=(EVIL, "x" * 300)),
            "tested": read_record(final_record(("x" * 80, "y" * 80))),
            "curves": study(*many),
            "nothing": study(),
        }[name]
    page = other
    page.goto(written(render(record, STUDIES / name / "final"), tmp_path).as_uri())
    open_all(page)
    for width, parts in ((1440, f"{PARTS}, .scroll"), (390, PARTS)):
        resize(page, width)
        for dark in (False, True):
            see(page, dark=dark)
            until(page, f"document.documentElement.clientWidth === {width}")
            assert page.evaluate(CLIPPED, parts) == []
    assert problems(page) == []


def test_a_long_leaderboard_is_folded_and_still_sorted_whole(other: Page, tmp_path: Path) -> None:
    page = other
    record = study(*(trial(i, accuracy=0.5 + i / 200) for i in range(30)))
    page.goto(written(render(record), tmp_path).as_uri())
    board = page.get_by_role("region", name="Leaderboard")
    rows = board.locator("tbody tr")
    expect(rows.filter(visible=True)).to_have_count(10)
    board.get_by_role("button", name="Validation accuracy").click()
    expect(rows.first.locator("td").first).to_have_text("0")  # the worst of all, which was hidden
    expect(rows.filter(visible=True)).to_have_count(11)  # the best one stays in view
    page.emulate_media(media="print")
    expect(rows.filter(visible=True)).to_have_count(30)
    page.emulate_media(media="null")
    expect(rows.filter(visible=True)).to_have_count(11)
    board.get_by_role("button", name="Show all 30").click()
    expect(rows.filter(visible=True)).to_have_count(30)


def test_the_trials_and_the_card_are_saved_from_the_page(other: Page, tmp_path: Path) -> None:
    page = other
    record = read_record(final_record())
    page.goto(written(render(record), tmp_path).as_uri())
    contents = {
        "Download trials (CSV)": trials_csv(record),
        "Download model card": encoded(card_of(record)),
    }
    for label, content in contents.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        assert download.value.path().read_bytes() == content
    assert download.value.suggested_filename == "README.md"


def card_of(record: StudyRecord) -> str:
    final = last_final(record)
    assert final is not None
    return model_card(final)


def test_the_next_command_is_copied_or_else_selected(other: Page, tmp_path: Path) -> None:
    page = other
    page.goto(written(render(mixed()), tmp_path).as_uri())
    command = page.locator("#next").inner_text()
    assert command == "nas final --study cifar10-5M"
    page.evaluate("void (navigator.clipboard.writeText = async (text) => { copied = text; })")
    page.get_by_role("button", name="Copy command").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("copied") == command
    page.reload()
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject('denied'))")
    page.get_by_role("button", name="Copy command").click()
    expect(page.get_by_role("button", name="Selected")).to_be_visible()
    assert page.evaluate("getSelection().toString()") == command


def test_long_names_of_classes_fit(other: Page, tmp_path: Path) -> None:
    names = tuple(f"a class with quite a long name, number {i}" for i in range(20))
    page = other
    for classes in (names, names[:10], ("x" * 80, "y" * 80)):
        resize(page, 320)
        visit(page, written(render(read_record(final_record(classes))), tmp_path))
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
    visit(page, written(render_unreadable(unreadable), tmp_path))
    assert page.evaluate(MARKS) == {"plot-history": [4, 0, 0]}
    visit(page, written(render_comparison(record, replace(record, name=EVIL)), tmp_path))
    assert page.evaluate(MARKS) == {"plot-incumbents": [6, 2, 0], "plot-sizes": [6, 0, 0]}
    assert problems(page) == []


@pytest.mark.usefixtures("browser")  # or it is skipped
def test_figures_become_pictures(report: Path, tmp_path: Path) -> None:
    paths = write_pictures(report, tmp_path / "new")
    assert [path.name for path in paths] == [
        f"{name}.png" for name in ("size", "curves", "history", "funnel", "time", "slices")
    ]
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20], "big") == 2000


@pytest.mark.skipif("NAS_AXE" not in os.environ, reason="needs axe-core: NAS_AXE=.../axe.min.js")
def test_axe_finds_nothing(browser: Browser, report: Path, tmp_path: Path) -> None:
    page = new_page(browser, width=375, bypass_csp=True)
    example = read_study(StudyLocation.at("digits-example", studies_dir=STUDIES))
    tested = written(render(example, STUDIES / "digits-example" / "final"), tmp_path)
    for path in (report, tested):
        page.goto(path.as_uri())
        open_all(page)
        page.add_script_tag(path=os.environ["NAS_AXE"])
        for dark in (False, True):
            see(page, dark=dark)
            found = page.evaluate(
                "axe.run().then(({violations}) => "
                "violations.map(v => [v.id, v.impact, v.nodes[0].html]))"
            )
            assert found == []


def brightness(color: str) -> int:
    return sum(map(int, re.findall(r"\d+", color)[:3]))
