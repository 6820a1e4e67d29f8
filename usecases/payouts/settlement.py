"""Settlement: what the chain did with our operations, found by hash and believed at finality.

    receipts of every open hash → mined (provisional) → final → settled: leg burned | paid
                                → reverted and final  → void: legs alone again | held
                                → vanished (reorg), or not mined for long → the same bytes again

A loop of every worker, one at a time per wallet; no job, so nothing that pauses jobs stops it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from domain.errors import InvariantBroken
from models.database import execute, fetch, transaction
from models.payouts import Wallet
from providers.chain import Head, Receipt
from providers.ports import policy, ports
from usecases.payouts.operations import broadcast, sign
from usecases.payouts.wallets import Sight, halt, lock_and_judge, look, our_wallets

#: The first key of our advisory locks; the second is the wallet's id. Any constant of our own.
_LOCK_CLASS = 0x5E77

#: A settler that says nothing to PostgreSQL for this long loses its lock, and its connection.
#: Longer than any call to the node may take.
_SILENCE_LIMIT = "15s"

_LOCK = """
SELECT alone, CASE WHEN alone THEN set_config('idle_session_timeout', %s, false) END
FROM (SELECT pg_try_advisory_lock(%s, %s) AS alone OFFSET 0) AS l
"""

_UNLOCK = "SELECT pg_advisory_unlock(%s, %s), set_config('idle_session_timeout', '0', false)"

_OPEN = """
SELECT o.id::text, o.state, o.nonce, o.mined_height, o.mined_hash,
       coalesce(o.last_broadcast_at, o.created_at)
           < overnight_now() - %(patience)s * interval '1 s',
       coalesce(array_agg(t.tx_hash) FILTER (WHERE t.tx_hash IS NOT NULL), '{}')
FROM chain_operation o LEFT JOIN chain_transaction t ON t.operation_id = o.id
WHERE o.wallet_id = %(wallet)s AND o.state NOT IN ('settled', 'void')
GROUP BY o.id ORDER BY o.nonce
"""

_ORPHANS = """
SELECT id::text FROM chain_operation
WHERE wallet_id = %s AND state = 'intent' AND created_at < overnight_now() - %s * interval '1 s'
  AND NOT EXISTS (SELECT FROM pause WHERE scope = 'service:maturity')
"""

_MOVE = """
UPDATE chain_operation o
SET state = %(state)s, mined_height = v.height, mined_hash = v.hash, void_reason = v.reason,
    settled_at = CASE WHEN %(state)s = 'settled' THEN overnight_now() END
FROM unnest(%(ids)s::uuid[], %(heights)s::bigint[], %(hashes)s::text[], %(reasons)s::text[])
    AS v (id, height, hash, reason)
WHERE o.id = v.id AND o.state IN ('signed', 'mined')
RETURNING o.id::text
"""

_SETTLE_LEGS = """
UPDATE payout_leg l
SET state = CASE o.kind WHEN 'burn' THEN 'burned' ELSE 'paid' END,
    burn_height = CASE o.kind WHEN 'burn' THEN o.mined_height ELSE l.burn_height END,
    burn_hash = CASE o.kind WHEN 'burn' THEN o.mined_hash ELSE l.burn_hash END,
    paid_height = CASE o.kind WHEN 'transfer' THEN o.mined_height ELSE l.paid_height END,
    paid_hash = CASE o.kind WHEN 'transfer' THEN o.mined_hash ELSE l.paid_hash END
FROM operation_leg ol JOIN chain_operation o ON o.id = ol.operation_id
WHERE o.id = ANY(%s::uuid[]) AND l.id = ol.leg_id AND NOT ol.void
  AND l.state = CASE o.kind WHEN 'burn' THEN 'burning' ELSE 'paying' END
"""

_VOID_LEGS = """
WITH gone AS (
    UPDATE operation_leg SET void = true WHERE operation_id = ANY(%s::uuid[]) AND NOT void
    RETURNING operation_id, leg_id
), sized AS (
    SELECT g.leg_id, o.kind, o.void_reason, count(*) OVER (PARTITION BY g.operation_id) AS legs
    FROM gone g JOIN chain_operation o ON o.id = g.operation_id
)
UPDATE payout_leg l
SET alone = true,
    state = CASE WHEN s.legs = 1 THEN 'held' WHEN s.kind = 'burn' THEN 'planned' ELSE 'burned' END,
    reason = CASE WHEN s.legs = 1 THEN s.kind || ' reverted: ' || s.void_reason END
FROM sized s
WHERE l.id = s.leg_id AND l.state = CASE s.kind WHEN 'burn' THEN 'burning' ELSE 'paying' END
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


def settle_once(wallet_id: int) -> bool:
    """Look once at everything that is open in a wallet; True if there was something to do.

    Returns False at once while another process settles the wallet.

    Raises:
        ChainUnavailable: the node did not answer; nothing was concluded.
        InvariantBroken: legs are not in the state that their operation implies; the wallet is
            halted.
    """
    with _alone(wallet_id) as alone:
        if not alone:
            return False
        try:
            return _settle(wallet_id)
        except InvariantBroken as error:
            with transaction():
                halt(wallet_id, str(error))
            raise


def settle_all() -> bool:
    """`settle_once` for each wallet that this process has the key of."""
    busy = [settle_once(wallet_id) for wallet_id in our_wallets()]
    return any(busy)


