"""What is served beside Optuna Dashboard, and to whom: the report, the model, learning curves.

The dashboard has no authentication. It listens on this machine only, and a page of another site
that is open in the same browser is turned away here: by the name it calls this server (a name of
its own that points to 127.0.0.1), and by where it says to come from. Whoever has the page may
change the study only where that was allowed.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from nas.dashboard.live import LiveStudy
from nas.study.location import StudyGone

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Any port: what `ssh -L` forwards has that of the other end.
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_READING = ("GET", "HEAD")
_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "no-referrer"),
)
# A document in a sandbox belongs to no site: whatever is in it cannot call the dashboard.
_SANDBOX = "sandbox allow-scripts allow-downloads; connect-src 'none'; form-action 'none'"
_TYPES = {
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a study that are served, whichever of them there are."""

    report: Path
    model: Path  # folder of the final training

    @property
    def report_address(self) -> str | None:
        """Address of the report; None before one is written."""
        return "/report" if self.report.is_file() else None

    @property
    def model_addresses(self) -> list[str]:
        """Addresses of the files of the exported model, which have plain names."""
        return [f"/model/{name}" for name in sorted(self.model_files())]

    def model_files(self) -> dict[str, Path]:
        """The files of the exported model by their names; those of its runs are left out."""
        try:
            found = list(self.model.iterdir())
        except OSError:  # there was no final training
            return {}
        plain = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
        return {path.name: path for path in found if path.is_file() and plain.fullmatch(path.name)}


def guarded(
    app: "WSGIApplication", live: LiveStudy, files: Files, *, allow_edits: bool
) -> "WSGIApplication":
    """Optuna Dashboard with the pages beside it, for requests from this machine's own pages.

    Only with `allow_edits` may they change its study, and others of its storage.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        own = _refusal(environ) or _gone(live) or _page(environ, live, files)
        if own is None and not allow_edits and environ["REQUEST_METHOD"] not in _READING:
            own = _no_edits()
        if own is None:
            return app(environ, _with_headers(start_response))
        head = [
            ("Content-Type", own.kind),
            ("Content-Length", str(len(own.content))),
            ("Cache-Control", "no-store"),
            *own.headers,
            *_ALWAYS,
        ]
        start_response(f"{own.status.value} {own.status.phrase}", head)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [own.content]

    return answer


def _with_headers(start_response: "StartResponse") -> "StartResponse":
    def start(status: str, headers: list[tuple[str, str]], *error: object) -> object:
        return start_response(status, [*headers, *_ALWAYS], *error)  # type: ignore[arg-type]

    return start  # type: ignore[return-value]


def _refusal(environ: "WSGIEnvironment") -> _Answer | None:
    host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
    if not _LOCAL.fullmatch(host):
        return _text(
            HTTPStatus.FORBIDDEN,
            "expected a request to 127.0.0.1, [::1] or localhost, got another host",
        )
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return _text(
            HTTPStatus.FORBIDDEN, "expected a request of this dashboard, got one of another page"
        )
    return None


def _no_edits() -> _Answer:
    """In the form in which Optuna Dashboard shows a person why something was refused."""
    reason = "this dashboard only shows the study; nas dashboard --allow-edits lets it change"
    content = json.dumps({"reason": reason}) + "\n"
    return _Answer(HTTPStatus.FORBIDDEN, content.encode(), "application/json")


def _gone(live: LiveStudy) -> _Answer | None:
    try:
        live.check()
    except StudyGone as error:
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    return None


def _page(environ: "WSGIEnvironment", live: LiveStudy, files: Files) -> _Answer | None:
    """The answer to a request that is not the dashboard's; None for one that is."""
    path: str = environ.get("PATH_INFO", "")
    found = re.fullmatch(r"/(report|model|curve)(?:/(.*))?", path, re.DOTALL)
    if found is None:
        return None
    if environ["REQUEST_METHOD"] not in _READING:
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET", ("Allow", "GET, HEAD"))
    pages: dict[str, Callable[[str], _Answer | None]] = {
        "report": lambda name: _file(files.report) if not name else None,
        "model": lambda name: _file(files.model_files().get(name)),
        "curve": lambda name: _curve(live, name),
    }
    return pages[found[1]](found[2] or "") or _text(
        HTTPStatus.NOT_FOUND, "there is no such file; nas report writes the report of a study"
    )


def _file(path: Path | None) -> _Answer | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:  # it is gone by now
        return None
    kind = _TYPES.get(path.suffix)
    headers = [("Content-Security-Policy", _SANDBOX)]
    if kind is None:
        headers.append(("Content-Disposition", f'attachment; filename="{path.name}"'))
    return _Answer(HTTPStatus.OK, content, kind or "application/octet-stream", tuple(headers))


def _curve(live: LiveStudy, name: str) -> _Answer | None:
    number = re.fullmatch(r"(\d{1,9})\.svg", name, re.ASCII)
    picture = live.curve(int(number[1])) if number else None
    if picture is None:
        return None
    policy = ("Content-Security-Policy", "default-src 'none'; sandbox")
    return _Answer(HTTPStatus.OK, picture.encode(), "image/svg+xml", (policy,))


def _text(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> _Answer:
    return _Answer(status, f"{text}\n".encode(), headers=headers)
