"""Names and places of studies, checked before anything heavy is imported."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from nas.counting import COSTS
from nas.devices import DEVICES
from nas.space import Limits
from nas.text import short_count

_LONGEST_NAME = 100  # characters; files, folders and reports are called like the study
_LONGEST_FILE = 240  # bytes; SQLite and its lock add to it, and 255 is the most there is


class StudyError(ValueError):
    """A study cannot be used as asked: what was expected, what came, what to do."""


class NoStudy(StudyError):
    """There is no study at a place, or it is only being made."""


class StudyGone(sqlite3.OperationalError):
    """The file of an open study is not at its path any more; the message says what to do."""


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """One study in one database."""

    name: str
    path: Path | None  # the file of an SQLite database
    storage: str | None = None  # a URL; None: the file is the study, and is called like it

    @classmethod
    def at(
        cls, name: str, *, studies_dir: Path | str, storage: str | None = None
    ) -> "StudyLocation":
        """The study's place: its own SQLite file in `studies_dir`, or the database of a URL.

        Raises:
            StudyError: the name or the URL cannot be used, or is of no lasting database.
        """
        if len(name) > _LONGEST_NAME:
            raise StudyError(
                f"--study: expected a name of at most {_LONGEST_NAME} characters, got one of "
                f"{len(name)}, {name[:20]!r}...; choose a shorter one"
            )
        if storage is not None:
            if not name.isprintable() or not name.strip():
                raise StudyError(f"--study: expected a name that can be printed, got {name!r}")
            return cls(name, _file_of(storage), storage)
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            raise StudyError(
                "--study: expected a name of the letters a to z and A to Z, digits, '.', '_' and "
                f"'-', such as my-study, got {name!r}"
            )
        return cls(name, Path(studies_dir) / f"{name}.db")

    @property
    def url(self) -> str:
        """The database as SQLAlchemy and Optuna take it, with the password if there is one."""
        if self.storage is not None:
            return self.storage
        return _sqlite_url(str(self.path))

    @property
    def engine_url(self) -> str:
        """The same, but an SQLite file that is not there is not made whenever it is connected."""
        if self.path is None:
            return self.url
        return _sqlite_url(self.path.absolute().as_uri(), mode="rw", uri="true")

    def __str__(self) -> str:
        """The file, or the URL without its password."""
        return str(self.path) if self.path is not None else without_secrets(self.url)

    def check(self) -> None:
        """Checks that a study can be written at an SQLite file; makes neither it nor its directory.

        Raises:
            StudyError: the directory cannot be written, or the file is something else.
        """
        if self.path is None:
            return
        option = "--studies-dir" if self.storage is None else "--storage"
        check_directory(option, self.path.parent)
        if os.path.lexists(self.path):
            self.check_is_study()
            if not os.access(self.path, os.W_OK):
                raise StudyError(
                    f"{self.path}: expected a study that can be written, got one that cannot"
                )
        assert self.lock_file is not None
        try:
            with suppress(FileNotFoundError):
                os.close(os.open(self.lock_file, os.O_RDWR | os.O_NONBLOCK))
        except OSError as error:
            raise StudyError(
                f"{self.lock_file}: expected the lock file of {self.path}, got one that cannot be "
                f"opened ({error.strerror}); remove it while no search runs"
            ) from error

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
        if not self.path.is_file():
            raise StudyError(
                f"{self.path}: expected a study in an SQLite database, got no regular file; choose "
                "another name with --study"
            )
        try:
            with closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
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


@dataclass(frozen=True, slots=True)
class OpenFile:
    """The file of an open study. One that was removed or replaced could be written for ever."""

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> "OpenFile":
        """The file that is there now.

        Raises:
            OSError: there is none.
        """
        status = path.stat()
        return cls(path, status.st_dev, status.st_ino)

    def check(self) -> None:
        """Checks that it still is the file at its path.

        Raises:
            StudyGone: it is not.
        """
        try:
            now = OpenFile.at(self.path)
        except OSError as error:
            raise StudyGone(
                f"{self.path}: expected the study's file where it was, got none "
                f"({error.strerror}); put it back to continue with the same command, which "
                "otherwise starts a new study"
            ) from error
        if now != self:
            raise StudyGone(
                f"{self.path}: expected the study's file as it was opened, got another one in its "
                "place; the same command continues with that one"
            )


def without_secrets(url: str) -> str:
    """A URL of a database without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        read, shown = make_url(url), url
        if read.password is not None:
            # Of one with an '@' that is not written as %40 SQLAlchemy itself would show a part.
            shown = f"{read.drivername}://{read.username}:***@{url.rpartition('@')[2]}"
    except (ArgumentError, ValueError):  # of a slip of the finger
        shown = re.sub(r".*@", "***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&]*", r"\1***", shown)


