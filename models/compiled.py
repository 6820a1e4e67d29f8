"""Peewee's INSERTs of one row, compiled once for each shape: compiling took longer than running.

    Model.insert(…).execute() → shape (model, columns, conflict) → known SQL → db_value(…)

What is no such plain INSERT goes Peewee's own way, each time.
"""

from typing import Any, NamedTuple

import peewee
from peewee import Field, Insert, Model, ModelTupleCursorWrapper, Node

ModelInsert: Any = peewee.ModelInsert  # what we look at it keeps to itself
PostgresqlDatabase: Any = peewee.PostgresqlDatabase

#: Programs have some dozens of shapes; one that makes them up as it goes would fill the memory.
_SHAPES_MAX = 1_000

#: What an ON CONFLICT DO NOTHING without a target consists of.
_IGNORE = vars(peewee.OnConflict("IGNORE"))


class _Compiled(NamedTuple):
    sql: str
    fields: list[Any]  # in the order of its parameters


class CompilingDatabase(PostgresqlDatabase):  # type: ignore[misc]
    """PostgreSQL through Peewee, which remembers the SQL of plain INSERTs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._compiled: dict[tuple[object, ...], _Compiled] = {}
        super().__init__(*args, **kwargs)

    def execute(self, query: Any, **context_options: Any) -> Any:
        """Run a query; its SQL and parameters are always those that Peewee makes of it."""
        shape = None if context_options else _shape(query)
        if shape is None:
            return super().execute(query, **context_options)
        known = self._compiled.get(shape)
        params = None if known is None else _params(query, known.fields)
        if known is None or params is None:
            return self.execute_sql(*self._compile(query, shape))
        return self.execute_sql(known.sql, params)

    def last_insert_id(self, cursor: Any, query_type: Any = None) -> Any:
        """The key of the inserted row, None where a conflict was ignored: as Peewee answers it.

        A key of one column needs no look at what columns came back.
        """
        if query_type != Insert.SIMPLE or type(cursor) is not ModelTupleCursorWrapper:
            return super().last_insert_id(cursor, query_type)
        if cursor.populated or len(cursor.select) != 1 or not isinstance(cursor.select[0], Field):
            return super().last_insert_id(cursor, query_type)
        row = cursor.cursor.fetchone()
        cursor.cursor.close()
        return None if row is None else cursor.select[0].python_value(row[0])

    def _compile(self, query: Any, shape: tuple[object, ...]) -> tuple[str, list[Any]]:
        """What Peewee makes of it, and remember that if each column is simply one parameter."""
        context = self.get_sql_context()
        sql, params = context.sql(query).query()
        fields = sorted(query._insert, key=lambda field: field.get_sort_key(context))
        if _params(query, fields) == params:
            if len(self._compiled) >= _SHAPES_MAX:
                self._compiled.clear()
            self._compiled[shape] = _Compiled(sql, fields)
        return sql, params


def _shape(query: Any) -> tuple[object, ...] | None:
    """What decides the SQL, all but the values; None: not one that is remembered."""
    if type(query) is not ModelInsert or type(query._insert) is not dict:
        return None
    if query._columns is not None or query._cte_list is not None or not query._insert:
        return None
    conflict = query._on_conflict
    if conflict is not None and vars(conflict) != _IGNORE:
        return None
    meta = query.model._meta
    if not meta.defaults.keys() <= query._insert.keys():
        return None
    returning = query._returning or ()
    for column in (*query._insert, *returning):
        if not isinstance(column, Field) or column.model is not query.model:
            return None
    return (
        query.model,
        meta.schema,
        meta.table_name,
        conflict is None,
        *map(id, query._insert),  # the model keeps its fields
        None,
        *map(id, returning),
    )


def _params(query: Any, fields: list[Any]) -> list[Any] | None:
    """The parameters, as `Value` would convert them; None: a value that is SQL of its own."""
    params = []
    for field in fields:
        given = query._insert[field]
        if isinstance(given, Node | Model):
            return None
        value = field.db_value(given)
        if isinstance(value, Node):
            return None
        params.append(value)
    return params
