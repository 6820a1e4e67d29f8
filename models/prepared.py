"""Statements that each connection plans once: for bodies of small jobs that run by the thousand.

    INSERT = Prepared("effect", ["text"], "INSERT INTO effect VALUES ($1) ON CONFLICT DO NOTHING")
    INSERT.execute(key)

Planning a small statement takes the server about as long as running it.
"""

import threading
from collections.abc import Sequence
from typing import Any

from models.database import db, execute, fetch


class _Known(threading.local):
    """This thread's connection, and the names that it has prepared."""

    connection: object = None
    names: frozenset[str] = frozenset()


_known = _Known()


class Prepared:
    """One statement with `$1`, `$2`, …; in a transaction or alone, also after a lost connection.

    Its plan does not know the parameters: not for conditions that some values answer quickly and
    others slowly.
    """

    def __init__(self, name: str, types: Sequence[str], statement: str) -> None:
        self._name = f"prepared_{name}"
        self._prepare = f"PREPARE {self._name} ({', '.join(types)}) AS {statement}"
        self._run = f"EXECUTE {self._name} ({', '.join(['%s'] * len(types))})"

    def execute(self, *params: Any) -> int:
        """Run it and return how many rows it touched."""
        self._make_known()
        return execute(self._run, params)

    def fetch(self, *params: Any) -> list[tuple[Any, ...]]:
        """Run it and return its rows."""
        self._make_known()
        return fetch(self._run, params)

    def _make_known(self) -> None:
        connection = db.connection()
        if _known.connection is not connection:
            _known.connection, _known.names = connection, frozenset()
        if self._name not in _known.names:
            execute(self._prepare.replace("%", "%%"))  # outlives the transaction, rolled back too
            _known.names |= {self._name}
