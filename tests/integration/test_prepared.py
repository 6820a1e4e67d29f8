"""A prepared statement is prepared once a connection, and needs no thought of it."""

from collections.abc import Iterator

import pytest

from models.database import execute, fetch, reconnect, transaction
from models.prepared import Prepared

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

INSERT = Prepared("test_insert", ["text"], "INSERT INTO effect VALUES ($1) ON CONFLICT DO NOTHING")
LIKE = Prepared("test_like", ["text"], "SELECT key FROM effect WHERE key LIKE 'a%' || $1")


@pytest.fixture(autouse=True)
def table(database: str) -> Iterator[None]:
    execute("CREATE TABLE effect (key text PRIMARY KEY)")
    yield
    execute("DROP TABLE effect")


def prepared() -> int:
    [(count,)] = fetch("SELECT count(*) FROM pg_prepared_statements WHERE name ~ 'prepared_test'")
    return int(count)


def test_it_says_how_many_rows_and_which() -> None:
    assert [INSERT.execute("an apple"), INSERT.execute("an apple")] == [1, 0]
    assert LIKE.fetch("apple") == [("an apple",)]
    assert LIKE.fetch("100 %") == []
    assert prepared() == 2


def test_a_rollback_forgets_the_rows_and_not_the_statement() -> None:
    def insert_and_fail() -> None:
        with transaction():
            INSERT.execute("gone")
            raise LookupError

    with pytest.raises(LookupError):
        insert_and_fail()
    assert prepared() == 1
    with transaction():
        INSERT.execute("here")
    assert fetch("SELECT key FROM effect") == [("here",)]


def test_a_new_connection_prepares_again() -> None:
    INSERT.execute("first")
    reconnect()
    assert prepared() == 0
    INSERT.execute("second")
    assert fetch("SELECT count(*) FROM effect") == [(2,)]
