"""Many rows at once: COPY, and VALUES lists, in the open transaction."""

import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

import psycopg2
from peewee import InterfaceError, OperationalError
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named
from psycopg2.extras import execute_values

from models.database import db

#: What COPY's text format would read as something else.
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SPECIAL = re.compile(r"[\\\t\n\r]")


def copy_rows(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows into a table, in the open transaction; None becomes NULL.

    `rows` is read as it is sent, so it may be longer than memory.
    """
    lines = cast(TextIO, _Lines(rows))
    with _cursor() as cursor:
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", lines)


class _Lines(io.TextIOBase):
    """Rows as the file that psycopg2 reads: COPY's text format, a line each."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self._lines = ("\t".join(map(_field, row)) + "\n" for row in rows)
        self._rest = ""

    def read(self, size: int | None = -1, /) -> str:
        """`size` characters, or what is left."""
        wanted = sys.maxsize if size is None or size < 0 else size
        parts, length = [self._rest], len(self._rest)
        while length < wanted and (line := next(self._lines, None)) is not None:
            parts.append(line)
            length += len(line)
        text = "".join(parts)
        self._rest = text[wanted:]
        return text[:wanted]


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    text = str(value)
    return text if _SPECIAL.search(text) is None else _SPECIAL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES[found[0]]


def array_of(ids: Iterable[str]) -> str:
    """Ids as the text of a PostgreSQL array, for `%s::uuid[]`.

    A list would be sent as a constant each, and the server reads and casts every one by itself.
    """
    return "{" + ",".join(ids) + "}"


def change_rows(statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement with `VALUES %s` for many rows at once, in the open transaction."""
    with _cursor() as cursor:
        execute_values(cursor, statement, rows, page_size=len(rows))


@contextmanager
def _cursor() -> Iterator[Cursor]:
    """A cursor of the driver, whose connection errors look like those of every other statement."""
    try:
        with db.connection().cursor() as cursor:
            yield cursor
    except psycopg2.OperationalError as error:
        raise OperationalError(str(error)) from error
    except psycopg2.InterfaceError as error:
        raise InterfaceError(str(error)) from error
