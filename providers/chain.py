"""The chain as Overnight sees it: a protocol, and the values that cross it.

    build UnsignedTransaction → sign (pure, deterministic) → persist → broadcast → receipts → final

Amounts are integers of the token's smallest unit. A hash is known before anything is sent.
A broadcast's answer, and a receipt that is missing, prove nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from domain.errors import Outage, OvernightError


class ChainUnavailable(Outage):
    """The node did not answer, or not in time: whatever was sent may have been accepted."""


class BroadcastRefused(OvernightError):
    """The node answered no. `reason` is for logs and hints only: it never decides a payment."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TxKind(StrEnum):
    """What a transaction does with each of its items."""

    BURN = "burn"  # take bond tokens (contract, token_id) from the holder
    TRANSFER = "transfer"  # pay the payment token from the sender to the holder


@dataclass(frozen=True)
class TxItem:
    """One leg inside a transaction. `ref` (64 hex digits) can be used once, ever, per kind.

    A burn has one item per (holder, token_id) of the leg, and they share the leg's ref;
    a transfer has exactly one item per leg and its token_id is None.
    """

    ref: str
    address: str
    units: int
    token_id: int | None = None


@dataclass(frozen=True)
class UnsignedTransaction:
    """Everything that is signed. All items take effect together, or none does."""

    chain_id: str
    sender: str
    nonce: int
    kind: TxKind
    contract: str  # the bond's contract for a burn, the payment token's name for a transfer
    items: tuple[TxItem, ...]
    fee_cap_units: int  # the most that this transaction may cost, in the chain's own coin

    def to_json(self) -> str:
        """The canonical text: sorted keys, no spaces, integers as they are."""
        fields = {**vars(self), "items": [vars(item) for item in self.items]}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "UnsignedTransaction":
        """The inverse of `to_json`."""
        fields = json.loads(text)
        fields["kind"] = TxKind(fields["kind"])
        fields["items"] = tuple(TxItem(**item) for item in fields["items"])
        return cls(**fields)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical text, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class SignedTransaction:
    """The bytes to broadcast, as often as needed, and the hash by which they are found."""

    tx_hash: str
    raw: bytes


@dataclass(frozen=True)
class Head:
    """The newest block, and the newest that can no longer change."""

    height: int
    block_hash: str
    final_height: int
    final_hash: str


@dataclass(frozen=True)
class Receipt:
    """A mined transaction: it consumed its nonce. Provisional until `height` is final."""

    tx_hash: str
    height: int
    block_hash: str
    succeeded: bool
    revert_reason: str | None = None
    failed_item: int | None = None  # index into items, where the chain tells


@dataclass(frozen=True)
class KnownTransaction:
    """What a node can show of an account: mined if it has a receipt, else pending."""

    tx_hash: str
    transaction: UnsignedTransaction
    raw: bytes
    receipt: Receipt | None


@dataclass(frozen=True)
class Effect:
    """What the chain's own ledger says a ref did, in a block that is final."""

    ref: str
    kind: TxKind
    address: str
    units: int  # summed over the items that share the ref
    tx_hash: str
    height: int


class Signer(Protocol):
    """Holds a wallet's key. Signing is local, pure and deterministic: same input, same bytes."""

    @property
    def address(self) -> str:
        """The wallet's checksummed address."""

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Sign; raises ValueError when `transaction.sender` is another address."""


class Chain(Protocol):
    """A node. Every method may raise ChainUnavailable; only broadcast raises BroadcastRefused."""

    def chain_id(self) -> str:
        """The network's identity; a wallet is bound to it."""

    def head(self) -> Head:
        """The newest and the final block."""

    def block_hash(self, height: int) -> str | None:
        """The hash of the block at `height` on today's best chain; None above the head."""

    def next_nonce(self, address: str) -> int:
        """How many transactions of `address` are mined at the head: the next nonce it accepts."""

    def token_balance(self, token: str, address: str, height: int) -> int:
        """Payment tokens of `address` after block `height`, in units."""

    def coin_balance(self, address: str, height: int) -> int:
        """The chain's own coin (pays fees) of `address` after block `height`, in units."""

    def bond_balances(
        self, contract: str, positions: Sequence[tuple[str, int]], height: int
    ) -> dict[tuple[str, int], int]:
        """Bond tokens per (address, token_id) after block `height`; unknown positions are 0."""

    def broadcast(self, signed: SignedTransaction) -> None:
        """Hand the bytes to the network. Returning, refusing or timing out proves nothing."""

    def receipts(self, tx_hashes: Sequence[str]) -> dict[str, Receipt]:
        """Receipts of those hashes that are mined on today's best chain; the others are absent."""

    def effects(self, refs: Sequence[str], kind: TxKind, height: int) -> dict[str, Effect]:
        """What the ledger says these refs did in blocks up to `height`; unused refs are absent."""

    def transactions_of(self, address: str, from_nonce: int = 0) -> list[KnownTransaction]:
        """What the node knows of `address`, mined and pending, from a nonce on, by nonce.

        A pending transaction that is missing proves nothing: other nodes may hold it.
        """
