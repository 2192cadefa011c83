"""What is served beside Optuna Dashboard, and to whom: reports, models, learning curves, the list.

The dashboard has no authentication. It listens on this machine only, and a page of another site
that is open in the same browser is turned away here: by the name it calls this server (a name of
its own that points to 127.0.0.1), and by where it says to come from. Whoever has the page may
change the study only where that was allowed.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from nas.dashboard.live import LiveStudy
from nas.dashboard.studies import OneStudy, StudiesOfFolder
from nas.study.location import NoStudy, StudyError, StudyGone
from nas.templates import Templates

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
_STATIC = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
_OF_STUDY = re.compile(
    r"/(report|model|curve|dashboard/studies|api/studies|csv)/(\d{1,18})(?:/(.*))?",
    re.DOTALL | re.ASCII,
)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # names of files that are served
_TYPES = {
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}

_render = Templates("nas.dashboard").render


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def guarded(studies: OneStudy | StudiesOfFolder, *, allow_edits: bool) -> "WSGIApplication":
    """Optuna Dashboard with the pages beside it, for requests from this machine's own pages.

    Only with `allow_edits` may they change its study, and others of its storage.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        own = _refusal(environ) or _own(environ, studies, allow_edits)
        if not isinstance(own, _Answer):
            return own(environ, _with_headers(start_response))
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
            HTTPStatus.FORBIDDEN,
            "expected a request from this dashboard, got one from another page",
        )
    return None


def _no_edits() -> _Answer:
    """In the form in which Optuna Dashboard shows a person why something was refused."""
    reason = "this dashboard is read-only; nas dashboard --allow-edits allows changes"
    content = json.dumps({"reason": reason}) + "\n"
    return _Answer(HTTPStatus.FORBIDDEN, content.encode(), "application/json")


def _own(
    environ: "WSGIEnvironment", studies: OneStudy | StudiesOfFolder, allow_edits: bool
) -> "_Answer | WSGIApplication":
    """The answer to a request, or the dashboard that has it."""
    path: str = environ.get("PATH_INFO", "")
    reads = environ["REQUEST_METHOD"] in _READING
    of_study = _OF_STUDY.fullmatch(path)
    kind, number, name = of_study.groups() if of_study else ("", None, None)
    beside = kind in ("report", "model", "curve")
    if beside and not reads:
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET", ("Allow", "GET, HEAD"))
    if not reads and not allow_edits:
        return _no_edits()
    try:
        if not of_study and isinstance(studies, StudiesOfFolder):
            if path.rstrip("/") in ("", "/dashboard"):
                return _html(studies.page())
            if path.rstrip("/") == "/api/studies":
                content = json.dumps({"study_summaries": studies.summaries()})
                return _Answer(HTTPStatus.OK, content.encode(), "application/json")
        found = studies.get(None if number is None else int(number))
        if not beside:
            return studies.app if found is None else found.app
        among_others = isinstance(studies, StudiesOfFolder)
        page = _beside(kind, name or "", found.live, among_others) if found else None
    except NoStudy as error:
        return _text(HTTPStatus.NOT_FOUND, str(error))
    except (StudyError, StudyGone) as error:
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    return page or _text(HTTPStatus.NOT_FOUND, "there is no such page")


def _beside(kind: str, name: str, live: LiveStudy, among_others: bool) -> _Answer | None:
    """A page about a study; None where there is none of that name."""
    if kind == "model":
        return _file(_model_files(live.model).get(name))
    if kind == "curve":
        return _curve(live, name)
    return None if name else _report(live, among_others)


def _report(live: LiveStudy, among_others: bool) -> _Answer:
    """The report, and at its head what leads to the other pages."""
    links = _render("links.html", optuna=live.optuna_address, among_others=among_others).encode()
    page = re.sub(rb"<main[^>]*>", lambda main: main[0] + links, live.report(), count=1)
    headers = (("Content-Security-Policy", _SANDBOX),)
    return _Answer(HTTPStatus.OK, page, _TYPES[".html"], headers)


def _model_files(folder: Path) -> dict[str, Path]:
    """The files of an exported model by their names; those of its runs are left out."""
    try:
        found = list(folder.iterdir())
    except OSError:  # there was no final training
        return {}
    return {path.name: path for path in found if path.is_file() and _PLAIN.fullmatch(path.name)}


def model_addresses(live: LiveStudy) -> list[str]:
    """Addresses of the files of the exported model, which have plain names."""
    return [f"/model/{live.number}/{name}" for name in sorted(_model_files(live.model))]


def _html(page: str) -> _Answer:
    headers = (("Content-Security-Policy", _STATIC),)
    return _Answer(HTTPStatus.OK, page.encode(errors="xmlcharrefreplace"), _TYPES[".html"], headers)


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
