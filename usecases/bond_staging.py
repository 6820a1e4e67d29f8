"""A register of any size in bounded memory: rows go to a temporary table as they are read.

    rows → COPY in batches → checks across rows in SQL → digest as a stream → bond's own tables

Finds exactly what `domain.bond_register.Register` finds, in the same words and order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from domain.bond_register import (
    Amounts,
    BondTerms,
    ContentDigest,
    Details,
    Entry,
    Investor,
    Problem,
    contradiction,
    repeated,
)
from models.bulk import copy_rows
from models.database import execute, fetch

#: Rows that are held in memory, reading and writing.
BATCH_ROWS = 5_000

_COLUMNS = ("line", "address", "whitelisted", "name", "email", "token_id", "balance")

_CREATE = """
CREATE TEMP TABLE bond_row (
    line bigint, address text COLLATE "C", whitelisted boolean, name text, email text,
    token_id bigint, balance numeric)
"""

#: Rows that say otherwise than the first row of their address.
_CONTRADICTIONS = """
SELECT line, first_line, whitelisted, was_whitelisted, name, was_name, email, was_email FROM (
    SELECT r.*, first_value(line) OVER w AS first_line,
           first_value(whitelisted) OVER w AS was_whitelisted,
           first_value(name) OVER w AS was_name, first_value(email) OVER w AS was_email
    FROM bond_row r WINDOW w AS (PARTITION BY address ORDER BY line)) rows
WHERE whitelisted <> was_whitelisted OR name <> was_name OR email <> was_email
ORDER BY line
"""

_REPEATED = """
SELECT line, first_line, address, token_id FROM (
    SELECT line, address, token_id, first_value(line) OVER w AS first_line,
           row_number() OVER w AS nth
    FROM bond_row WHERE token_id IS NOT NULL
    WINDOW w AS (PARTITION BY address, token_id ORDER BY line)) rows
WHERE nth > 1 ORDER BY line
"""

_SUMS = """
SELECT address, coalesce(sum(balance) FILTER (WHERE nth = 1 AND token_id IS NOT NULL), 0),
       bool_and(token_id IS NOT NULL AND balance IS NOT NULL), min(line)
FROM (SELECT r.*, row_number() OVER (PARTITION BY address, token_id ORDER BY line) AS nth
      FROM bond_row r) rows
GROUP BY address ORDER BY min(line)
"""

_CONTENT = """
SELECT address, name, email, whitelisted, token_id, balance
FROM bond_row ORDER BY address, token_id
"""

_STORE = (
    "INSERT INTO bond_investor (bond_id, address, name, email, whitelisted)"
    " SELECT DISTINCT ON (address) %s, address, name, email, whitelisted FROM bond_row"
    " ORDER BY address",
    "INSERT INTO bond_holding (bond_id, address, token_id, balance)"
    " SELECT %s, address, token_id, balance FROM bond_row ORDER BY address, token_id",
)


@contextmanager
def staging() -> "Iterator[StagedRegister]":
    """An empty staged register on this thread's connection, gone at the end."""
    execute(_CREATE)
    try:
        yield StagedRegister()
    finally:
        execute("DROP TABLE IF EXISTS bond_row")


class StagedRegister:
    """Implements `domain.bond_register.HolderSink`; problems are the only thing that it keeps."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._rows: list[tuple[Any, ...]] = []

    def investor(self, details: Details, place: str, line: int | None = None) -> Entry | None:
        """What the row says of its holder; None when there is no valid address."""
        return None if details.address is None else Entry(details, place, line)

    def holding(
        self,
        entry: Entry,
        token_id: int | None,
        balance: int | None,
        place: str,
        line: int | None = None,
    ) -> None:
        """Stage the row; None is a field that was wrong and is reported already."""
        who = entry.details
        row = (line, who.address, who.whitelisted, who.name, who.email, token_id, balance)
        self._rows.append(row)
        if len(self._rows) >= BATCH_ROWS:
            self._flush()

    def check(self, terms: BondTerms | None) -> list[Problem]:
        """All problems, as `Register.close` would raise them; in an open transaction."""
        self._flush()
        execute("ANALYZE bond_row")
        apart = [each for each in self.problems if each.line is None]
        of_rows = [each for each in self.problems if each.line is not None]
        across = [*_contradictions(), *_repetitions()]
        of_rows = sorted([*of_rows, *across], key=lambda each: each.line or 0)
        found = [*apart, *of_rows]
        return found + (list(_amounts(terms)) if terms else [])

    def store(self, bond_id: str) -> None:
        """Write what was staged into the bond's own tables, in the open transaction."""
        for statement in _STORE:
            execute(statement, (bond_id,))

    def _flush(self) -> None:
        copy_rows("bond_row", _COLUMNS, self._rows)
        self._rows.clear()


def digest_of(terms: BondTerms) -> str:
    """The content's digest, as `BondFile.digest` computes it; in an open transaction."""
    content = ContentDigest(terms)
    for investor in investors(_CONTENT, ()):
        content.add(investor)
    return content.hexdigest()


def totals() -> tuple[int, int]:
    """How many holders were staged, and how many tokens they have."""
    [(holders, tokens)] = fetch(
        "SELECT count(DISTINCT address), coalesce(sum(balance), 0) FROM bond_row"
    )
    return int(holders), int(tokens)


def investors(sql: str, params: tuple[object, ...]) -> Iterator[Investor]:
    """Rows of (address, name, email, whitelisted, token_id, balance), in order, as investors."""
    for (address, name, email, listed), rows in groupby(stream(sql, params), lambda r: r[:4]):
        holdings = tuple((int(row[4]), int(row[5])) for row in rows)
        yield Investor(address, name, email, listed, holdings)


def stream(sql: str, params: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows of a query through a cursor of the server, in an open transaction."""
    execute(f"DECLARE bond_stream NO SCROLL CURSOR FOR {sql}", params)
    while rows := fetch(f"FETCH {BATCH_ROWS} FROM bond_stream"):
        yield from rows
    execute("CLOSE bond_stream")


def _contradictions() -> Iterator[Problem]:
    names = ("whitelisted", "name", "email")
    for line, first, *pairs in stream(_CONTRADICTIONS):
        for name, now, before in zip(names, pairs[::2], pairs[1::2], strict=True):
            if now is not None and before is not None and now != before:
                yield contradiction(name, now, before, f"line {first}", line)


def _repetitions() -> Iterator[Problem]:
    for line, first, address, token_id in stream(_REPEATED):
        yield repeated("token_id", address, int(token_id), f"line {first}", line)


def _amounts(terms: BondTerms) -> Iterator[Problem]:
    amounts = Amounts(terms)
    for address, tokens, whole, line in stream(_SUMS):
        if problem := amounts.holder(address, int(tokens), whole, f"line {line}", line):
            yield problem
    if problem := amounts.bond():
        yield problem
