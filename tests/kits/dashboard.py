"""A dashboard that is served from a thread, and what it answers."""

import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.dashboard.server import HOST, make_dashboard
from nas.study.location import StudyLocation
from tests.kits.waiting import PATIENCE


@dataclass(frozen=True)
class Served:
    """A dashboard that answers."""

    port: int
    first: str  # path of the page that is opened first

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def path(self) -> str:
        """Of Optuna's pages on the study whose report is opened first."""
        return self.first.replace("/report/", "/dashboard/studies/")

    def detail(self, number: str | None = None) -> Any:
        """What the dashboard's own API says of that study, or of another one."""
        number = number or self.first.rsplit("/", 1)[1]
        with urllib.request.urlopen(
            f"{self.address}/api/studies/{number}?after=0", timeout=PATIENCE
        ) as answer:
            return json.load(answer)

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """The answer to any request, with its `content` read."""
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.content = answer.read()  # type: ignore[attr-defined]
            return answer


@contextmanager
def served(
    location: StudyLocation | None, directory: Path, *, allow_edits: bool = False
) -> Iterator[Served]:
    """A dashboard on a study, or on all of those in `studies` of a directory."""
    dashboard = make_dashboard(
        location, port=0, studies_dir=directory / "studies", allow_edits=allow_edits
    )
    thread = threading.Thread(target=dashboard.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Served(dashboard.server.server_port, dashboard.path)
    finally:
        dashboard.server.shutdown()
        thread.join()
        dashboard.server.server_close()
