"""Bonds and their registers: import a file whole or not at all, list, show.

file → lock by bond id → same digest: nothing; planned: refused; else replaced → COPY

bond.json is read whole; holders as CSV are a stream that needs no more memory when it is longer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from domain.bond_csv import read_holders
from domain.bond_file import BadBondFile, BondFile, read_bond_file, read_terms
from domain.bond_register import BondTerms
from domain.errors import NotFound, Rejected
from models.bulk import copy_rows
from models.database import execute, fetch, transaction
from usecases.bond_staging import digest_of, investors, staging, totals

Outcome = Literal["imported", "replaced", "unchanged"]


@dataclass(frozen=True)
class Imported:
    """What an import did, and to what."""

    outcome: Outcome
    digest: str
    terms: BondTerms
    holders: int
    tokens: int

    @property
    def file(self) -> BondFile:
        """The bond as it now stands in the database, whole in memory."""
        return stored_file(self.terms)


@dataclass(frozen=True)
class BondSummary:
    """A bond in a list. `total` is what it pays at maturity, in payment tokens."""

    id: str
    name: str
    maturity_date: date
    token: str
    holders: int
    whitelisted: int
    tokens: int
    total: Decimal
    run_id: str | None  # the newest
    run_state: str | None


@dataclass(frozen=True)
class BondRun:
    """A payout run of a bond."""

    id: str
    kind: str
    state: str
    triggered_at: datetime


@dataclass(frozen=True)
class BondDetail:
    """A bond, its terms and its runs, newest first."""

    summary: BondSummary
    runs: tuple[BondRun, ...]
    contract: str
    token_decimals: int
    face_value_per_token: Decimal
    file_digest: str
    imported_at: datetime
    matured: bool  # by the database's date


@dataclass(frozen=True)
class Holder:
    """A row of the register."""

    address: str
    name: str
    email: str
    whitelisted: bool  # as the file said; the identity registry decides
    tokens: int
    holdings: tuple[tuple[int, int], ...]  # (token_id, balance)


def import_bond(text: str, holders: Iterable[str] | None = None) -> Imported:
    """Read bond.json (and the lines of a CSV of holders) and store it, whole or not at all.

    Raises BadBondFile with every problem, and Rejected when the content changed after a plan.
    """
    if holders is not None:
        return _import_streamed(text, holders)
    file = read_bond_file(text)
    digest = file.digest()
    with transaction():
        outcome = _replace(file.terms, digest)
        if outcome != "unchanged":
            _write(file)
    return Imported(outcome, digest, file.terms, len(file.investors), file.tokens)


def _import_streamed(text: str, holders: Iterable[str]) -> Imported:
    with staging() as register:
        terms = read_terms(text, register, holders_apart=True)
        read_holders(holders, register)
        with transaction():
            problems = register.check(terms)
            if problems or terms is None:
                raise BadBondFile(problems)
            digest = digest_of(terms)
            count, tokens = totals()
            outcome = _replace(terms, digest)
            if outcome != "unchanged":
                register.store(terms.id)
    return Imported(outcome, digest, terms, count, tokens)


def _replace(terms: BondTerms, digest: str) -> Outcome:
    """Lock the bond, and make place for new content unless it has this very content."""
    execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 2))", ("bond:" + terms.id,))
    known = fetch("SELECT file_digest FROM bond WHERE id = %s FOR UPDATE", (terms.id,))
    if known and known[0][0] == digest:
        return "unchanged"
    if known:
        _refuse_after_plan(terms.id)
        execute("DELETE FROM bond_investor WHERE bond_id = %s", (terms.id,))
    _write_terms(terms, digest)
    return "replaced" if known else "imported"


def stored_file(terms: BondTerms) -> BondFile:
    """The register of a bond that was imported, whole in memory."""
    with transaction():
        return BondFile(terms, tuple(investors(_REGISTER, (terms.id,))))


_REGISTER = """
SELECT address, name, email, whitelisted, token_id, balance
FROM bond_investor JOIN bond_holding USING (bond_id, address) WHERE bond_id = %s
ORDER BY address COLLATE "C", token_id
"""


def has_runs(bond_id: str) -> bool:
    """Whether the bond was ever triggered."""
    return bool(fetch("SELECT 1 FROM payout_run WHERE bond_id = %s LIMIT 1", (bond_id,)))


def list_bonds() -> list[BondSummary]:
    """All bonds, in order of maturity."""
    return [_summary(row) for row in fetch(_SUMMARY + " ORDER BY b.maturity_date, b.id")]


def show_bond(bond_id: str) -> BondDetail:
    """One bond. Raises NotFound."""
    found = fetch(_SUMMARY + " WHERE b.id = %s", (bond_id,))
    if not found:
        raise NotFound(f"no bond {bond_id!r}; `overnight bonds list` shows those that exist")
    runs = tuple(
        BondRun(*run)
        for run in fetch(
            "SELECT id::text, kind, state, triggered_at FROM payout_run WHERE bond_id = %s"
            " ORDER BY sequence DESC",
            (bond_id,),
        )
    )
    terms = fetch(
        "SELECT contract, token_decimals, face_value_per_token, file_digest, imported_at,"
        " maturity_date <= overnight_now()::date FROM bond WHERE id = %s",
        (bond_id,),
    )[0]
    return BondDetail(_summary(found[0]), runs, *terms)


def list_holders(bond_id: str, limit: int | None = None) -> list[Holder]:
    """The register, by address."""
    rows = fetch(
        "SELECT address, name, email, whitelisted, sum(balance),"
        " array_agg(token_id ORDER BY token_id), array_agg(balance::numeric ORDER BY token_id)"
        " FROM bond_investor JOIN bond_holding USING (bond_id, address) WHERE bond_id = %s"
        " GROUP BY bond_id, address ORDER BY address LIMIT %s",
        (bond_id, limit),
    )
    return [
        Holder(
            address, name, email, listed, int(tokens),
            tuple(zip(ids, map(int, balances), strict=True)),
        )
        for address, name, email, listed, tokens, ids, balances in rows
    ]  # fmt: skip


def _summary(row: tuple[Any, ...]) -> BondSummary:
    named = dict(zip(BondSummary.__dataclass_fields__, row, strict=True))
    return BondSummary(**{**named, "tokens": int(named["tokens"])})


_SUMMARY = """
SELECT b.id, b.name, b.maturity_date, b.token, coalesce(i.holders, 0), coalesce(i.whitelisted, 0),
       coalesce(h.tokens, 0),
       round(coalesce(h.tokens, 0) * b.face_value_per_token, b.token_decimals), r.id::text, r.state
