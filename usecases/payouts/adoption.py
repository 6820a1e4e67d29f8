"""Adopt what the chain knows of our wallet and this database does not.

    look (outside) → lock → reopen what a deep reorg took back → import what carries our refs
                   → fill lost nonces → what is left, a person must resolve

After a restored backup, a foreign use of the key, or a reorg deeper than finality. Signs nothing.
Can be repeated: each time it goes as far as what is final allows.
"""

from dataclasses import dataclass

from domain.errors import Rejected
from domain.ids import new_id
from models.database import db, execute, fetch, transaction
from models.payouts import Wallet
from providers.chain import KnownTransaction, TxKind, UnsignedTransaction
from providers.ports import policy, ports
from usecases.payouts.decisions import decide
from usecases.payouts.matching import NotMatched, import_transaction
from usecases.payouts.operations import digest_of
from usecases.payouts.reorged import Recorded, believe, claim_what_came_true, recorded
from usecases.payouts.wallets import Sight, evidence, halt, lock_and_judge, look

#: Hashes that we signed or adopted, and that still stand for their operation.
_KNOWN_HASHES = """
SELECT t.tx_hash FROM chain_transaction t JOIN chain_operation o ON o.id = t.operation_id
WHERE o.wallet_id = %s AND NOT o.displaced AND o.nonce >= %s
"""

_FIRST_OPEN = """
SELECT coalesce(min(nonce), (SELECT next_nonce FROM wallet WHERE id = %(wallet)s))
FROM chain_operation WHERE wallet_id = %(wallet)s AND state NOT IN ('settled', 'void')
"""

_OCCUPIED = """
SELECT nonce FROM chain_operation WHERE wallet_id = %s AND nonce >= %s AND NOT displaced
"""


@dataclass(frozen=True)
class Adopted:
    """A transaction that is an operation of ours now."""

    nonce: int
    tx_hash: str
    kind: str
    legs: int
    height: int | None  # None: still pending


@dataclass(frozen=True)
class Unmatched:
    """A nonce that somebody must explain: `overnight wallet resolve`."""

    nonce: int
    tx_hash: str | None  # None: the node does not show it
    why: str


@dataclass(frozen=True)
class Adoption:
    """What an adoption did, and what is left to do."""

    adopted: list[Adopted]
    unmatched: list[Unmatched]
    reopened: list[int]  # nonces whose operation a deep reorg changed
    filled: list[int]  # nonces whose transaction is lost: an empty one of ours takes them
    halted: str | None


@dataclass(frozen=True)
class Picture:
    """Everything that the node said, read outside of any transaction."""

    sight: Sight
    known: list[KnownTransaction]
    recorded: list[Recorded]


def our_wallet() -> Wallet:
    """The wallet of this process. Raises Rejected when it is not bound, or not of this place."""
    chain_id, address = ports().chain.chain_id(), ports().signer.address
    wallet = Wallet.get_or_none(Wallet.chain_id == chain_id, Wallet.address == address)
    if wallet is None:
        raise Rejected(
            f"wallet {address} on {chain_id} is not bound yet: the first trigger does it"
        )
    if wallet.environment_id != policy().environment_id:
        raise Rejected(
            f"wallet {address} belongs to environment {wallet.environment_id!r}, this is "
            f"{policy().environment_id!r}: decide there"
        )
    return wallet


def adopt_wallet(by: str) -> Adoption:
    """Import what is ours, reopen what a deep reorg took back, and say what nobody can match.

    Raises:
        Rejected: no such wallet, or the node is behind or moved meanwhile: try again.
        ChainUnavailable: the node did not answer; nothing was changed.
    """
    wallet = our_wallet()
    picture = look_closely(wallet)
    with transaction():
        wallet = lock_and_judge(wallet.id, picture.sight)
        strangers = _strangers(wallet, picture)
        if strangers and wallet.halted_at is None:
            halt(
                wallet.id, f"transactions that this database does not know ({evidence(strangers)})"
            )
        reopened: list[int] = []
        if picture.sight.checkpoint_is_gone:
            reopened = believe(wallet.id, picture.sight.head, picture.recorded)
        reopened += claim_what_came_true(wallet.id)
        adopted, unmatched = _import(wallet, strangers, picture)
        filled, lost = fill_nonces(wallet.id, picture, {item.nonce for item in unmatched})
        unmatched += lost
        wallet = Wallet.lock(wallet.id)
        if adopted or reopened or filled or picture.sight.checkpoint_is_gone:
            note = (
                f"adopted {len(adopted)}, reopened {len(reopened)}, filled {len(filled)}, "
                f"unmatched {len(unmatched)}"
            )
            decide("adopt", by, wallet_id=wallet.id, note=note)
    return Adoption(adopted, unmatched, reopened, filled, wallet.halt_reason)


