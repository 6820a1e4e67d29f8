"""Operations: one nonce of one wallet each, from the committed intent to the bytes on the wire.

    intend (nonce + full transaction) | commit | sign | commit the bytes | broadcast those bytes

Signing is deterministic and the bytes are kept, so every step can be done again by anybody.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog
from psycopg2 import Binary

from domain.errors import InvariantBroken
from domain.ids import new_id
from models.bulk import array_of, change_rows
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.chain import (
    BroadcastRefused,
    Chain,
    ChainUnavailable,
    SignedTransaction,
    TxItem,
    TxKind,
    UnsignedTransaction,
)
from providers.ports import policy, ports

log = structlog.get_logger()

#: Opens the transaction in which a step is committed: plain, or one that checks a job's claim.
Transaction = Callable[[], AbstractContextManager[None]]


_TAKE_LEGS = """
WITH taken AS (
    INSERT INTO operation_leg (operation_id, leg_id, phase)
    SELECT operation_id, leg_id, %(phase)s
    FROM unnest(%(operations)s::uuid[], %(legs)s::uuid[]) AS v (operation_id, leg_id)
)
UPDATE payout_leg SET state = %(state)s WHERE id = ANY(%(legs)s::uuid[])
"""


@dataclass(frozen=True)
class Intended:
    """What one call committed to: operations by nonce, and the legs that they took."""

    operation_ids: Sequence[str] = ()
    leg_ids: Sequence[str] = ()


@dataclass(frozen=True)
class DueLeg:
    """A leg that may be signed for now, and its part of a transaction."""

    id: str
    items: tuple[TxItem, ...]
    alone: bool


def open_nonces(wallet_id: int) -> int:
    """How many operations of the wallet are not at their end."""
    [(count,)] = fetch(
        "SELECT count(*) FROM chain_operation"
        " WHERE wallet_id = %s AND state NOT IN ('settled', 'void')",
        (wallet_id,),
    )
    return int(count)


def has_room(wallet_id: int) -> bool:
    """Whether the window of open nonces has room: a hint, without a lock."""
    return open_nonces(wallet_id) < policy().max_unsettled_nonces


def intend(
    run: PayoutRun, wallet: Wallet, kind: TxKind, contract: str, due: Sequence[DueLeg]
) -> Intended:
    """Commit to transactions for as many legs as the window of open nonces allows.

    Runs under the wallet's lock, in the open transaction.
    """
    window = max(0, policy().max_unsettled_nonces - open_nonces(wallet.id))
    chunks = _chunks(due)[:window]
    operations, taken = [], []
    for nonce, chunk in enumerate(chunks, start=wallet.next_nonce):
        unsigned = UnsignedTransaction(
            chain_id=wallet.chain_id,
            sender=wallet.address,
            nonce=nonce,
            kind=kind,
            contract=contract,
            items=tuple(item for leg in chunk for item in leg.items),
            fee_cap_units=policy().fee_cap_units * sum(len(leg.items) for leg in chunk),
        )
        operation_id, text = str(new_id()), unsigned.to_json()
        operations.append(
            (operation_id, wallet.id, str(run.id), nonce, kind.value, text, digest_of(text))
        )
        taken += [(operation_id, leg.id) for leg in chunk]
    if not operations:
        return Intended()
    nonces = len(operations)
    execute("UPDATE wallet SET next_nonce = next_nonce + %s WHERE id = %s", (nonces, wallet.id))
    change_rows(
        "INSERT INTO chain_operation (id, wallet_id, run_id, nonce, kind, unsigned, digest)"
        " VALUES %s",
        operations,
    )
    legs = [leg_id for _, leg_id in taken]
    params = {
        "operations": array_of(operation_id for operation_id, _ in taken),
        "legs": array_of(legs),
        "phase": kind.value,
        "state": "burning" if kind is TxKind.BURN else "paying",
    }
    execute(_TAKE_LEGS, params)
    return Intended([each[0] for each in operations], legs)


def sign(wallet_id: int, operation_ids: Sequence[str], commit: Transaction = transaction) -> int:
    """Sign committed intents and commit the bytes; returns how many. Nothing if halted meanwhile.

    Raises:
        InvariantBroken: a stored transaction is not the one that was intended.
    """
    rows = fetch(
        "SELECT id::text, unsigned, digest FROM chain_operation"
        " WHERE id = ANY(%s::uuid[]) AND state = 'intent' ORDER BY nonce",
        (list(operation_ids),),
    )
    signed = []
    for operation_id, text, digest in rows:
        if digest_of(text) != digest:
            raise InvariantBroken(f"operation {operation_id}: its transaction was changed")
        unsigned = UnsignedTransaction.from_json(text)
        result = ports().signer.sign(unsigned)
        signed.append((result.tx_hash, operation_id, Binary(result.raw), unsigned.fee_cap_units))
    if not signed:
        return 0
    with commit():
        if Wallet.lock(wallet_id).halted_at is not None:
            return 0
        change_rows(
            "INSERT INTO chain_transaction (tx_hash, operation_id, raw, fee_cap_units) VALUES %s"
            " ON CONFLICT (tx_hash) DO NOTHING",
            signed,
        )
        return execute(
            "UPDATE chain_operation SET state = 'signed'"
            " WHERE id = ANY(%s::uuid[]) AND state = 'intent'",
            ([operation_id for _, operation_id, _, _ in signed],),
        )


def broadcast(wallet_id: int, operation_ids: Sequence[str], chain: Chain | None = None) -> int:
    """`send`, and commit that it was tried; returns how many were sent."""
    sent = send(operation_ids, chain)
    if sent:
        with transaction():
            Wallet.lock(wallet_id)
            note_sent(sent)
    return len(sent)


def send(operation_ids: Sequence[str], chain: Chain | None = None) -> list[str]:
    """Hand the stored bytes of signed operations to the network, lowest nonce first.

    No answer decides anything: settlement looks for the receipt. Returns the ids of the sent.
    """
    rows = fetch(
        "SELECT DISTINCT ON (o.nonce) o.id::text, t.tx_hash, t.raw"
        " FROM chain_operation o JOIN chain_transaction t ON t.operation_id = o.id"
        " WHERE o.id = ANY(%s::uuid[]) AND o.state = 'signed'"
        " ORDER BY o.nonce, t.fee_cap_units DESC",
        (list(operation_ids),),
    )
    chain = chain or ports().chain
    for operation_id, tx_hash, raw in rows:
        try:
            chain.broadcast(SignedTransaction(tx_hash, bytes(raw)))
        except (BroadcastRefused, ChainUnavailable) as answer:
            log.info("broadcast answered", operation=operation_id, tx=tx_hash, answer=str(answer))
    return [operation_id for operation_id, _, _ in rows]


def note_sent(operation_ids: Sequence[str]) -> None:
    """Remember when they were sent, in the open transaction, under the wallet's lock."""
    if operation_ids:
        execute(
            "UPDATE chain_operation SET last_broadcast_at = overnight_now(),"
            " broadcast_count = broadcast_count + 1 WHERE id = ANY(%s::uuid[])",
            (list(operation_ids),),
        )


def digest_of(text: str) -> str:
    """As UnsignedTransaction.digest, of the text that is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def _chunks(due: Sequence[DueLeg]) -> list[list[DueLeg]]:
    """One transaction each: full batches, and a leg whose batch reverted before on its own."""
    together = [leg for leg in due if not leg.alone]
    size = policy().legs_per_transaction
    batches = [together[i : i + size] for i in range(0, len(together), size)]
    return batches + [[leg] for leg in due if leg.alone]
