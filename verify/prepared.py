"""Prepared statements: the production's own SQL, planned once a connection and not at every call.

    (sql, params) → PREPARE with the types that psycopg2's literals have → EXECUTE

Planning is most of what a small statement costs. What the server cannot prepare runs as it is: it
is tried once, on a connection of its own, where its error harms nobody.

A BEGIN travels with the statement after it: PostgreSQL sees both in the same order, and a
transaction in which nothing is said is none.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, Binary
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, badly named
from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: What the literal of a Python value is to PostgreSQL; texts, None and lists are of no type yet.
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "bigint"),
    (float, "numeric"),
    (Decimal, "numeric"),
    (timedelta, "interval"),
    (datetime, "timestamptz"),
    (date, "date"),
    (Binary, "bytea"),
)

_PLACEHOLDER = re.compile(r"%%|%s|%\((\w+)\)s")
_PREPARABLE = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b")


class Prepared:
    """One statement with one set of types."""

    def __init__(self, name: str, sql: str, names: list[str | int], types: list[str]) -> None:
        self.name, self.names = name, names
        declared = f" ({', '.join(types)})" if types else ""
        self.prepare = f"PREPARE {name}{declared} AS {sql}"
        self.execute = f"EXECUTE {name}"

    def arguments(self, params: Any) -> list[Any]:
        """The values in the order of the placeholders."""
        return [params[name] for name in self.names]


class Plans:
    """What can be prepared, learnt once for all connections of a process."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url, application_name="overnight verify plans")
        self._connection.autocommit = True
        self._known: dict[tuple[str, tuple[str, ...]], Prepared | None] = {}
        self._split: dict[str, tuple[str, list[str | int]] | None] = {}

    def close(self) -> None:
        """Close the connection on which statements are tried."""
        self._connection.close()

    def find(self, sql: str, params: Any) -> Prepared | None:
        """The prepared form of a statement for these values; None to run it as it is."""
        if sql not in self._split:
            self._split[sql] = _split(sql, isinstance(params, Mapping))
        split = self._split[sql]
        if split is None:
            return None
        text, names = split
        types = tuple([_type_of(params[name]) for name in names])
        key = (sql, types)
        if key not in self._known:
            self._known[key] = self._try(text, names, list(types))
        return self._known[key]

    def _try(self, text: str, names: list[str | int], types: list[str]) -> Prepared | None:
        found = Prepared(f"p{len(self._known)}", text, names, types)
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(found.prepare)
            except psycopg2.Error:
                return None
            cursor.execute(
                "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s",
                (found.name,),
            )
            [(inferred,)] = cursor.fetchall()
        if names:
            found.execute += f" ({', '.join(f'%s::{each}' for each in inferred)})"
        return found


def _split(sql: str, named: bool) -> tuple[str, list[str | int]] | None:
    """The text with $1, $2, … and what each of them is called; None for what can't be prepared."""
    if not _PREPARABLE.match(sql) or ";" in sql:
        return None
    names: list[str | int] = []

    def place(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        names.append(found[1] if named else len(names))
        return f"${len(names)}"

    return _PLACEHOLDER.sub(place, sql), names


_known_types: dict[type, str] = {}


def _type_of(value: Any) -> str:
    kind = type(value)
    found = _known_types.get(kind)
    if found is None:
        found = next((name for base, name in _TYPES if issubclass(kind, base)), "unknown")
        _known_types[kind] = found
    return found


class PreparedConnection(Connection):
    """A connection that remembers what it has prepared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = PreparedCursor
        self._prepared: set[str] = set()
        self.begins = False  # a transaction has begun, and the server does not know it yet

    def missing(self, wanted: Prepared) -> bool:
        """Whether it must be prepared first; from now on it is."""
        if wanted.name in self._prepared:
            return False
        self._prepared.add(wanted.name)
        return True


class PreparedCursor(Cursor):
    """Runs as a prepared statement what can be one."""

    connection: PreparedConnection
    #: Shared by all connections of this process; None: everything runs as it is.
    plans: Plans | None = None

    def execute(self, sql: Any, params: Any = None) -> None:
        """One statement, prepared where that is possible, behind a BEGIN that waits for it."""
        plans = PreparedCursor.plans
        if plans is None:
            super().execute(sql, params)
            return
        connection = self.connection
        if not isinstance(sql, str):
            self._begin()
            super().execute(sql, params)
            return
        if sql == "BEGIN" and not connection.begins:
            connection.begins = True
            return
        if connection.begins and sql in ("COMMIT", "ROLLBACK"):
            connection.begins = False
            return
        prepared = plans.find(sql, params or ())
        if prepared is not None:
            if connection.missing(prepared):
                super().execute(prepared.prepare)
            sql, params = prepared.execute, prepared.arguments(params)
        if not connection.begins:
            super().execute(sql, params)
            return
        try:
            super().execute(f"BEGIN; {sql}", params)
        finally:  # a statement that was never sent leaves it waiting
            connection.begins = connection.get_transaction_status() == TRANSACTION_STATUS_IDLE

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """COPY, which nothing can travel with."""
        self._begin()
        super().copy_expert(sql, file, size)

    def _begin(self) -> None:
        if self.connection.begins:
            self.connection.begins = False
            super().execute("BEGIN")
