"""The peer's jobs, in its two forms; each can be run again from wherever it was cut off.

legs : burn(leg) → commit intent → commit bytes → send → final → commit + enqueue transfer(leg)
pages: the same for a page, with set-based statements and many legs in a transaction
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager

from bench.peer_payouts_chain import Node
from providers.chain import Receipt, SignedTransaction, TxItem, TxKind, UnsignedTransaction

TITLE = "Bond Maturity Payment Completed"
STATES = {"burn": ("planned", "burning", "burned"), "transfer": ("burned", "paying", "paid")}


@dataclass(frozen=True)
class Terms:
    """What is paid, and how it is cut."""

    contract: str
    token: str
    name: str
    page_legs: int
    tx_legs: int
    chain_id: str = "mock-1"
    decimals: int = 6

    def unsigned(self, node: Node, nonce: int, kind: str, legs: list[Any]) -> UnsignedTransaction:
        """The transaction of some legs."""
        items: list[TxItem] = []
        for leg in legs:
            if kind == "transfer":
                items.append(TxItem(leg["transfer_ref"], leg["address"], int(leg["units"])))
                continue
            for token_id, balance in json.loads(leg["holdings"]):
                items.append(TxItem(leg["burn_ref"], leg["address"], int(balance), token_id))
        contract = self.contract if kind == "burn" else self.token
        return UnsignedTransaction(
            self.chain_id, node.address, nonce, TxKind(kind), contract, tuple(items),
            1_000 * len(items),
        )  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How a form is bound, and its settings: chosen by reasoning, not yet searched for the best."""

    bind: Callable[[QueueManager, Any, Node, Terms], None]
    batch: int
    concurrent: int | None
    pool: int
    threads: int


_LEG = """
SELECT l.*, o.nonce, o.tx_hash, o.raw FROM leg l
LEFT JOIN operation_leg ol ON ol.leg_id = l.id AND ol.phase = $2
LEFT JOIN operation o ON o.nonce = ol.nonce WHERE l.id = $1
"""
_LEG_INTENT = """
WITH n AS (UPDATE wallet SET next_nonce = next_nonce + 1 RETURNING next_nonce - 1 AS nonce),
o AS (INSERT INTO operation (nonce, kind, page) SELECT nonce, $2, -1 FROM n),
ol AS (INSERT INTO operation_leg (nonce, leg_id, phase) SELECT nonce, $1, $2 FROM n),
l AS (UPDATE leg SET state = $3 WHERE id = $1)
SELECT nonce FROM n
"""
_LEG_SIGNED = "UPDATE operation SET state = 'signed', tx_hash = $2, raw = $3 WHERE nonce = $1"
_LEG_SETTLED = """
WITH o AS (UPDATE operation SET state = 'settled', mined_height = $2 WHERE nonce = $1)
UPDATE leg SET state = $4, paid_hash = $5 WHERE id = $3
"""
_LEG_PAID = """
WITH o AS (UPDATE operation SET state = 'settled', mined_height = $2 WHERE nonce = $1),
l AS (UPDATE leg SET state = 'paid', paid_hash = $4 WHERE id = $3 RETURNING *)
INSERT INTO notification (user_id, title, message, dedup_key)
SELECT address, $5, format('Your maturity payment of %s %s for %s has been processed'
    ' (transaction %s).', (units / 1e6)::numeric(78, 6), $6::text, $7::text, $4),
    'maturity_paid:' || id FROM l ON CONFLICT DO NOTHING
"""


def bind_legs(manager: QueueManager, pool: Any, node: Node, terms: Terms) -> None:
    """One job per leg and phase."""

    async def send(leg_id: int, kind: str) -> tuple[int, Receipt]:
        leg = await pool.fetchrow(_LEG, leg_id, kind)
        nonce = leg["nonce"]
        if nonce is None:
            nonce = await pool.fetchval(_LEG_INTENT, leg_id, kind, STATES[kind][1])
        if leg["raw"] is None:
            signed = node.sign(terms.unsigned(node, nonce, kind, [leg]))
            await pool.execute(_LEG_SIGNED, nonce, signed.tx_hash, signed.raw)
        else:
            signed = SignedTransaction(leg["tx_hash"], leg["raw"])
        [receipt] = await node.settle([signed])
        return nonce, receipt

    @manager.entrypoint("burn")
    async def burn(job) -> None:  # type: ignore[no-untyped-def]
        leg_id = int(job.payload)
        nonce, receipt = await send(leg_id, "burn")
        async with pool.acquire() as own, own.transaction():
            await own.execute(_LEG_SETTLED, nonce, receipt.height, leg_id, "burned", None)
            await Queries(AsyncpgDriver(own)).enqueue("transfer", job.payload, 1)

    @manager.entrypoint("transfer")
    async def transfer(job) -> None:  # type: ignore[no-untyped-def]
        leg_id = int(job.payload)
        nonce, receipt = await send(leg_id, "transfer")
        words = (TITLE, terms.token, terms.name)
        await pool.execute(_LEG_PAID, nonce, receipt.height, leg_id, receipt.tx_hash, *words)


