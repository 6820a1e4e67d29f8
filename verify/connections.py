"""Connections of the simulated processes: every statement and every commit is a point.

    Peewee → SimulatedCursor.execute → (cut | crash | pause) → PostgreSQL → (cut | crash | pause)

A commit is COMMIT, or a statement that writes outside of any transaction. A connection that is cut
is shut down at its socket, and the server's process is seen to end before anything else happens:
what it had locked is free at the same point of every replay.
"""

import contextlib
import re
import socket
import threading
import time
from typing import Any, Protocol

import psycopg2
from psycopg2 import OperationalError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, badly named
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from verify.prepared import PreparedConnection, PreparedCursor
from verify.strands import Broken, Strand, here

#: What a statement without a transaction around it must contain to change anything.
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|TRUNCATE)\b")

#: How long a server process may take to notice that its client is gone.
_GONE_WITHIN_S = 30.0

#: How long a server may be too full for one more connection.
_CONNECTED_WITHIN_S = 30.0


class Points(Protocol):
    """Where the scheduler decides what happens. Any of them may raise Crash, or cut."""

    def statement(self, strand: Strand, connection: "SimulatedConnection") -> None:
        """Before a statement that does not commit."""

    def before_commit(self, strand: Strand, connection: "SimulatedConnection") -> None:
        """Before COMMIT, or a write on its own."""

    def after_commit(self, strand: Strand, connection: "SimulatedConnection") -> None:
        """It is committed, and nobody has heard of it yet."""


class Monitor:
    """The scheduler's own eyes inside PostgreSQL. Implements `verify.strands.LockManager`.

    On a busy machine the scheduler may look for a lock while the strand is cutting a connection.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url, application_name="overnight verify monitor")
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self._one_at_a_time = threading.Lock()

    def blockers_of(self, backend_pid: int) -> list[int]:
        """The backends that keep this one waiting; empty while it does not wait."""
        [(pids,)] = self._ask("SELECT pg_blocking_pids(%s)", backend_pid)
        return list(pids)

    def await_end(self, backend_pid: int) -> None:
        """Return when the server process is gone, and its locks with it."""
        self._ask("SELECT pg_terminate_backend(%s)", backend_pid)
        give_up_at = time.monotonic() + _GONE_WITHIN_S
        while time.monotonic() < give_up_at:
            if not self._ask("SELECT 1 FROM pg_stat_get_activity(%s)", backend_pid):
                return
            time.sleep(0.0002)
        raise RuntimeError(f"the server process {backend_pid} outlives its connection")

    def _ask(self, sql: str, backend_pid: int) -> list[tuple[Any, ...]]:
        with self._one_at_a_time:
            self._cursor.execute(sql, (backend_pid,))
            return self._cursor.fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Switchboard:
    """What the connections of this process ask; set for the length of a schedule."""

    def __init__(self) -> None:
        self.points: Points | None = None
        self.monitor: Monitor | None = None
        self.parked: list[SimulatedConnection] = []


switchboard = Switchboard()


class SimulatedConnection(PreparedConnection):
    """A connection of one strand. Outside of a schedule it is an ordinary one.

    Cutting it does to the server what a lost client does: the transaction is rolled back and every
    lock is free. A hard cut gets there through the socket; a soft one keeps the server's process,
    which costs as much as twenty schedules' statements to make and to warm up anew.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = SimulatedCursor
        self.in_transaction = self.is_cut = self._is_lost = False
        self.pid = self.info.backend_pid

    @classmethod
    def open(cls, *args: Any, **kwargs: Any) -> "SimulatedConnection":
        """What psycopg2.connect calls: one that was closed before, or a new one."""
        if here.strand is None or switchboard.points is None:
            return cls(*args, **kwargs)
        here.strand.check_alive()
        if not switchboard.parked:
            return cls._insist(*args, **kwargs)
        found = switchboard.parked.pop()
        found.is_cut = False
        return found

    @classmethod
    def _insist(cls, *args: Any, **kwargs: Any) -> "SimulatedConnection":
        """A real refusal is no event of the schedule: a busy server must not change a replay."""
        give_up_at = time.monotonic() + _CONNECTED_WITHIN_S
        while True:
            try:
                return cls(*args, **kwargs)
            except OperationalError as error:
                if time.monotonic() > give_up_at:
                    raise Broken(f"PostgreSQL refuses connections: {error}") from error
                time.sleep(0.1)

    def close(self) -> None:
        """Park it for the next strand that connects; a lost one is closed."""
        if switchboard.points is None or self._is_lost or here.strand is None:
            super().close()
            return
        self._clear()
        switchboard.parked.append(self)

    def cut(self, *, hard: bool) -> None:
        """End it without a word. When this returns, the server has freed what it had locked."""
        if self.is_cut:
            return
        self.is_cut = True
        if not hard:
            self._clear()
            return
        self._is_lost = True
        raw = socket.socket(fileno=socket.dup(self.fileno()))
        with contextlib.suppress(OSError):  # the server was faster
            raw.shutdown(socket.SHUT_RDWR)
        raw.close()
        assert switchboard.monitor is not None
        switchboard.monitor.await_end(self.pid)

    def _clear(self) -> None:
        """A session as new: no transaction, no lock, no setting."""
        with Connection.cursor(self, cursor_factory=Cursor) as cursor:
            if self.info.transaction_status != TRANSACTION_STATUS_IDLE:
                cursor.execute("ROLLBACK")
            cursor.execute("SELECT pg_advisory_unlock_all(); RESET idle_session_timeout")
        self.in_transaction = self.begins = False


class SimulatedCursor(PreparedCursor):
    """A cursor whose every statement is a point."""

    connection: SimulatedConnection

    def execute(self, sql: Any, params: Any = None) -> None:
        """Run one statement, with what may happen before and after it."""
        strand, points = here.strand, switchboard.points
        if strand is None or points is None:
            super().execute(sql, params)
            return
        strand.check_alive()
        connection = self.connection
        strand.connection = connection
        if connection.is_cut:
            raise lost("it was cut")
        text = sql if isinstance(sql, str) else bytes(sql).decode()
        commits = text == "COMMIT" or (not connection.in_transaction and _writes(text))
        if commits:
            points.before_commit(strand, connection)
        elif text != "ROLLBACK":
            points.statement(strand, connection)
        if connection.is_cut:
            raise lost("it was cut")
        strand.begin_statement()
        try:
            super().execute(sql, params)
        finally:
            strand.end_statement()
        if text == "BEGIN":
            connection.in_transaction = True
        elif text in ("COMMIT", "ROLLBACK"):
            connection.in_transaction = False
        if commits:
            points.after_commit(strand, connection)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """COPY, always inside a transaction."""
        strand = here.strand
        if strand is None or switchboard.points is None:
            super().copy_expert(sql, file, size)
            return
        strand.check_alive()
        strand.begin_statement()
        try:
            super().copy_expert(sql, file, size)
        finally:
            strand.end_statement()


_known: dict[str, bool] = {}


def _writes(sql: str) -> bool:
    found = _known.get(sql)
    if found is None:
        found = _known[sql] = bool(_WRITES.search(sql))
        if len(_known) > 10_000:  # literals in the text: never ours
            _known.clear()
    return found


def lost(why: str) -> OperationalError:
    """What a client sees when its connection is gone."""
    return OperationalError(f"server closed the connection unexpectedly ({why})")