def _file_of(storage: str) -> Path | None:
    """The file of an SQLite URL, as SQLAlchemy reads it; None for a server's.

    Raises:
        StudyError: no study can be kept there.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    def refused(expected: str, why: str = "") -> StudyError:
        return StudyError(f"--storage: expected {expected}, got {without_secrets(storage)}{why}")

    try:
        url = make_url(storage)
        dialect = url.get_dialect()
    except (ArgumentError, ValueError) as error:
        # Other messages may hold a part of the password.
        why = f": {error}" if isinstance(error, NoSuchModuleError) else ""
        raise refused("a database URL such as sqlite:///studies/my.db", why) from error
    if dialect.is_async:
        raise refused(f"a driver that is not asynchronous, such as {url.get_backend_name()}://")
    if url.get_backend_name() != "sqlite":
        if url.password is not None and storage.count("@") > 1:  # drivers would print half of it
            raise refused("one '@' in a URL, before the host, and %40 for others")
        return None
    plain = "a file such as sqlite:///studies/my.db (sqlite://// before a path from the root)"
    file, mode = url.database or ":memory:", url.query.get("mode")
    if file == ":memory:" or file.startswith("file::memory:") or mode == "memory":
        raise refused(
            "a database that stays, such as sqlite:///studies/my.db", ", which is kept in memory"
        )
    if dialect.driver != "pysqlite":
        raise refused(f"{plain}, without a driver")
    other = url.host or url.username or url.port or "?" in storage or file.startswith("file:")
    if other or file.startswith("~"):  # which would be a folder of that name
        raise refused(f"{plain} and nothing else")
    path = Path(file)
    if "\0" in file or len(os.fsencode(path.name)) > _LONGEST_FILE:
        raise refused(f"a file name of at most {_LONGEST_FILE} bytes")
    return path


def _sqlite_url(database: str, **query: str) -> str:
    from sqlalchemy import URL

    url = URL.create("sqlite", database=database, query=query)
    return url.render_as_string(hide_password=False)


def check_directory(option: str, directory: Path) -> None:
    """Checks that files can be written in a directory, or that it can be made; makes nothing.

    Raises:
        StudyError: they cannot.
    """
    try:  # what the mode allows may still be impossible
        with tempfile.TemporaryFile(dir=nearest_there(directory)):
            pass
    except OSError as error:
        raise StudyError(
            f"{option}: expected a directory that can be written, got {directory}: {error.strerror}"
        ) from error


def nearest_there(directory: Path) -> Path:
    """The directory, or the nearest one above it that is there.

    Raises:
        OSError: it cannot be looked up, such as one with too long a name.
    """
    with suppress(FileNotFoundError):
        directory.lstat()
        return directory
    return nearest_there(directory.parent)


def default_study_name(
    dataset: str, limits: Limits, target: str | None = None, max_ms: float | None = None
) -> str:
    """Dataset and budget, such as ``cifar10-5M``; without one the other limits.

    For a device also its name and the limits that are not its own: ``cifar10-80k-stm32l4r5``,
    ``cifar10-stm32l4r5-arena-64k``. A limit of latency names what has no other:
    ``cifar10-latency-5ms``.
    """
    own = {} if target is None else DEVICES[target].maxima
    names = [] if target is None else [target]
    others = [
        f"{name.replace('_', '-')}-{COSTS[name].short(most)}"
        for name, most in limits.items()
        if name != "parameters" and own.get(COSTS[name].maximum) != most
    ]
    if "parameters" in limits:
        names.insert(0, short_count(limits["parameters"]))
    if "parameters" not in limits or target is not None:
        names += others
    if not limits and max_ms is not None:
        names.append(f"latency-{max_ms:.12g}ms")
    return "-".join([dataset, *names])


def folder_of(studies_dir: Path, location: StudyLocation) -> Path:
    """Where the files of a study lie; names in a server may hold any character."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", location.name).lstrip(".") or "_"
    return studies_dir / name


def checkpoints_folder(studies_dir: Path, location: StudyLocation) -> Path:
    """Where the checkpoints of running trials of a study lie."""
    return folder_of(studies_dir, location) / "checkpoints"