_PAGE = """
SELECT l.* FROM leg l WHERE page = $1 AND state = $2
AND NOT EXISTS (SELECT FROM operation_leg ol WHERE ol.leg_id = l.id AND ol.phase = $3)
ORDER BY id
"""
_NONCES = "UPDATE wallet SET next_nonce = next_nonce + $1 RETURNING next_nonce - $1"
_INTENTS = """
INSERT INTO operation (nonce, kind, page, unsigned)
SELECT nonce, $3, $4, unsigned FROM unnest($1::bigint[], $2::text[]) AS v (nonce, unsigned)
"""
_LEGS = """
WITH ol AS (
    INSERT INTO operation_leg (nonce, leg_id, phase)
    SELECT nonce, leg_id, $3 FROM unnest($1::bigint[], $2::integer[]) AS v (nonce, leg_id)
)
UPDATE leg SET state = $4 WHERE id = ANY($2)
"""
_UNSIGNED = "SELECT nonce, unsigned FROM operation WHERE page = $1 AND kind = $2 AND raw IS NULL"
_SIGNED = """
UPDATE operation o SET state = 'signed', tx_hash = v.tx_hash, raw = v.raw
FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS v (nonce, tx_hash, raw)
WHERE o.nonce = v.nonce
"""
_UNSETTLED = """
SELECT tx_hash, raw FROM operation WHERE page = $1 AND kind = $2 AND state = 'signed' ORDER BY nonce
"""
_SETTLED = """
WITH o AS (
    UPDATE operation o SET state = 'settled', mined_height = v.height
    FROM unnest($1::text[], $2::bigint[]) AS v (tx_hash, height)
    WHERE o.tx_hash = v.tx_hash AND o.page = $3 AND o.kind = $4 RETURNING o.nonce, o.tx_hash
)
UPDATE leg l SET state = $5, paid_hash = CASE WHEN $5 = 'paid' THEN o.tx_hash END
FROM operation_leg ol JOIN o ON o.nonce = ol.nonce WHERE l.id = ol.leg_id
"""
_TOLD = """
INSERT INTO notification (user_id, title, message, dedup_key)
SELECT address, $2, format('Your maturity payment of %s %s for %s has been processed'
    ' (transaction %s).', (units / 1e6)::numeric(78, 6), $3::text, $4::text, paid_hash),
    'maturity_paid:' || id FROM leg WHERE page = $1 AND state = 'paid' ON CONFLICT DO NOTHING
"""


def bind_pages(manager: QueueManager, pool: Any, node: Node, terms: Terms) -> None:
    """A job per page and phase."""

    async def send(page: int, kind: str) -> list[Receipt]:
        waits, busy, _ = STATES[kind]
        legs = await pool.fetch(_PAGE, page, waits, kind)
        if legs:
            verified = await node.verified([leg["address"] for leg in legs])
            legs = [leg for leg in legs if leg["address"] in verified]
            chunks = [legs[i : i + terms.tx_legs] for i in range(0, len(legs), terms.tx_legs)]
            async with pool.acquire() as own, own.transaction():
                first = await own.fetchval(_NONCES, len(chunks))
                numbered = list(enumerate(chunks, start=first))
                texts = [terms.unsigned(node, n, kind, chunk).to_json() for n, chunk in numbered]
                await own.execute(_INTENTS, [n for n, _ in numbered], texts, kind, page)
                pairs = [(n, leg["id"]) for n, chunk in numbered for leg in chunk]
                nonces, ids = (list(each) for each in zip(*pairs, strict=True))
                await own.execute(_LEGS, nonces, ids, kind, busy)
        rows = await pool.fetch(_UNSIGNED, page, kind)
        signed = [node.sign(UnsignedTransaction.from_json(row["unsigned"])) for row in rows]
        nonces, hashes = [row["nonce"] for row in rows], [each.tx_hash for each in signed]
        await pool.execute(_SIGNED, nonces, hashes, [each.raw for each in signed])
        rows = await pool.fetch(_UNSETTLED, page, kind)
        return await node.settle([SignedTransaction(row["tx_hash"], row["raw"]) for row in rows])

    async def settled(own: Any, page: int, kind: str, receipts: list[Receipt]) -> None:
        hashes, heights = [r.tx_hash for r in receipts], [r.height for r in receipts]
        await own.execute(_SETTLED, hashes, heights, page, kind, STATES[kind][2])

    @manager.entrypoint("burn")
    async def burn(job) -> None:  # type: ignore[no-untyped-def]
        receipts = await send(int(job.payload), "burn")
        async with pool.acquire() as own, own.transaction():
            await settled(own, int(job.payload), "burn", receipts)
            await Queries(AsyncpgDriver(own)).enqueue("transfer", job.payload, 1)

    @manager.entrypoint("transfer")
    async def transfer(job) -> None:  # type: ignore[no-untyped-def]
        page = int(job.payload)
        receipts = await send(page, "transfer")
        async with pool.acquire() as own, own.transaction():
            await settled(own, page, "transfer", receipts)
            await own.execute(_TOLD, page, TITLE, terms.token, terms.name)


#: Two processes, one a core; no bound on waiting jobs, for most of a job's time is finality.
FORMS = {
    "legs": Form(bind_legs, batch=100, concurrent=None, pool=4, threads=4),
    "pages": Form(bind_pages, batch=10, concurrent=None, pool=4, threads=4),
}
