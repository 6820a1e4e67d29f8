"""The database as the queue relies on it: what a transaction keeps, and which errors pass."""

import contextlib

import pytest
from peewee import OperationalError, PeeweeException

from models.database import execute, fetch, is_outage, reconnect, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]


def test_a_caught_error_of_the_database_can_not_pass_for_a_commit() -> None:
    execute("CREATE TABLE kept (n int)")

    def careless() -> None:
        with transaction():
            execute("INSERT INTO kept VALUES (1)")
            with contextlib.suppress(PeeweeException):
                execute("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="caught inside"):
        careless()
    assert fetch("SELECT count(*) FROM kept") == [(0,)]
    with transaction():
        execute("INSERT INTO kept VALUES (2)")
    assert fetch("SELECT n FROM kept") == [(2,)]


def test_a_statement_beyond_a_limit_is_no_outage() -> None:
    with pytest.raises(OperationalError) as error:
        fetch("SELECT repeat('x', 1100000000)")
    assert not is_outage(error.value)


def test_a_connection_that_the_server_ended_is_an_outage() -> None:
    with pytest.raises(PeeweeException) as error:
        fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_outage(error.value)
    reconnect()
    assert fetch("SELECT 1") == [(1,)]
