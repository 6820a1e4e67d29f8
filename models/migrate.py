"""Bring a database to the newest schema: create it if missing, then apply what is pending."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql
from psycopg2.errors import DuplicateDatabase, UniqueViolation

from models.database import connect_to, db, fetch, reconnect

MIGRATIONS = Path(__file__).parent / "migrations"

#: Serialises two `overnight migrate` at once. Any constant of our own would do.
_LOCK_KEY = 0x0E41_6876


def ensure_database(url: str) -> bool:
    """Create the database that `url` names, if its server lacks it. True when it was created."""
    parts = urlsplit(url)
    name = parts.path.strip("/")
    try:
        psycopg2.connect(url, connect_timeout=5).close()
        return False
    except psycopg2.OperationalError as error:
        if "does not exist" not in str(error):
            raise
    server = psycopg2.connect(urlunsplit(parts._replace(path="/postgres")), connect_timeout=5)
    try:
        server.autocommit = True
        server.cursor().execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (DuplicateDatabase, UniqueViolation):
        return False
    finally:
        server.close()
    return True


def migrate(url: str) -> list[str]:
    """Apply the pending migrations, each in its transaction; returns their names.

    Points the program's database at `url`, and leaves this thread's connection closed.
    """
    from playhouse.migrations import Runner

    ensure_database(url)
    connect_to(url, "overnight migrate")
    try:
        fetch("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        return list(Runner(db, str(MIGRATIONS)).up())
    finally:
        reconnect()
