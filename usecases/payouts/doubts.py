"""Doubts: what speaks against a wallet is believed only when time does not explain it.

    evidence at head H → the same evidence when H is final → believed

Two nodes behind one address may contradict each other for a while; a real intruder stays.
"""

from dataclasses import dataclass
from datetime import datetime

from models.payouts import Wallet
from providers.chain import Chain, Head, Receipt
from usecases.payouts.verdict import OpenOperation
from usecases.payouts.wallets import Sight, evidence


@dataclass(frozen=True)
class Evidence:
    """Why a wallet should not sign. The same `about` is the same evidence; `text` is for people."""

    about: tuple[str, int]
    text: str


#: What this process doubts of a wallet, and the height of the head when it first did. Each worker
#: looks for itself; whoever is started anew begins anew.
_doubts: dict[tuple[int, datetime], tuple[tuple[str, int], int]] = {}


def believed(wallet: Wallet, found: Evidence | None, head: Head) -> str | None:
    """The evidence as text once it has persisted; None while time may still explain it."""
    key = (wallet.id, wallet.created_at)
    about, height = _doubts.get(key, (None, 0))
    if found is None:
        _doubts.pop(key, None)
        return None
    if about != found.about:
        _doubts[key] = (found.about, head.height)
        return None
    if head.final_height < height:
        return None
    del _doubts[key]
    return found.text


def evidence_against(
    chain: Chain,
    wallet: Wallet,
    operations: list[OpenOperation],
    receipts: dict[str, Receipt],
    sight: Sight,
) -> Evidence | None:
    """What says that a nonce of ours is used by a stranger, or that one before ours is missing."""
    if operations and sight.next_nonce < operations[0].nonce:
        text = f"the chain waits for nonce {sight.next_nonce}, which no open operation of ours has"
        return Evidence(("missing", sight.next_nonce), text)
    taken = [
        operation
        for operation in operations
        if operation.nonce < sight.next_nonce and operation.receipt_in(receipts) is None
    ]
    if not taken:
        return None
    known = [k for k in chain.transactions_of(wallet.address, taken[0].nonce) if k.receipt]
    ours = {tx_hash for operation in taken for tx_hash in operation.hashes}
    shown = {k.transaction.nonce for k in known if k.tx_hash in ours}
    nonces = [operation.nonce for operation in taken if operation.nonce not in shown]
    if not nonces:
        return None  # mined by ours: another node gave the receipts
    culprits = [k for k in known if k.transaction.nonce in nonces]
    text = f"nonce {nonces[0]} was used on chain by a transaction that is not ours"
    return Evidence(("taken", nonces[0]), f"{text} ({evidence(culprits)})")
