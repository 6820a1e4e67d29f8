"""Connections of the mock chain: one per thread at work, in autocommit mode, kept for reuse.

A connection failure becomes an outage of what the database stands for, and the next call
connects anew. A forked child starts without its parent's connections.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, badly named
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from domain.errors import Outage

# A process that was stopped in the middle of mining must not stop the chain for the others.
SESSION_OPTIONS = "-c idle_in_transaction_session_timeout=8000 -c statement_timeout=60000"


class Database:
    """A small pool. `unavailable` is the error that a failed connection is reported as."""

    connection_factory: type[Connection] = Connection

    def __init__(self, url: str, unavailable: type[Outage]) -> None:
        self.url = url
        self._unavailable = unavailable
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._pid = os.getpid()

    @contextmanager
    def session(self) -> Iterator[Cursor]:
        """A cursor outside any transaction. Raises the outage when the server is lost."""
        connection = self._take()
        try:
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            lost = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
            if not lost and not connection.closed:
                raise
            self.close()  # a server that restarted took the idle connections with it
            raise self._unavailable(f"no answer: {str(error).strip()}") from error
        finally:
            self._give_back(connection)

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A cursor inside a transaction of its own."""
        with self.session() as cursor, transaction(cursor):
            yield cursor

    def close(self) -> None:
        """Close every idle connection. The object can be used again."""
        with self._lock:
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        try:
            connection = psycopg2.connect(
                self.url,
                connect_timeout=5,
                application_name="overnight mock chain",
                options=SESSION_OPTIONS,
                connection_factory=self.connection_factory,
            )
        except psycopg2.OperationalError as error:
            raise self._unavailable(f"can't connect: {str(error).strip()}") from error
        connection.autocommit = True
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
            connection.close()  # a crash, simulated or not: the server rolls back
            return
        with self._lock:
            self._idle.append(connection)


@contextmanager
def transaction(cursor: Cursor) -> Iterator[None]:
    """BEGIN … COMMIT on an autocommit cursor; an ordinary exception rolls back."""
    cursor.execute("BEGIN")
    try:
        yield
    except Exception:
        if not cursor.connection.closed:
            cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")


def row_of(cursor: Cursor) -> tuple[Any, ...]:
    """The one row that the last statement must have returned."""
    row = cursor.fetchone()
    assert row is not None, cursor.query
    return row
