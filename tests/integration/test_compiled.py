"""INSERTs whose SQL is remembered are those that Peewee would have sent."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest
from peewee import (
    SQL,
    BooleanField,
    CompositeKey,
    DateTimeField,
    ForeignKeyField,
    IntegerField,
    TextField,
    fn,
)
from playhouse.postgres_ext import BinaryJSONField

from models.database import BaseModel, db, execute, transaction

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class Plain(BaseModel):
    key = TextField(primary_key=True)
    b_number = IntegerField(column_name="number", null=True)
    a_flag = BooleanField(default=False)
    at = DateTimeField(null=True)


class Counted(BaseModel):
    plain = ForeignKeyField(Plain, null=True)
    extra = BinaryJSONField(null=True)
    made = TextField(default=lambda: "made")


class Pair(BaseModel):
    left = IntegerField()
    right = IntegerField()

    class Meta:
        primary_key = CompositeKey("left", "right")


@pytest.fixture(autouse=True)
def tables(database: str) -> Iterator[None]:
    db.create_tables([Plain, Counted, Pair])
    yield
    db.drop_tables([Counted, Pair, Plain])


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    """Every statement with its parameters."""
    statements: list[tuple[str, list[Any]]] = []
    execute_sql = db.execute_sql

    def note(sql: str, params: Any = None) -> Any:
        statements.append((sql, params))
        return execute_sql(sql, params)

    monkeypatch.setattr(db, "execute_sql", note)
    return statements


QUERIES: dict[str, Callable[[int], Any]] = {
    "all": lambda n: Plain.insert(key=f"k{n}", b_number=str(n), a_flag=1, at=NOON),
    "other order": lambda n: Plain.insert(a_flag=True, key=f"k{n}"),
    "a default": lambda n: Plain.insert(key=f"k{n}"),
    "null": lambda n: Plain.insert(key=f"k{n}", b_number=None, a_flag=False),
    "by column": lambda n: Plain.insert({Plain.key: f"k{n}", "number": n, "a_flag": False}),
    "an expression": lambda n: Plain.insert(key=fn.CONCAT("k", n), a_flag=False),
    "SQL": lambda n: Plain.insert(key=f"k{n}", a_flag=SQL("true")),
    "ignored": lambda n: Plain.insert(key="same", a_flag=False).on_conflict_ignore(),
    "with a target": lambda n: Plain.insert(key="same", a_flag=False).on_conflict(
        conflict_target=[Plain.key], action="ignore"
    ),
    "updated": lambda n: Plain.insert(key="same", a_flag=False).on_conflict(
        conflict_target=[Plain.key], update={Plain.b_number: n}
    ),
    "returning": lambda n: Plain.insert(key=f"k{n}", a_flag=False).returning(Plain.key, Plain.at),
    "rows": lambda n: Plain.insert(key=f"k{n}", a_flag=False).as_rowcount(),
    "many": lambda n: Plain.insert_many([{"key": f"k{n}", "a_flag": False}]),
    "a serial key": lambda n: Counted.insert(made=f"m{n}"),
    "JSON": lambda n: Counted.insert(made=f"m{n}", extra={"n": n}),
    "no JSON": lambda n: Counted.insert(made=f"m{n}", extra=None),
    "two columns of key": lambda n: Pair.insert(left=n, right=2),
    "a model": lambda n: Counted.insert(made="m", plain=Plain(key="other")),
}


@pytest.mark.parametrize("name", QUERIES)
def test_it_is_what_peewee_sends_and_answers(
    name: str, sent: list[tuple[str, list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Plain.insert(key="other").execute()
    make = QUERIES[name]
    answers: list[Any] = []
    sent.clear()
    for number in range(3):
        with db.atomic() as atomic:
            answers.append(answer(make(number)))
            atomic.rollback()
    ours = [each for each in sent if each[0].startswith("INSERT")]
    sent.clear()
    monkeypatch.setattr(type(db), "execute", peewee.Database.execute)
    monkeypatch.setattr(type(db), "last_insert_id", peewee.Database.last_insert_id)
    expected: list[Any] = []
    for number in range(3):
        with db.atomic() as atomic:
            expected.append(answer(make(number)))
            atomic.rollback()
    theirs = [each for each in sent if each[0].startswith("INSERT")]
    assert text(ours) == text(theirs)
    assert len(ours) == 3
    if name != "a serial key":  # a sequence goes on after a rollback
        assert [type(each) for each in answers] == [type(each) for each in expected]
    if name in ("all", "ignored", "two columns of key", "rows"):
        assert answers == expected


def answer(query: Any) -> Any:
    result = query.execute()
    if not isinstance(result, peewee.CursorWrapper):
        return result
    return [each if isinstance(each, tuple) else each.__data__ for each in result]


def text(statements: list[tuple[str, list[Any]]]) -> list[str]:
    with db.connection().cursor() as cursor:
        return [cursor.mogrify(sql, params).decode() for sql, params in statements]


def test_an_ignored_conflict_has_no_key() -> None:
    query = Plain.insert(key="once", a_flag=False).on_conflict_ignore()
    assert query.execute() == "once"
    assert query.clone().execute() is None


def test_plain_inserts_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Plain.insert(key="first", a_flag=False).execute()
    monkeypatch.setattr(db, "get_sql_context", None)
    with transaction():
        assert Plain.insert(key="second", a_flag=True).execute() == "second"


def test_another_schema_is_another_statement() -> None:
    execute("CREATE SCHEMA other")
    execute("CREATE TABLE other.plain (LIKE plain INCLUDING ALL)")
    Plain.insert(key="here", a_flag=False).execute()
    Plain._meta.schema = "other"
    try:
        Plain.insert(key="there", a_flag=False).execute()
        assert [row.key for row in Plain.select()] == ["there"]
    finally:
        Plain._meta.schema = None
        execute("DROP SCHEMA other CASCADE")
