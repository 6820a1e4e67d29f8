"""After a reorg deeper than finality: which of our final operations does the chain still have?

    every hash that was final → receipts (outside) → as before | at another height | taken back

What was taken back is open again: the same bytes are sent again, nothing else is signed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.database import execute, fetch
from providers.chain import Head, Receipt
from providers.ports import ports

#: How many hashes the node is asked about at once.
HASHES_PER_CALL = 1_000

_ENDED = """
SELECT o.id::text, o.nonce, o.kind, o.state, array_agg(t.tx_hash)
FROM chain_operation o JOIN chain_transaction t ON t.operation_id = o.id
WHERE o.wallet_id = %s AND o.state IN ('settled', 'void') AND NOT o.displaced
GROUP BY o.id ORDER BY o.nonce DESC
"""

_REOPEN = """
UPDATE chain_operation SET state = 'signed', mined_height = NULL, mined_hash = NULL,
    void_reason = NULL, settled_at = NULL, last_broadcast_at = NULL
WHERE id = %s
"""

#: A void operation may succeed now: it has its legs again, unless others took them over.
_TAKE_BACK = """
UPDATE operation_leg x SET void = false
WHERE operation_id = %s AND void AND NOT EXISTS (
    SELECT FROM operation_leg y WHERE y.leg_id = x.leg_id AND y.phase = x.phase AND NOT y.void)
"""

_REOPEN_LEGS = {
    "burn": """
        UPDATE payout_leg l
        SET burn_height = NULL, burn_hash = NULL, reason = NULL,
            state = CASE WHEN l.state IN ('paying', 'paid') THEN l.state ELSE 'burning' END
        FROM operation_leg ol WHERE ol.operation_id = %s AND NOT ol.void AND l.id = ol.leg_id
    """,
    "transfer": """
        UPDATE payout_leg l
        SET paid_height = NULL, paid_hash = NULL, reason = NULL, state = 'paying'
        FROM operation_leg ol WHERE ol.operation_id = %s AND NOT ol.void AND l.id = ol.leg_id
    """,
}

_REOPEN_RUN = """
UPDATE payout_run SET state = 'paying', finished_at = NULL
WHERE id = (SELECT run_id FROM chain_operation WHERE id = %s) AND state = 'finished'
"""

_MOVE = """
WITH moved AS (
    UPDATE chain_operation SET mined_height = %(height)s, mined_hash = %(hash)s WHERE id = %(id)s
    RETURNING id, kind, state
)
UPDATE payout_leg l
SET burn_height = CASE m.kind WHEN 'burn' THEN %(height)s ELSE l.burn_height END,
    burn_hash = CASE m.kind WHEN 'burn' THEN %(hash)s ELSE l.burn_hash END,
    paid_height = CASE m.kind WHEN 'transfer' THEN %(height)s ELSE l.paid_height END,
    paid_hash = CASE m.kind WHEN 'transfer' THEN %(hash)s ELSE l.paid_hash END
FROM moved m JOIN operation_leg ol ON ol.operation_id = m.id AND NOT ol.void
WHERE l.id = ol.leg_id AND m.state = 'settled'
"""


#: An operation that had been void came true after all, and what took its legs over could not.
_COME_TRUE = """
WITH true_now AS (
    UPDATE operation_leg x SET void = false FROM chain_operation o
    WHERE o.id = x.operation_id AND o.wallet_id = %s AND o.state = 'settled' AND x.void
      AND NOT EXISTS (SELECT FROM operation_leg y
                      WHERE y.leg_id = x.leg_id AND y.phase = x.phase AND NOT y.void)
    RETURNING x.leg_id, x.phase, o.mined_height, o.mined_hash, o.nonce
), moved AS (
    UPDATE payout_leg l
    SET reason = NULL, state = CASE t.phase WHEN 'burn' THEN 'burned' ELSE 'paid' END,
        burn_height = CASE t.phase WHEN 'burn' THEN t.mined_height ELSE l.burn_height END,
        burn_hash = CASE t.phase WHEN 'burn' THEN t.mined_hash ELSE l.burn_hash END,
        paid_height = CASE t.phase WHEN 'transfer' THEN t.mined_height ELSE l.paid_height END,
        paid_hash = CASE t.phase WHEN 'transfer' THEN t.mined_hash ELSE l.paid_hash END
    FROM true_now t WHERE l.id = t.leg_id
    RETURNING l.run_id
), runs AS (
    UPDATE payout_run SET state = 'paying', finished_at = NULL
    WHERE id IN (SELECT run_id FROM moved) AND state = 'finished'
)
SELECT DISTINCT nonce FROM true_now
"""


@dataclass(frozen=True)
class Recorded:
    """An operation that was final, and what the chain says of it now."""

    operation_id: str
    nonce: int
    kind: str
    state: str
    receipt: Receipt | None


def recorded(wallet_id: int) -> list[Recorded]:
    """Every operation that was final, the newest first. Must be called outside of a transaction."""
    rows = fetch(_ENDED, (wallet_id,))
    hashes = [tx_hash for *_, found in rows for tx_hash in found]
    receipts: dict[str, Receipt] = {}
    for start in range(0, len(hashes), HASHES_PER_CALL):
        receipts |= ports().chain.receipts(hashes[start : start + HASHES_PER_CALL])
    return [
        Recorded(
            operation_id,
            nonce,
            kind,
            state,
            next((receipts[h] for h in found if h in receipts), None),
        )
        for operation_id, nonce, kind, state, found in rows
    ]


def believe(wallet_id: int, head: Head, operations: Sequence[Recorded]) -> list[int]:
    """Make the database agree, in the open transaction; returns the nonces that are open again.

    The newest come first: a leg is unpaid before it is unburned.
    """
    reopened = []
    for operation in operations:
        receipt = operation.receipt
        is_final = receipt is not None and receipt.height <= head.final_height
        succeeded = receipt is not None and receipt.succeeded
        if receipt is not None and is_final and succeeded == (operation.state == "settled"):
            place = {"height": receipt.height, "hash": receipt.tx_hash}
            execute(_MOVE, {"id": operation.operation_id, **place})
            continue
        reopened.append(operation.nonce)
        if operation.state == "void":
            execute(_TAKE_BACK, (operation.operation_id,))
        execute(_REOPEN_RUN, (operation.operation_id,))
        execute(_REOPEN_LEGS[operation.kind], (operation.operation_id,))
        execute(_REOPEN, (operation.operation_id,))
    execute(
        "UPDATE wallet SET final_height = %s, final_hash = %s WHERE id = %s",
        (head.final_height, head.final_hash, wallet_id),
    )
    return sorted(reopened)


def claim_what_came_true(wallet_id: int) -> list[int]:
    """Give settled operations the legs that they did after all, in the open transaction.

    Returns their nonces.
    """
    return sorted(int(nonce) for (nonce,) in fetch(_COME_TRUE, (wallet_id,)))
