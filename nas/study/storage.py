"""How a study's database is reached, with errors a person can act on."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from nas.runtime import signals
from nas.study.location import NoStudy, StudyError, StudyGone, StudyLocation
from nas.study.optuna_private import (
    PARTS_OF_TRIALS,
    STUDIES,
    TRIALS,
    WRITTEN_LAST,
    StudyStorage,
)

_CREATIONS = 20  # attempts to make the tables of a server that others are making, too
SQLITE_TIMEOUT = 60  # seconds to wait for another process's write
STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError, sqlite3.Error)
"""What a database may raise in the middle of a search."""


def complete_storage(location: StudyLocation) -> StudyStorage:
    """A complete database, to be read; Optuna would complete another one."""
    connect = {"timeout": SQLITE_TIMEOUT} if location.path is not None else {}
    engine = sqlalchemy.create_engine(location.engine_url, connect_args=connect)
    try:
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection)
            for name in WRITTEN_LAST:
                rows = sqlalchemy.select(sqlalchemy.func.count()).select_from(
                    sqlalchemy.table(name)
                )
                if not tables.has_table(name) or not connection.execute(rows).scalar():
                    raise no_study_yet(location)
    finally:
        engine.dispose()
    return StudyStorage(
        location.engine_url, engine_kwargs={"connect_args": connect}, skip_table_creation=True
    )


def writable_storage(location: StudyLocation) -> StudyStorage:
    """A database to be written, completed if need be."""
    return _sqlite(location) if location.path is not None else _server(location)


def _sqlite(location: StudyLocation) -> StudyStorage:
    storage = StudyStorage(
        location.engine_url, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT}}
    )
    _remove_leftovers(storage.engine)

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def without_waiting_for_the_disk(connection: sqlite3.Connection, record: object) -> None:
        # In WAL mode only: a power failure may undo the last writes, never harm the file.
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # the next connection is a new one
    return storage


def _remove_leftovers(engine: sqlalchemy.Engine) -> None:
    """Removes the rows of deleted trials whose ids SQLite gives away again."""
    newest = sqlalchemy.select(sqlalchemy.func.coalesce(sqlalchemy.func.max(TRIALS.c.trial_id), 0))
    with engine.begin() as connection:
        for table in PARTS_OF_TRIALS:
            left = table.c.trial_id > newest.scalar_subquery()
            if connection.execute(sqlalchemy.select(table.c.trial_id).where(left).limit(1)).first():
                connection.execute(table.delete().where(left))


def _server(location: StudyLocation) -> StudyStorage:
    for attempt in range(_CREATIONS):
        try:
            storage = StudyStorage(location.url)
        except STORAGE_ERRORS as error:
            made_by_another = any(word in str(error).lower() for word in ("exist", "duplicate"))
            if not made_by_another or attempt == _CREATIONS - 1:
                raise
            signals.sleep(0.1)
        else:
            return _without_the_stopped(storage)
    raise AssertionError("the last attempt returns or raises")


def _without_the_stopped(storage: StudyStorage) -> StudyStorage:
    """A storage whose locks go from a process that is stopped (SIGSTOP, a machine that sleeps)."""
    if storage.engine.dialect.name == "postgresql":

        @sqlalchemy.event.listens_for(storage.engine, "connect")
        def ends_idle_transactions(connection: Any, record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
            cursor.close()
            connection.commit()

        storage.engine.dispose()  # the next connection is a new one
    return storage


def no_study_yet(location: StudyLocation) -> NoStudy:
    """The error of a study whose search has only just begun."""
    return NoStudy(
        f"{location}: expected a study, got a database where it does not exist yet; run a search, "
        "or try again in a moment if one has just started"
    )


def stored_name(location: StudyLocation, storage: RDBStorage) -> str | None:
    """What Optuna calls the study at this place; None where it is not made yet.

    A file in --studies-dir is the one study in it, also when it was copied or renamed.

    Raises:
        StudyError: there are several in the file, and none is called like it.
    """
    names = study_names(storage)
    if location.name in names:
        return location.name
    if location.storage is not None or not names:
        return None
    if len(names) > 1:
        raise StudyError(
            f"{location}: expected one study in the file, or one named {location.name!r}, got "
            f"{', '.join(map(repr, names))}; give --storage {location.url} with --study"
        )
    return names[0]


def study_names(storage: RDBStorage) -> list[str]:
    """All studies of a database, in the order in which they were made."""
    with storage.engine.connect() as connection:
        query = sqlalchemy.select(STUDIES.c.study_name).order_by(STUDIES.c.study_id)
        return list(connection.execute(query).scalars())


@contextmanager
def storage_errors(location: StudyLocation) -> Iterator[None]:
    """Turns what opening a storage raises into one line that says what to do."""
    try:
        yield
    except (StudyError, StudyGone):
        raise
    except ImportError as error:
        raise StudyError(
            f"{location}: expected an installed driver for this database, got {first_line(error)}; "
            "install it with pip, such as 'psycopg[binary]' for PostgreSQL"
        ) from error
    except ArgumentError as error:
        reason = first_line(error).replace(location.url, str(location))
        raise StudyError(
            f"--storage: expected a database URL such as sqlite:///studies/my.db, "
            f"got {location}: {reason}"
        ) from error
    except (LookupError, ValueError) as error:  # of SQLAlchemy, Optuna or JSON at damaged rows
        raise StudyError(
            f"{location}: expected a study that can be read, got a damaged one "
            f"({first_line(error)}); restore a copy of it"
        ) from error
    except (*STORAGE_ERRORS, RuntimeError, OSError) as error:
        reason = first_line(error)
        if isinstance(error, RuntimeError) and "table schema" in reason:
            # a URL may have a password
            url = "URL" if location.path is None else shlex.quote(location.url)
            got = (
                f"older ones; run: optuna storage upgrade --storage {url}"
                if "optuna storage upgrade" in reason
                else "newer ones; update nas, and Optuna with it"
            )
            raise StudyError(
                f"{location}: expected the tables of Optuna {optuna.__version__}, got {got}"
            ) from error
        advice = (
            "restore a copy of it"
            if "malformed" in str(error)
            else "check that it is there and may be written"
        )
        raise StudyError(
            f"{location}: expected a database that can be opened, got {reason}; {advice}"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error, or of the database's error behind it."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return (
        str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    ).splitlines()[0]