def _settle(wallet_id: int) -> bool:
    wallet = Wallet.get_by_id(wallet_id)
    signed = 0
    if wallet.halted_at is None and wallet.address == ports().signer.address:
        signed = sign(wallet_id, _orphans(wallet_id))
    sight = look(wallet)
    operations = _open_operations(wallet_id)
    if sight.is_behind:
        return signed > 0
    receipts = _receipts(operations, sight.head)
    verdict = _judge(operations, sight.head, receipts)
    intruder = _intruder(operations, receipts, sight)
    if verdict.changes or intruder or sight.problem_with(wallet):
        with transaction():
            wallet = lock_and_judge(wallet_id, sight)
            if intruder and wallet.halted_at is None:
                halt(wallet_id, intruder)
            if sight.checkpoint_is_gone:
                return signed > 0  # what is final is in doubt: conclude nothing
            _write(wallet_id, verdict, sight.head)
    sent = broadcast(wallet_id, verdict.vanished + verdict.unmined)
    return bool(signed or verdict.changes or sent)


def _orphans(wallet_id: int) -> list[str]:
    """Committed intents whose worker is gone; nothing while maturity payouts are paused."""
    return [str(row[0]) for row in fetch(_ORPHANS, (wallet_id, policy().orphan_after_s))]


def _open_operations(wallet_id: int) -> list[OpenOperation]:
    params = {"wallet": wallet_id, "patience": policy().rebroadcast_after_s}
    return [OpenOperation(*row) for row in fetch(_OPEN, params)]


def _receipts(operations: list[OpenOperation], head: Head) -> dict[str, Receipt] | None:
    """Receipts of all open hashes; None if the chain changed below `head`'s final block meanwhile.

    The final block is asked for again afterwards: if it is still there, every receipt at or below
    its height belongs to the chain that cannot change any more.
    """
    if not operations:
        return {}
    chain = ports().chain
    receipts = chain.receipts([tx_hash for op in operations for tx_hash in op.hashes])
    return receipts if chain.block_hash(head.final_height) == head.final_hash else None


def _judge(
    operations: list[OpenOperation], head: Head, receipts: dict[str, Receipt] | None
) -> Verdict:
    verdict = Verdict()
    if receipts is None:
        return verdict
    for operation in operations:
        receipt = operation.receipt_in(receipts)
        if receipt is None:
            if operation.state == "mined":
                verdict.vanished.append(operation.id)
            elif operation.state == "signed" and operation.is_overdue:
                verdict.unmined.append(operation.id)
            continue
        found = Found(operation.id, receipt.height, receipt.tx_hash, None)
        if receipt.height > head.final_height:
            if (receipt.height, receipt.tx_hash) != (operation.mined_height, operation.mined_hash):
                verdict.mined.append(found)
        elif receipt.succeeded:
            verdict.settled.append(found)
        else:
            reason = receipt.revert_reason or "no reason given"
            verdict.void.append(replace(found, reason=reason))
    return verdict


def _intruder(
    operations: list[OpenOperation], receipts: dict[str, Receipt] | None, sight: Sight
) -> str | None:
    """Evidence that a nonce of ours was consumed by a transaction that we never signed.

    Only believed when the chain did not move between reading its nonce and the receipts.
    """
    taken = [
        operation.nonce
        for operation in operations
        if receipts is not None
        and operation.nonce < sight.next_nonce
        and operation.receipt_in(receipts) is None
    ]
    if not taken or ports().chain.head() != sight.head:
        return None
    return f"nonce {taken[0]} was used on chain by a transaction that is not ours"


def _write(wallet_id: int, verdict: Verdict, head: Head) -> None:
    """Make the verdict true in the database, in the open transaction, under the wallet's lock.

    Raises:
        InvariantBroken: legs are not in the state that their operation implies.
    """
    _move("mined", verdict.mined)
    _move("signed", [Found(operation_id, None, None, None) for operation_id in verdict.vanished])
    for state, found, legs in (
        ("settled", verdict.settled, _SETTLE_LEGS),
        ("void", verdict.void, _VOID_LEGS),
    ):
        moved = _move(state, found)
        if not moved:
            continue
        [(expected,)] = fetch(
            "SELECT count(*) FROM operation_leg WHERE operation_id = ANY(%s::uuid[]) AND NOT void",
            (moved,),
        )
        if execute(legs, (moved,)) != expected:
            raise InvariantBroken(f"legs of operations {moved} are not where these left them")
        execute(
            "UPDATE wallet SET final_height = %(height)s, final_hash = %(hash)s"
            " WHERE id = %(id)s AND final_height <= %(height)s",
            {"id": wallet_id, "height": head.final_height, "hash": head.final_hash},
        )


def _move(state: str, found: list[Found]) -> list[str]:
    """Set the state of operations that are not at their end; returns those that were moved."""
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
    return [str(operation_id) for (operation_id,) in rows]


@contextmanager
def _alone(wallet_id: int) -> Iterator[bool]:
    """Be the only one to settle a wallet; the lock dies with this thread's connection.

    A frozen process keeps its connection: the server ends it when it has been silent for too long.
    """
    key = (_LOCK_CLASS, wallet_id)
    [(alone, _)] = fetch(_LOCK, (_SILENCE_LIMIT, *key))
    try:
        yield bool(alone)
    finally:
        if alone:
            fetch(_UNLOCK, key)
