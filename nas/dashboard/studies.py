"""The studies that are served, each with the number by which addresses name it."""

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.dashboard.live import LiveStudy
from nas.report.theme import PALETTES
from nas.study.listing import ListedStudy, OtherFile, list_studies
from nas.study.location import StudyGone, StudyLocation
from nas.templates import Templates
from nas.text import percent

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_render = Templates("nas.dashboard", "nas.report", palettes=PALETTES, percent=percent).render


@dataclass(frozen=True, slots=True)
class Served:
    """A study that is open, and Optuna Dashboard on its storage."""

    live: LiveStudy
    app: "WSGIApplication"


@dataclass(frozen=True, slots=True)
class OneStudy:
    """A study alone: what else is in its storage, Optuna Dashboard serves, too."""

    study: Served

    @property
    def app(self) -> "WSGIApplication":
        """Answers what belongs to no study."""
        return self.study.app

    def get(self, number: int | None) -> Served | None:
        """The study of a number, if it is that.

        Raises:
            StudyGone: its file was removed or replaced.
        """
        self.study.live.check()
        return self.study if number == self.study.live.number else None


class StudiesOfFolder:
    """All studies of a folder, each opened when it is asked for.

    Their numbers follow from their names, so that an address stays right.

    Args:
        folder: where they lie.
        app: answers what belongs to no study.
        serve: opens the study at a place, under a number.
    """

    def __init__(
        self,
        folder: Path,
        app: "WSGIApplication",
        serve: Callable[[StudyLocation, int], Served],
    ) -> None:
        self.app = app
        self._folder = folder
        self._serve = serve
        self._served: dict[int, Served] = {}
        self._lock = threading.Lock()

    def get(self, number: int | None) -> Served | None:
        """The study of a number; None where there is none.

        Raises:
            StudyError: it cannot be opened, or the folder cannot be read.
        """
        if number is None:
            return None
        with self._lock:
            found = self._served.get(number)
            try:
                if found is not None:
                    found.live.check()
                    return found
            except StudyGone:
                del self._served[number]
            for study in self._listed():
                if _number(study) == number:
                    found = self._serve(self._location(study), number)
                    self._served[number] = found
                    return found
        return None

    def page(self) -> str:
        """The list as HTML.

        Raises:
            StudyError: the folder cannot be read.
        """
        every = list(list_studies(self._folder))
        studies = [(_number(s), s) for s in every if isinstance(s, ListedStudy)]
        studies.sort(key=lambda numbered: numbered[1].changed, reverse=True)
        others = [
            (_number(other) if other.name else None, other)
            for other in every
            if not isinstance(other, ListedStudy)
        ]
        title = f"Studies in {self._folder}"
        return _render("studies.html", title=title, studies=studies, others=others)

    def summaries(self) -> list[dict[str, object]]:
        """The list as Optuna Dashboard's own pages ask for it.

        Raises:
            StudyError: the folder cannot be read.
        """
        return [
            {
                "study_id": _number(study),
                "study_name": study.name,
                "directions": ["maximize"],
                "user_attrs": [],
                "is_preferential": False,
            }
            for study in self._listed()
        ]

    def _listed(self) -> list[ListedStudy | OtherFile]:
        """All that can be opened: also those of which only the settings cannot be read."""
        return [study for study in list_studies(self._folder) if study.name is not None]

    def _location(self, study: ListedStudy | OtherFile) -> StudyLocation:
        # Of several in one file each is known by its own name.
        name = str(study.name)
        storage = None if study.path.stem == name else f"sqlite:///{study.path}"
        return StudyLocation.at(name, studies_dir=self._folder, storage=storage)


def _number(study: ListedStudy | OtherFile) -> int:
    return zlib.crc32(f"{study.path.name}/{study.name}".encode(errors="surrogatepass"))
