"""What a node takes from the wire, and what it answers when it does not.

    decoded transaction → checks against the head → pending, in place of a cheaper one

Refusals speak in the words of different nodes, chosen by the hash: nobody may rely on them.
"""

from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from mocks.chain.database import row_of
from mocks.chain.execution import COIN, fee_of
from mocks.chain.mining import ChainState
from mocks.chain.signing import is_address
from providers.chain import BroadcastRefused, SignedTransaction, TxKind, UnsignedTransaction

# Nodes replace a pending transaction only for at least this much more.
REPLACEMENT_PERCENT = 110

KNOWN = (
    "already known",
    "Transaction with the same hash was already imported.",
    "Known transaction",
)
TOO_LOW = (
    "nonce too low: next nonce {next}, tx nonce {nonce}",
    "Transaction nonce is too low. Try incrementing the nonce.",
    "OldNonce",
)
TOO_HIGH = (
    "Nonce too high. Expected nonce to be {next} but got {nonce}.",
    "nonce too far in the future",
    "NonceGap",
)
UNDERPRICED = (
    "replacement transaction underpriced",
    "Transaction gas price is too low. There is another transaction with same nonce in the queue.",
    "ReplacementNotAllowed",
)
NO_COIN = (
    "insufficient funds for gas * price + value",
    "InsufficientFunds",
    "upfront cost exceeds",
)


@dataclass(frozen=True)
class _View:
    """What the database knows about one incoming transaction."""

    status: str | None
    next_nonce: int
    pending: int
    rival_hash: str | None
    rival_cap: int | None
    coin: int


_VIEW = """
SELECT (SELECT status FROM tx WHERE tx_hash = %(hash)s),
       (SELECT COALESCE(max(nonce) + 1, 0) FROM tx WHERE sender = %(sender)s AND status = 'mined'),
       (SELECT count(*) FROM tx WHERE sender = %(sender)s AND status = 'pending'),
       (SELECT tx_hash FROM tx
         WHERE sender = %(sender)s AND nonce = %(nonce)s AND status = 'pending'),
       (SELECT fee_cap_units FROM tx
         WHERE sender = %(sender)s AND nonce = %(nonce)s AND status = 'pending'),
       COALESCE((SELECT balance_units FROM ledger
         WHERE canonical AND asset = %(coin)s AND address = %(sender)s
         ORDER BY height DESC, position DESC LIMIT 1), 0)
"""

_ACCEPT = """
INSERT INTO tx (tx_hash, sender, nonce, kind, raw, fee_cap_units, status)
VALUES (%(hash)s, %(sender)s, %(nonce)s, %(kind)s, %(raw)s, %(fee_cap)s, 'pending')
ON CONFLICT (tx_hash) DO UPDATE SET status = 'pending'
"""


def refusal(texts: tuple[str, ...], tx_hash: str, **values: int) -> BroadcastRefused:
    """One node's words for it; the same hash always meets the same node."""
    return BroadcastRefused(texts[int(tx_hash[-2:], 16) % len(texts)].format(**values))


def check_items(transaction: UnsignedTransaction) -> None:
    """What a node sees without its database, and without its lock. Raises BroadcastRefused."""
    for index, item in enumerate(transaction.items):
        if not is_address(item.address):
            raise BroadcastRefused(f"item {index}: bad address checksum")
        if item.units < 0:
            raise BroadcastRefused(f"item {index}: negative amount")
        if (item.token_id is None) is (transaction.kind is TxKind.BURN):
            raise BroadcastRefused(f"item {index}: a burn needs a token id, a transfer has none")


def _check_terms(state: ChainState, transaction: UnsignedTransaction) -> None:
    have, want = transaction.chain_id, state.options.chain_id
    if have != want:
        raise BroadcastRefused(f"invalid chain id for signer: have {have} want {want}")
    if fee_of(transaction, state.options.fee_per_item_units) > transaction.fee_cap_units:
        raise BroadcastRefused("max fee per gas less than block base fee")


def accept(
    cursor: Cursor, state: ChainState, signed: SignedTransaction, transaction: UnsignedTransaction
) -> None:
    """Make it pending, under the chain's lock; its items were checked. Raises BroadcastRefused."""
    _check_terms(state, transaction)
    nonce, tx_hash = transaction.nonce, signed.tx_hash
    values = {
        "hash": tx_hash,
        "sender": transaction.sender,
        "nonce": nonce,
        "kind": transaction.kind.value,
        "raw": signed.raw,
        "fee_cap": transaction.fee_cap_units,
        "coin": COIN,
    }
    cursor.execute(_VIEW, values)
    view = _View(*row_of(cursor))
    if view.status in ("pending", "mined"):
        raise refusal(KNOWN, tx_hash)
    if nonce < view.next_nonce:
        raise refusal(TOO_LOW, tx_hash, next=view.next_nonce, nonce=nonce)
    bound = state.options.max_pending_per_sender
    if view.rival_hash is None and (nonce >= view.next_nonce + bound or view.pending >= bound):
        raise refusal(TOO_HIGH, tx_hash, next=view.next_nonce, nonce=nonce)
    if view.coin < fee_of(transaction, state.options.fee_per_item_units):
        raise refusal(NO_COIN, tx_hash)
    if view.rival_cap is not None:
        if transaction.fee_cap_units * 100 < view.rival_cap * REPLACEMENT_PERCENT:
            raise refusal(UNDERPRICED, tx_hash)
        cursor.execute("UPDATE tx SET status = 'replaced' WHERE tx_hash = %s", (view.rival_hash,))
    cursor.execute(_ACCEPT, values)


def drop(cursor: Cursor, tx_hash: str) -> bool:
    """Forget a pending transaction, silently. Whether there was one."""
    cursor.execute(
        "UPDATE tx SET status = 'dropped' WHERE tx_hash = %s AND status = 'pending'", (tx_hash,)
    )
    return cursor.rowcount == 1