def look_closely(wallet: Wallet) -> Picture:
    """What the node knows from our first open nonce on; after a deep reorg, of all operations.

    Raises:
        Rejected: the node is behind, or the chain moved below its final block meanwhile.
    """
    sight = look(wallet)
    if sight.is_behind and not sight.checkpoint_is_gone:
        raise Rejected("the node is behind the last block that was final: try again later")
    [(first,)] = fetch(_FIRST_OPEN, {"wallet": wallet.id})
    known = ports().chain.transactions_of(wallet.address, min(int(first), sight.next_nonce))
    past = recorded(wallet.id) if sight.checkpoint_is_gone else []
    head = sight.head
    if ports().chain.block_hash(head.final_height) != head.final_hash:
        raise Rejected("the chain changed while it was read: try again")
    return Picture(sight, known, past)


def _strangers(wallet: Wallet, picture: Picture) -> list[KnownTransaction]:
    """What the node shows and no operation of ours stands for, by nonce."""
    first = min((known.transaction.nonce for known in picture.known), default=0)
    ours = {tx_hash for (tx_hash,) in fetch(_KNOWN_HASHES, (wallet.id, first))}
    return [known for known in picture.known if known.tx_hash not in ours]


def _import(
    wallet: Wallet, strangers: list[KnownTransaction], picture: Picture
) -> tuple[list[Adopted], list[Unmatched]]:
    adopted, unmatched = [], []
    for known in strangers:
        nonce = known.transaction.nonce
        height = known.receipt.height if known.receipt else None
        try:
            with db.savepoint():
                legs = import_transaction(wallet, known, picture.sight.head)
        except NotMatched as why:
            unmatched.append(Unmatched(nonce, known.tx_hash, str(why)))
        else:
            kind = known.transaction.kind.value
            adopted.append(Adopted(nonce, known.tx_hash, kind, legs, height))
    return adopted, unmatched


def fill_nonces(
    wallet_id: int, picture: Picture, unmatched: set[int]
) -> tuple[list[int], list[Unmatched]]:
    """Give every nonce up to the highest one an operation, and go on behind them.

    A lost nonce (later ones are in use, the chain still waits for it) gets an empty transaction;
    so does one before our first, which was used by a block that was reorganised away.
    One that the chain has consumed, by a transaction that the node does not show, is unmatched.
    """
    wallet = Wallet.lock(wallet_id)
    chain_next = picture.sight.next_nonce
    start = min(wallet.next_nonce, chain_next)
    occupied = {int(nonce) for (nonce,) in fetch(_OCCUPIED, (wallet_id, start))}
    top = max(occupied | unmatched | {chain_next - 1, wallet.next_nonce - 1})
    filled, lost = [], []
    for nonce in range(start, top + 1):
        if nonce in occupied or nonce in unmatched:
            continue
        if nonce < chain_next:
            lost.append(Unmatched(nonce, None, "the node does not show what used this nonce"))
            continue
        _insert_empty(wallet, nonce)
        occupied.add(nonce)
        filled.append(nonce)
    advance(wallet_id)
    return filled, lost


def advance(wallet_id: int) -> None:
    """Let the wallet's next nonce be the first that no operation has."""
    wallet = Wallet.lock(wallet_id)
    occupied = {int(nonce) for (nonce,) in fetch(_OCCUPIED, (wallet_id, wallet.next_nonce))}
    following = wallet.next_nonce
    while following in occupied:
        following += 1
    execute("UPDATE wallet SET next_nonce = %s WHERE id = %s", (following, wallet_id))


def _insert_empty(wallet: Wallet, nonce: int) -> None:
    """Commit to an empty transaction; it is signed when the wallet is resumed."""
    unsigned = UnsignedTransaction(
        wallet.chain_id, wallet.address, nonce, TxKind.TRANSFER, "", (), policy().fee_cap_units
    )
    text = unsigned.to_json()
    execute(
        "INSERT INTO chain_operation (id, wallet_id, nonce, kind, unsigned, digest)"
        " VALUES (%s, %s, %s, 'transfer', %s, %s)",
        (str(new_id()), wallet.id, nonce, text, digest_of(text)),
    )
