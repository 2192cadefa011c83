"""Names and places of studies, checked before anything heavy is imported."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


class StudyError(ValueError):
    """A study cannot be used as asked: what was expected, what came, what to do."""


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """One study in one database."""

    name: str
    url: str  # SQLAlchemy's
    path: Path | None  # the file of an SQLite database

    @classmethod
    def at(
        cls, name: str, *, studies_dir: Path | str, storage: str | None = None
    ) -> "StudyLocation":
        """The study's place: its own SQLite file in `studies_dir`, or the database of a URL.

        Raises:
            StudyError: the name cannot be a file name, or the URL is of no lasting database.
        """
        if storage is not None:
            if re.fullmatch(r"sqlite(?:\+\w+)?://(/?|/:memory:)(\?.*)?", storage):
                raise StudyError(
                    f"--storage: expected a database that stays, such as sqlite:///studies/my.db, "
                    f"got {storage!r}, which is kept in memory"
                )
            if re.match(r"[^/]*://[^:/]*:[^@]*@.*@", storage):  # drivers would print half of it
                raise StudyError(
                    "--storage: expected one '@' in a URL, before the host, and %40 for others, "
                    f"got {cls(name, storage, None)}"
                )
            sqlite_file = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+).*", storage)
            return cls(name, storage, Path(sqlite_file[1]) if sqlite_file else None)
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
            raise StudyError(
                "--study: expected a name of letters, digits, '.', '_' and '-', such as "
                f"my-study, got {name!r}"
            )
        if re.search(r"[?%#]", str(studies_dir)):  # these mean something in a URL
            raise StudyError(
                f"--studies-dir: expected a path without '?', '%' and '#', got {studies_dir}"
            )
        path = Path(studies_dir) / f"{name}.db"
        return cls(name, f"sqlite:///{path}", path)

    def __str__(self) -> str:
        """The file, or the URL without its password."""
        if self.path is not None:
            return str(self.path)
        if "://" in self.url:
            hidden = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", self.url)
        else:  # of a slip of the finger
            hidden = re.sub(r".*@", "***@", self.url)
        return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&]*", r"\1***", hidden)

    def check(self) -> None:
        """Makes the directory of an SQLite file and checks that a study can be written there.

        Raises:
            StudyError: the directory cannot be written, or the file is something else.
        """
        if self.path is None:
            return
        check_directory("--studies-dir", self.path.parent)
        if self.path.exists():
            self.check_is_study()
            if not os.access(self.path, os.W_OK):
                raise StudyError(
                    f"{self.path}: expected a study that can be written, got one that cannot"
                )

    @property
    def lock_file(self) -> Path | None:
        """The file that searches of an SQLite study lock while they decide what to train."""
        return self.path and self.path.with_name(f".{self.path.name}.lock")

    def check_is_study(self) -> None:
        """Checks that an SQLite file, which must be there, holds studies; reads only.

        Raises:
            StudyError: it is something else.
        """
        if self.path is None:
            return
        try:
            with closing(
                sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
            ) as db:
                tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        except sqlite3.Error as error:
            raise StudyError(
                f"{self.path}: expected a study in an SQLite database, got {error}; "
                "move the file away, or choose another name with --study"
            ) from error
        from nas.study.optuna_private import WRITTEN_FIRST  # imports Optuna

        # One of them is enough: another search may be making the others, or was killed at it.
        if tables and tables.isdisjoint(WRITTEN_FIRST):
            raise StudyError(
                f"{self.path}: expected a study in an SQLite database, got a database of another "
                "program; choose another name with --study"
            )


def check_directory(option: str, directory: Path) -> None:
    """Makes a directory and checks that files can be written there.

    Raises:
        StudyError: they cannot.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):  # what the mode allows may still be impossible
            pass
    except OSError as error:
        raise StudyError(
            f"{option}: expected a directory that can be written, got {directory}: {error.strerror}"
        ) from error


def default_study_name(dataset: str, max_parameters: int) -> str:
    """Dataset and budget, such as ``cifar10-5M``."""
    return f"{dataset}-{short_count(max_parameters)}"


def short_count(count: int) -> str:
    """A count with its unit, exact: 5000000 -> 5M, 1634000 -> 1.634M, 1234567 -> 1234567."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit and count % (unit // 1000) == 0:
            return f"{count / unit:.3f}".rstrip("0").rstrip(".") + name
    return str(count)
