"""The system's Chromium without a window, driven by Playwright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from nas.report.pictures import find_browser
from tests.kits.waiting import PATIENCE, wait_until

_LONGEST = 1000 * PATIENCE  # milliseconds
expect.set_options(timeout=_LONGEST)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium: install chromium")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, timeout=_LONGEST) as browser,
    ):
        yield browser


@dataclass(slots=True)
class Heard:
    """What has come from a page since it was opened, over all that was shown in it."""

    errors: list[str] = field(default_factory=list)  # that no script caught
    messages: list[ConsoleMessage] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # addresses


_heard: WeakKeyDictionary[Page, Heard] = WeakKeyDictionary()


def new_page(browser: Browser, *, width: int = 1440, bypass_csp: bool = False) -> Page:
    """An empty page with storage of its own, which waits as patiently as other tests."""
    page = browser.new_page(viewport={"width": width, "height": 900}, bypass_csp=bypass_csp)
    page.set_default_timeout(_LONGEST)
    heard = _heard[page] = Heard()
    page.on("pageerror", lambda error: heard.errors.append(str(error)))
    page.on("console", lambda message: heard.messages.append(message))
    page.on("request", lambda request: heard.requests.append(request.url))
    return page


def heard_of(page: Page) -> Heard:
    """What has come from a page of `new_page`."""
    page.evaluate("0")  # what was sent before the answer has been taken in
    return _heard[page]


def until(page: Page, condition: str) -> None:
    """Waits until a JavaScript expression is true.

    Playwright's own `wait_for_function` needs `eval`, which the report's policy forbids.
    """
    wait_until(lambda: page.evaluate(condition))


def violations(page: Page) -> list[list[str]]:
    """What axe-core, whose file NAS_AXE names, finds in a page of `new_page(bypass_csp=True)`."""
    page.add_script_tag(path=os.environ["NAS_AXE"])
    found: list[list[str]] = page.evaluate(
        "axe.run().then(said => said.violations.map(v => [v.id, v.impact, v.nodes[0].html]))"
    )
    return found
