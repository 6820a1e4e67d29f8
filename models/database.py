"""The one Peewee database: a connection per thread, explicit transactions, raw SQL beside models.

Locks of a stopped or cut-off process are freed by the server after 4 seconds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from peewee import InterfaceError, Model, OperationalError
from psycopg2.extensions import TRANSACTION_STATUS_INERROR

from models.compiled import CompilingDatabase

#: How long a transaction may sit idle before the server ends it: a frozen worker's locks. Half of
#: what a dead worker's job may take to be claimable: two frozen threads that want the same lock get
#: it one after the other. (lock_timeout is no help: it begins anew with each step of a wait.)
IDLE_IN_TRANSACTION_TIMEOUT_MS = 4_000

#: What a lost or refused connection looks like; see `reconnect`.
CONNECTION_ERRORS = (OperationalError, InterfaceError)

db: Any = CompilingDatabase(None)


class BaseModel(Model):
    """A table of this program."""

    class Meta:
        """All models share the one database."""

        database = db
        legacy_table_names = False

    @classmethod
    def get_by_id(cls, pk: object, lock: str = "") -> Self:
        """The row with this primary key, locked as "FOR UPDATE" or "FOR SHARE" say.

        As Peewee's, but its SQL is built once and not each time, which took longer than asking.
        Raises DoesNotExist.
        """
        model: Any = cls
        rows = fetch(f"{_select_by_key(cls)} {lock}", (model._meta.primary_key.db_value(pk),))
        if not rows:
            raise model.DoesNotExist(f"no {cls.__name__} {pk}")
        values = zip(model._meta.sorted_fields, rows[0], strict=True)
        found: Any = cls(__no_default__=1, **{f.name: f.python_value(v) for f, v in values})
        found._dirty.clear()
        return found  # type: ignore[no-any-return]


@cache
def _select_by_key(model: type[BaseModel]) -> str:
    meta: Any = model._meta
    columns = ", ".join(f'"{field.column_name}"' for field in meta.sorted_fields)
    key = meta.primary_key.column_name
    return f'SELECT {columns} FROM "{meta.table_name}" WHERE "{key}" = %s'  # noqa: S608


def connect_to(url: str, application_name: str = "overnight") -> None:
    """Point the program at a database; connections open lazily, one per thread."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/"):
        raise ValueError("DATABASE_URL must look like postgresql://user:password@host:5432/name")
    options = (
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
        " -c client_connection_check_interval=5000 -c timezone=UTC"
    )
    parameters: dict[str, Any] = {
        "host": unquote(parts.hostname or "127.0.0.1"),
        "port": parts.port or 5432,
        "user": unquote(parts.username or "postgres"),
        "password": unquote(parts.password or "") or None,
        "application_name": application_name,
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "options": options,
        **dict(parse_qsl(parts.query)),
    }
    db.init(unquote(parts.path.strip("/")), **parameters)


@contextmanager
def transaction() -> Iterator[None]:
    """One transaction, never nested: what is inside commits together or not at all.

    Raises:
        RuntimeError: one is open already, or a statement failed inside and its error was caught:
            PostgreSQL would answer COMMIT with ROLLBACK, and say nothing.
    """
    if db.in_transaction():
        raise RuntimeError("a transaction is already open in this thread")
    with db.atomic():
        yield
        if db.connection().info.transaction_status == TRANSACTION_STATUS_INERROR:
            raise RuntimeError("an error of the database was caught inside this transaction")


def fetch(sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows (empty for a statement without any)."""
    cursor = db.execute_sql(sql, params)
    rows = cursor.fetchall() if cursor.description else []
    cursor.close()
    return rows


def execute(sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> int:
    """Run one statement and return how many rows it touched."""
    cursor = db.execute_sql(sql, params)
    count: int = cursor.rowcount
    cursor.close()
    return count


def is_outage(error: BaseException) -> bool:
    """Whether a database error will pass by itself: it is lost or full, not wrong.

    A statement that exceeds a limit (SQLSTATE class 54) is an OperationalError too, and never will.
    """
    state = getattr(error.__context__, "pgcode", None) or ""
    return isinstance(error, CONNECTION_ERRORS) and not state.startswith("54")


def reconnect() -> None:
    """Drop this thread's connection, also a broken one; the next statement opens a fresh one."""
    if not db.is_closed():
        db.close()
