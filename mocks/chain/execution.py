"""What a transaction does to balances: pure, no database.

    World (balances, used refs) → execute → Outcome (entries for the ledger, or a revert)

All items take effect or none; a revert still consumes the nonce and the fee.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from providers.chain import TxItem, TxKind, UnsignedTransaction

COIN = "coin"

Account = tuple[str, str]  # (asset, address)


def token_asset(token: str) -> str:
    """The ledger's name for a payment token."""
    return f"token:{token}"


def bond_asset(contract: str, token_id: int) -> str:
    """The ledger's name for one series of a bond's contract."""
    return f"bond:{contract}:{token_id}"


@dataclass(frozen=True)
class Entry:
    """One row of the ledger: a change, and the balance after it."""

    kind: str
    asset: str
    address: str
    delta_units: int
    balance_units: int
    ref: str | None = None
    tx_hash: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a mined transaction ended."""

    succeeded: bool
    revert_reason: str | None = None
    failed_item: int | None = None


class Reverted(Exception):
    """An item can't take effect, so none does. Ends in an Outcome, never leaves this module."""

    def __init__(self, reason: str, item: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.item = item


@dataclass
class World:
    """What one block needs to know, and what it wrote so far."""

    balances: dict[Account, int] = field(default_factory=dict)
    used_refs: set[tuple[str, str]] = field(default_factory=set)  # (kind, ref)
    verified: set[str] | None = None  # None: the token does not ask the registry
    entries: list[Entry] = field(default_factory=list)

    def add(
        self,
        kind: str,
        account: Account,
        delta_units: int,
        ref: str | None = None,
        tx_hash: str | None = None,
    ) -> None:
        """Append an entry."""
        balance = self.balances.get(account, 0) + delta_units
        self.balances[account] = balance
        self.entries.append(Entry(kind, *account, delta_units, balance, ref, tx_hash))


def fee_of(transaction: UnsignedTransaction, fee_per_item_units: int) -> int:
    """What a transaction costs, in coin: per item, and an empty one (a cancel) counts as one."""
    return fee_per_item_units * max(1, len(transaction.items))


def accounts_of(transaction: UnsignedTransaction) -> Iterator[Account]:
    """Every account that executing it may read."""
    yield COIN, transaction.sender
    if transaction.kind is TxKind.TRANSFER:
        asset = token_asset(transaction.contract)
        yield asset, transaction.sender
        yield from ((asset, item.address) for item in transaction.items)
    else:
        yield from (_burnt(transaction, item) for item in transaction.items)


def can_pay(world: World, transaction: UnsignedTransaction, fee_units: int) -> bool:
    """Whether it can be in a block now; if not, it waits in the mempool."""
    coin = world.balances.get((COIN, transaction.sender), 0)
    return fee_units <= transaction.fee_cap_units and fee_units <= coin


def execute(
    world: World,
    transaction: UnsignedTransaction,
    tx_hash: str,
    fee_units: int,
    forced_revert: str | None = None,
) -> Outcome:
    """Run a transaction that can pay its fee."""
    world.add("fee", (COIN, transaction.sender), -fee_units, tx_hash=tx_hash)
    before, mark = dict[Account, int](), len(world.entries)
    for account in accounts_of(transaction):
        before[account] = world.balances.get(account, 0)
    try:
        if forced_revert is not None:
            raise Reverted(forced_revert, 0 if transaction.items else None)
        refs = _claim_refs(world, transaction)
        if transaction.kind is TxKind.TRANSFER:
            _transfer(world, transaction, tx_hash)
        else:
            _burn(world, transaction, tx_hash)
    except Reverted as revert:
        del world.entries[mark:]
        world.balances.update(before)
        return Outcome(False, revert.reason, revert.item)
    world.used_refs |= refs
    return Outcome(True)


def _claim_refs(world: World, transaction: UnsignedTransaction) -> set[tuple[str, str]]:
    """The refs it takes. Items of one burn share their leg's ref, for one holder."""
    holder_of: dict[str, str] = {}
    for index, item in enumerate(transaction.items):
        used = (transaction.kind.value, item.ref) in world.used_refs
        if item.ref in holder_of:
            same_leg = holder_of[item.ref] == item.address
            used = used or transaction.kind is TxKind.TRANSFER or not same_leg
        if used:
            raise Reverted("ref already used", index)
        holder_of[item.ref] = item.address
    return {(transaction.kind.value, ref) for ref in holder_of}


def _transfer(world: World, transaction: UnsignedTransaction, tx_hash: str) -> None:
    asset = token_asset(transaction.contract)
    payer = (asset, transaction.sender)
    left = world.balances.get(payer, 0)
    for index, item in enumerate(transaction.items):
        if world.verified is not None and item.address not in world.verified:
            raise Reverted("not verified", index)
        left -= item.units
        if left < 0:
            raise Reverted("insufficient balance", index)
    if transaction.items:
        world.add("debit", payer, -sum(i.units for i in transaction.items), tx_hash=tx_hash)
    for item in transaction.items:
        world.add("transfer", (asset, item.address), item.units, item.ref, tx_hash)


def _burn(world: World, transaction: UnsignedTransaction, tx_hash: str) -> None:
    for index, item in enumerate(transaction.items):
        account = _burnt(transaction, item)
        if world.balances.get(account, 0) < item.units:
            raise Reverted("burn amount exceeds balance", index)
        world.add("burn", account, -item.units, item.ref, tx_hash)


def _burnt(transaction: UnsignedTransaction, item: TxItem) -> Account:
    assert item.token_id is not None  # the mempool refuses a burn without
    return bond_asset(transaction.contract, item.token_id), item.address
