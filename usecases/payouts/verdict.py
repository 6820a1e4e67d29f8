"""A verdict: what one look at the chain says of operations, made true in the database.

    Verdict (mined, settled, void, vanished) → operations, then their legs, in one transaction

Burns are written before transfers: a leg is burned before it is paid.
"""

from dataclasses import dataclass, field

from domain.errors import InvariantBroken
from models.database import db, execute, fetch
from providers.chain import Head, Receipt

_MOVE = """
UPDATE chain_operation o
SET state = %(state)s, mined_height = v.height, mined_hash = v.hash, void_reason = v.reason,
    settled_at = CASE WHEN %(state)s = 'settled' THEN overnight_now() END
FROM unnest(%(ids)s::uuid[], %(heights)s::bigint[], %(hashes)s::text[], %(reasons)s::text[])
    AS v (id, height, hash, reason)
WHERE o.id = v.id AND o.state IN ('signed', 'mined')
RETURNING o.id::text, o.kind
"""

#: After a reorg deeper than finality, the burn of a leg may be settled again after its payment.
_SETTLE_LEGS = """
UPDATE payout_leg l
SET state = CASE WHEN o.kind = 'transfer' THEN 'paid' WHEN l.state = 'burning' THEN 'burned'
                 ELSE l.state END,
    burn_height = CASE o.kind WHEN 'burn' THEN o.mined_height ELSE l.burn_height END,
    burn_hash = CASE o.kind WHEN 'burn' THEN o.mined_hash ELSE l.burn_hash END,
    paid_height = CASE o.kind WHEN 'transfer' THEN o.mined_height ELSE l.paid_height END,
    paid_hash = CASE o.kind WHEN 'transfer' THEN o.mined_hash ELSE l.paid_hash END
FROM operation_leg ol JOIN chain_operation o ON o.id = ol.operation_id
WHERE o.id = ANY(%s::uuid[]) AND l.id = ol.leg_id AND NOT ol.void
  AND (l.state = CASE o.kind WHEN 'burn' THEN 'burning' ELSE 'paying' END
       OR (o.kind = 'burn' AND l.state IN ('paying', 'paid') AND l.burn_hash IS NULL))
"""

_VOID_LEGS = """
WITH gone AS (
    UPDATE operation_leg SET void = true WHERE operation_id = ANY(%s::uuid[]) AND NOT void
    RETURNING operation_id, leg_id
), sized AS (
    SELECT g.leg_id, o.kind, o.void_reason, count(*) OVER (PARTITION BY g.operation_id) AS legs,
           CASE o.kind WHEN 'burn' THEN 'burning' ELSE 'paying' END AS busy
    FROM gone g JOIN chain_operation o ON o.id = g.operation_id
)
UPDATE payout_leg l
SET alone = true,
    state = CASE WHEN l.state <> s.busy THEN l.state WHEN s.legs = 1 THEN 'held'
                 WHEN s.kind = 'burn' THEN 'planned' ELSE 'burned' END,
    reason = CASE WHEN l.state = s.busy AND s.legs = 1
                  THEN s.kind || ' reverted: ' || s.void_reason END
FROM sized s
WHERE l.id = s.leg_id AND (l.state = s.busy
    OR (s.kind = 'burn' AND l.state IN ('paying', 'paid') AND l.burn_hash IS NULL))
"""


@dataclass(frozen=True)
class OpenOperation:
    """An operation that is not at its end."""

    id: str
    state: str
    nonce: int
    mined_height: int | None
    mined_hash: str | None
    is_overdue: bool
    is_stuck: bool
    hashes: list[str]

    def receipt_in(self, receipts: dict[str, Receipt]) -> Receipt | None:
        """The receipt of whichever of its transactions was mined."""
        return next((receipts[h] for h in self.hashes if h in receipts), None)


@dataclass(frozen=True)
class Found:
    """Where an operation was found, and why it reverted if it did."""

    operation_id: str
    height: int | None
    tx_hash: str | None
    reason: str | None


@dataclass
class Verdict:
    """What one look at the chain says about the open operations."""

    mined: list[Found] = field(default_factory=list)
    settled: list[Found] = field(default_factory=list)
    void: list[Found] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unmined: list[str] = field(default_factory=list)  # to be broadcast again

    @property
    def changes(self) -> bool:
        """Whether any state is to be written."""
        return bool(self.mined or self.settled or self.void or self.vanished)


def write(wallet_id: int, verdict: Verdict, head: Head) -> list[str]:
    """Make the verdict true in the database, in the open transaction, under the wallet's lock.

    An operation whose legs are not in the state that it implies stays as it is, and the others go
    on; returns what was out of line.
    """
    _move("mined", verdict.mined)
    _move("signed", [Found(operation_id, None, None, None) for operation_id in verdict.vanished])
    problems: list[str] = []
    for state, found, legs in (
        ("settled", verdict.settled, _SETTLE_LEGS),
        ("void", verdict.void, _VOID_LEGS),
    ):
        if not found:
            continue
        try:
            moved = _end(state, found, legs)
        except InvariantBroken:
            moved = 0
            for one in found:  # by nonce, so a burn still comes before its transfer
                try:
                    moved += _end(state, [one], legs)
                except InvariantBroken as error:
                    problems.append(str(error))
        if moved:
            set_checkpoint(wallet_id, head)
    return problems


def _end(state: str, found: list[Found], legs: str) -> int:
    """Move operations to their end, and their legs with them: all of it, or nothing."""
    with db.savepoint():
        moved = _move(state, found)
        for kind in ("burn", "transfer"):
            _move_legs(legs, [operation_id for operation_id, its in moved if its == kind])
    return len(moved)


def _move_legs(statement: str, operation_ids: list[str]) -> None:
    if not operation_ids:
        return
    [(expected,)] = fetch(
        "SELECT count(*) FROM operation_leg WHERE operation_id = ANY(%s::uuid[]) AND NOT void",
        (operation_ids,),
    )
    if execute(statement, (operation_ids,)) != expected:
        raise InvariantBroken(f"legs of operations {operation_ids} are not where these left them")


def set_checkpoint(wallet_id: int, head: Head) -> None:
    """Remember a final block, to notice if it ever changes."""
    execute(
        "UPDATE wallet SET final_height = %(height)s, final_hash = %(hash)s"
        " WHERE id = %(id)s AND final_height <= %(height)s",
        {"id": wallet_id, "height": head.final_height, "hash": head.final_hash},
    )


def _move(state: str, found: list[Found]) -> list[tuple[str, str]]:
    """Set the state of operations that are not at their end; returns (id, kind) of the moved."""
    if not found:
        return []
    rows = fetch(
        _MOVE,
        {
            "state": state,
            "ids": [item.operation_id for item in found],
            "heights": [item.height for item in found],
            "hashes": [item.tx_hash for item in found],
            "reasons": [item.reason for item in found],
        },
    )
    return [(str(operation_id), str(kind)) for operation_id, kind in rows]
