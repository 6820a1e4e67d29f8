"""Decisions: who said what about a run or a wallet, kept for ever beside what it did."""

from dataclasses import dataclass
from datetime import datetime

from domain.errors import InvalidInput
from models.database import execute, fetch


@dataclass(frozen=True)
class Decision:
    """One decision of a person."""

    at: datetime
    kind: str
    person: str
    nonce: int | None
    tx_hash: str | None
    note: str | None


def person_named(name: str) -> str:
    """A name that can be recorded. Raises InvalidInput for an empty one."""
    person = " ".join(name.split())
    if not person:
        raise InvalidInput("say who decides: --by NAME")
    return person


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are one person's: case and spaces do not make a second one."""
    return person_named(one).casefold() == person_named(other).casefold()


def decide(
    kind: str,
    person: str,
    *,
    wallet_id: int | None = None,
    run_id: str | None = None,
    nonce: int | None = None,
    tx_hash: str | None = None,
    note: str | None = None,
) -> None:
    """Record a decision in the transaction that makes it true."""
    execute(
        "INSERT INTO payout_decision (wallet_id, run_id, kind, person, nonce, tx_hash, note)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (wallet_id, run_id, kind, person_named(person), nonce, tx_hash, note),
    )


def decisions_of(*, wallet_id: int | None = None, run_id: str | None = None) -> list[Decision]:
    """All decisions about a wallet or a run, the oldest first."""
    rows = fetch(
        "SELECT at, kind, person, nonce, tx_hash, note FROM payout_decision"
        " WHERE wallet_id = %s OR run_id = %s ORDER BY id",
        (wallet_id, run_id),
    )
    return [Decision(*row) for row in rows]