FROM bond b
LEFT JOIN (SELECT bond_id, count(*) AS holders, count(*) FILTER (WHERE whitelisted) AS whitelisted
           FROM bond_investor GROUP BY bond_id) i ON i.bond_id = b.id
LEFT JOIN (SELECT bond_id, sum(balance) AS tokens FROM bond_holding GROUP BY bond_id) h
       ON h.bond_id = b.id
LEFT JOIN LATERAL (SELECT id, state FROM payout_run WHERE bond_id = b.id
                   ORDER BY sequence DESC LIMIT 1) r ON true"""


def _refuse_after_plan(bond_id: str) -> None:
    """A run that ended without a plan binds nobody; every other one does."""
    runs = fetch(
        "SELECT id, state FROM payout_run WHERE bond_id = %s"
        " AND NOT (state IN ('failed', 'cancelled') AND plan_hash IS NULL)"
        " ORDER BY sequence LIMIT 1",
        (bond_id,),
    )
    if runs:
        run_id, state = runs[0]
        raise Rejected(
            f"bond {bond_id} is part of payout run {run_id} ({state}), and this file is not the"
            " one that was planned: nothing was imported. Import a corrected register under a"
            " bond id of its own."
        )


def _write_terms(terms: BondTerms, digest: str) -> None:
    execute(
        "INSERT INTO bond (id, name, contract, token, token_decimals, face_value_per_token,"
        " maturity_date, file_digest) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET (name, contract, token, token_decimals,"
        " face_value_per_token, maturity_date, file_digest, imported_at) = (excluded.name,"
        " excluded.contract, excluded.token, excluded.token_decimals,"
        " excluded.face_value_per_token, excluded.maturity_date, excluded.file_digest,"
        " overnight_now())",
        (
            terms.id,
            terms.name,
            terms.contract,
            terms.token,
            terms.token_decimals,
            terms.face_value_per_token,
            terms.maturity_date,
            digest,
        ),
    )


def _write(file: BondFile) -> None:
    bond_id = file.terms.id
    copy_rows(
        "bond_investor",
        ("bond_id", "address", "name", "email", "whitelisted"),
        ((bond_id, i.address, i.name, i.email, i.whitelisted) for i in file.investors),
    )
    copy_rows(
        "bond_holding",
        ("bond_id", "address", "token_id", "balance"),
        ((bond_id, i.address, *holding) for i in file.investors for holding in i.holdings),
    )
