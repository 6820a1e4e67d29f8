"""Replacement: a transaction that the chain does not take for its fee is offered with a higher one.

    the next nonce is not mined for long → same nonce, same content, fee + 25 % | commit | broadcast

A new hash of the same operation: the older ones stay watched, and whichever is mined counts. Never
above the limit per item that was reserved when the run began.
"""

from collections.abc import Sequence
from dataclasses import replace

from psycopg2 import Binary

from domain.errors import InvariantBroken
from domain.job_types import Service
from jobs.failure import alert
from models.bulk import change_rows
from models.database import fetch, transaction
from models.payouts import Wallet
from providers.chain import Chain, UnsignedTransaction
from providers.ports import policy, ports
from usecases.payouts.operations import broadcast, digest_of

#: Nodes ask for 10 % more, and some for more than that.
RAISE_PERCENT = 125

#: Signed and not mined, with the fee of the newest offer and whether that had its time. What is not
#: overdue comes without its transaction: that is long, and there may be a thousand.
_SIGNED = """
SELECT o.id::text, o.nonce, CASE WHEN t.overdue THEN o.unsigned END, o.digest, o.run_id IS NULL,
       t.fee_cap_units, t.overdue
FROM chain_operation o JOIN LATERAL (
    SELECT fee_cap_units, o.broadcast_count > 1
           AND NOT overnight_is_recent(signed_at, %(patience)s * interval '1 s') AS overdue
    FROM chain_transaction WHERE operation_id = o.id
    ORDER BY fee_cap_units DESC LIMIT 1
) t ON true
WHERE o.wallet_id = %(wallet)s AND o.state = 'signed' ORDER BY o.nonce
"""


def replace_stuck(wallet_id: int, next_nonce: int, chain: Chain | None = None) -> int:
    """Offer more for what is stuck, lowest nonce first; returns how many got a new hash.

    Stuck is the transaction that the chain must take next (`next_nonce`), and with it all that
    wait behind it for as long. An operation without a run is replaced by an empty transaction.

    Raises:
        InvariantBroken: a stored transaction is not the one that was intended.
    """
    params = {"wallet": wallet_id, "patience": policy().replace_after_s}
    rows = fetch(_SIGNED, params)
    if not rows or rows[0][1] != next_nonce or not rows[0][6]:
        return 0
    offers: list[tuple[str, str, Binary, int]] = []
    for operation_id, nonce, text, digest, empty, fee_cap, is_overdue in rows:
        if not is_overdue:
            break
        if digest_of(text) != digest:
            raise InvariantBroken(f"operation {operation_id}: its transaction was changed")
        unsigned = UnsignedTransaction.from_json(text)
        if empty:
            unsigned = replace(unsigned, items=())
        offer = _next_offer(unsigned, int(fee_cap))
        if offer is None:
            _say_once(wallet_id, nonce, int(fee_cap))
            break
        signed = ports().signer.sign(replace(unsigned, fee_cap_units=offer))
        offers.append((signed.tx_hash, operation_id, Binary(signed.raw), offer))
    return _commit(wallet_id, offers, chain)


def _next_offer(unsigned: UnsignedTransaction, fee_cap_units: int) -> int | None:
    """25 % more, or today's first offer if that is higher; None when the limit is reached."""
    items = max(1, len(unsigned.items))
    limit = policy().fee_reserve_units * items
    if not unsigned.items:  # nobody's reservation pays for it: it must get out of the way
        limit = max(limit, fee_cap_units * 2)
    wanted = max(-(-fee_cap_units * RAISE_PERCENT // 100), policy().fee_cap_units * items)
    needed = -(-fee_cap_units * 110 // 100)
    offer = min(wanted, limit)
    return offer if offer >= max(needed, fee_cap_units + 1) else None


def _commit(
    wallet_id: int, offers: Sequence[tuple[str, str, Binary, int]], chain: Chain | None
) -> int:
    if not offers:
        return 0
    with transaction():
        if Wallet.lock(wallet_id).halted_at is not None:
            return 0
        still = {
            operation_id
            for (operation_id,) in fetch(
                "SELECT id::text FROM chain_operation WHERE id = ANY(%s::uuid[])"
                " AND state = 'signed'",
                ([operation_id for _, operation_id, _, _ in offers],),
            )
        }
        kept = [offer for offer in offers if offer[1] in still]
        if not kept:
            return 0
        change_rows(
            "INSERT INTO chain_transaction (tx_hash, operation_id, raw, fee_cap_units, signed_at)"
            " SELECT v.hash, v.operation::uuid, v.raw, v.fee::units, overnight_now()"
            " FROM (VALUES %s) v (hash, operation, raw, fee) ON CONFLICT (tx_hash) DO NOTHING",
            kept,
        )
    broadcast(wallet_id, [operation_id for _, operation_id, _, _ in kept], chain)
    return len(kept)


def _say_once(wallet_id: int, nonce: int, fee_cap_units: int) -> None:
    """One alert for each nonce that is stuck at its limit."""
    subject = f"wallet {wallet_id} nonce {nonce}"
    message = (
        f"stuck at its fee limit of {fee_cap_units} units: raise FEE_LIMIT_UNITS and restart the "
        "workers, or wait until the chain is cheaper"
    )
    with transaction():
        Wallet.lock(wallet_id)
        if not fetch("SELECT 1 FROM alert WHERE subject = %s", (subject,)):
            alert(Service.MATURITY, subject, message)
