"""A headless Chromium: what draws the report's figures as pictures, and what the tests look with.

It is driven by the DevTools protocol over two pipes, so no port is opened and no package is needed.
"""

import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from nas.files import temporary_folder
from nas.runtime import signals

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 60.0  # seconds for one answer
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # needed as root, as in containers; it opens no page but ours
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU, for figures that want it
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class BrowserError(RuntimeError):
    """The browser did not start, ended, or answered with an error."""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome of this machine, None where there is none."""
    if os.name != "posix":
        return None
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """A running browser; a context manager that ends it.

    Args:
        executable: what `find_browser` gave.

    Raises:
        BrowserError: it does not start.
    """

    def __init__(self, executable: str) -> None:
        self._files = ExitStack()
        home = self._files.enter_context(
            temporary_folder(Path(tempfile.gettempdir()), "nas-browser")
        )
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: deque[dict[str, Any]] = deque(maxlen=10_000)
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # The browser reads at descriptor 3 and writes at 4: ours must not lie there.
        high_in, high_out = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)
        )
        os.close(theirs_in)
        os.close(theirs_out)
        profile = f"--user-data-dir={home}/profile"
        try:
            self._pid = os.posix_spawn(
                executable,
                [executable, *_OPTIONS, profile, "about:blank"],
                {**os.environ, "HOME": str(home)},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, high_in, 3),
                    (os.POSIX_SPAWN_DUP2, high_out, 4),
                ],
                setpgroup=0,
            )
        except OSError as error:
            self._files.close()
            raise BrowserError(f"{executable} cannot be started: {error.strerror}") from error
        finally:
            os.close(high_in)
            os.close(high_out)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser and removes its files."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)
        self._files.close()

    def page(self) -> "Page":
        """A new empty page."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        return Page(self, attached["sessionId"])

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """The answer to one call of the protocol; what else comes in goes to `events`.

        Raises:
            BrowserError: it answered with an error, or not at all.
        """
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        sent = json.dumps(message).encode() + b"\0"
        try:
            while sent:
                sent = sent[os.write(self._to, sent) :]
        except OSError as error:
            raise BrowserError("the browser ended") from error
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") != number:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def wait_for(self, method: str, session: str) -> dict[str, Any]:
        """The next event of this kind, also one that came already; it is taken out of `events`.

        Raises:
            BrowserError: it did not come.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event
            self.events.append(self._receive(deadline))

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            signals.check()
            readable, _, _ = select.select([self._from], [], [], signals.LOOK)
            if not readable and time.monotonic() < deadline:
                continue
            read = os.read(self._from, 1 << 20) if readable else b""
            if not read:
                raise BrowserError(
                    "the browser ended" if readable else "the browser does not answer"
                )
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


class Page:
    """One page of a browser.

    Args:
        browser: which.
        session: of the page, as the protocol names it.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one call of the protocol on this page."""
        return self._browser.call(method, parameters, self._session)

    def open(self, path: Path) -> None:
        """Opens a file and waits until it is loaded: its figures are drawn then."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._browser.wait_for("Page.loadEventFired", self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON keeps it; a promise is waited for.

        Raises:
            BrowserError: it threw.
        """
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            said = details.get("exception", {}).get("description", details["text"])
            raise BrowserError(said.splitlines()[0])
        return answer["result"].get("value")

    def events(self, method: str) -> list[dict[str, Any]]:
        """What events of this kind said so far."""
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]
