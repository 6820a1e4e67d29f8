"""Settlement: what the chain did with our operations, found by hash and believed at finality.

    receipts of every open hash → mined (provisional) → final → settled: leg burned | paid
                                → reverted and final  → void: legs alone again | held
                                → vanished (reorg), or not mined for long → the same bytes again

A loop of every worker, one at a time per wallet; no job, so nothing that pauses jobs stops it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from domain.errors import InvariantBroken
from models.database import fetch, transaction
from models.payouts import Wallet
from providers.chain import Chain, Head, Receipt
from providers.ports import policy, ports
from usecases.payouts.doubts import believed, evidence_against
from usecases.payouts.operations import broadcast, sign
from usecases.payouts.replacement import replace_stuck
from usecases.payouts.verdict import Found, OpenOperation, Verdict, write
from usecases.payouts.wallets import (
    halt,
    lock_and_judge,
    look,
    our_wallets,
    say_once,
)

#: The first key of our advisory locks; the second is the wallet's id. Any constant of our own.
_LOCK_CLASS = 0x5E77

#: A settler that says nothing to PostgreSQL for this long loses its lock, and its connection.
#: Longer than any call to the node may take; it says something before each.
_SILENCE_LIMIT = "15s"

#: Somebody is told of the first open nonce when it is not mined for this long.
_STUCK_AFTER_S = 900

_LOCK = """
SELECT alone, CASE WHEN alone THEN set_config('idle_session_timeout', %s, false) END
FROM (SELECT pg_try_advisory_lock(%s, %s) AS alone OFFSET 0) AS l
"""

_UNLOCK = "SELECT pg_advisory_unlock(%s, %s), set_config('idle_session_timeout', '0', false)"

_OPEN = """
SELECT o.id::text, o.state, o.nonce, o.mined_height, o.mined_hash,
       NOT overnight_is_recent(coalesce(o.last_broadcast_at, o.created_at),
                               %(patience)s * interval '1 s'),
       o.state <> 'mined' AND o.created_at < overnight_now() - %(stuck)s * interval '1 s',
       coalesce(array_agg(t.tx_hash) FILTER (WHERE t.tx_hash IS NOT NULL), '{}')
FROM chain_operation o LEFT JOIN chain_transaction t ON t.operation_id = o.id
WHERE o.wallet_id = %(wallet)s AND o.state NOT IN ('settled', 'void')
GROUP BY o.id ORDER BY o.nonce
"""

_ORPHANS = """
SELECT id::text FROM chain_operation
WHERE wallet_id = %s AND state = 'intent'
  AND NOT overnight_is_recent(created_at, %s * interval '1 s')
  AND NOT EXISTS (SELECT FROM pause WHERE scope = 'service:maturity')
"""


class _Watched:
    """The node, asked by a settler: before each call, PostgreSQL hears that it is alive."""

    def __getattr__(self, name: str) -> object:
        fetch("SELECT 1")
        return getattr(ports().chain, name)


def settle_once(wallet_id: int) -> bool:
    """Look once at everything that is open in a wallet; True if there was something to do.

    Returns False at once while another process settles the wallet.

    Raises:
        ChainUnavailable: the node did not answer; nothing was concluded.
        InvariantBroken: legs are not in the state that their operation implies. The wallet is
            halted now; all other operations were settled.
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
    chain = cast(Chain, _Watched())
    sight = look(wallet, chain)
    operations = _open_operations(wallet_id)
    if sight.is_behind:
        return False
    receipts = _receipts(chain, operations, sight.head)
    verdict = _judge(operations, sight.head, receipts)
    doubt = intruder = None
    if receipts is not None:
        doubt = evidence_against(chain, wallet, operations, receipts, sight)
        intruder = believed(wallet, doubt, sight.head)
    problems: list[str] = []
    if verdict.changes or intruder or sight.problem_with(wallet):
        with transaction():
            wallet = lock_and_judge(wallet_id, sight)
            if intruder and wallet.halted_at is None:
                halt(wallet_id, intruder)
                wallet = Wallet.lock(wallet_id)
            if sight.checkpoint_is_gone:
                return False  # what is final is in doubt: conclude nothing
            problems = write(wallet_id, verdict, sight.head)
            for problem in problems:
                say_once(problem, f"it is not settled, and the wallet is halted: {problem}")
    if problems and wallet.halted_at is None:
        raise InvariantBroken("; ".join(problems))
    _tell_of_stuck(wallet_id, operations)
    sent = broadcast(wallet_id, verdict.vanished + verdict.unmined, chain)
    signed = 0
    if wallet.halted_at is None and doubt is None:  # last: a signer that fails stops nothing else
        signed = sign(wallet_id, _orphans(wallet_id))
        signed += replace_stuck(wallet_id, sight.next_nonce, chain)
    return bool(signed or sent or (verdict.changes and not problems))


def _tell_of_stuck(wallet_id: int, operations: list[OpenOperation]) -> None:
    """All later nonces wait for the first one."""
    if not operations or not operations[0].is_stuck:
        return
    nonce = operations[0].nonce
    with transaction():
        Wallet.lock(wallet_id)
        say_once(
            f"wallet {wallet_id} nonce {nonce} unmined",
            f"not mined for {_STUCK_AFTER_S // 60} minutes, and nothing after it can be: look at "
            "the node, the fees and the signer",
        )


def _orphans(wallet_id: int) -> list[str]:
    """Committed intents whose worker is gone; nothing while maturity payouts are paused."""
    return [str(row[0]) for row in fetch(_ORPHANS, (wallet_id, policy().orphan_after_s))]


def _open_operations(wallet_id: int) -> list[OpenOperation]:
    params = {
        "wallet": wallet_id,
        "patience": policy().rebroadcast_after_s,
        "stuck": _STUCK_AFTER_S,
    }
    return [OpenOperation(*row) for row in fetch(_OPEN, params)]


def _receipts(
    chain: Chain, operations: list[OpenOperation], head: Head
) -> dict[str, Receipt] | None:
    """Receipts of all open hashes; None if the chain changed below `head`'s final block meanwhile.

    The final block is asked for again afterwards: if it is still there, every receipt at or below
    its height belongs to the chain that cannot change any more.
    """
    if not operations:
        return {}
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
