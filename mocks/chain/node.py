"""MockChain: the protocol's calls, each as a process of the outside world would meet them.

call → due blocks are mined → faults strike → one statement (or one accepted transaction)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from mocks.chain import ledger, mempool, mining
from mocks.chain.database import row_of, transaction
from mocks.chain.execution import COIN, Account, bond_asset, token_asset
from mocks.chain.faults import FaultKind, FaultRule, meet
from mocks.chain.signing import body_of, decode
from mocks.chain.steering import Steering
from providers.chain import (
    BroadcastRefused,
    ChainUnavailable,
    Effect,
    Head,
    KnownTransaction,
    Receipt,
    SignedTransaction,
    TxKind,
    UnsignedTransaction,
)

Struck = dict[FaultKind, FaultRule]


class MockChain(Steering):
    """A node of the mock chain. Implements `providers.chain.Chain`; safe for threads and forks."""

    def chain_id(self) -> str:
        """The network's identity; a wallet is bound to it."""
        with self._call("chain_id") as (cursor, _):
            return mining.read_state(cursor).options.chain_id

    def head(self) -> Head:
        """The newest and the final block."""
        with self._call("head") as (cursor, _):
            cursor.execute(
                "SELECT c.height, c.block_hash, b.height, b.block_hash FROM chain c JOIN block b"
                " ON b.canonical AND b.height = greatest(0, c.height - c.finality_depth)"
            )
            return Head(*row_of(cursor))

    def block_hash(self, height: int) -> str | None:
        """The hash of the block at `height` on today's best chain; None above the head."""
        with self._call("block_hash") as (cursor, _):
            cursor.execute(
                "SELECT block_hash FROM block WHERE canonical AND height = %s", (height,)
            )
            row = cursor.fetchone()
            return None if row is None else str(row[0])

    def next_nonce(self, address: str) -> int:
        """How many transactions of `address` are mined at the head: the next nonce it accepts."""
        with self._call("next_nonce") as (cursor, _):
            cursor.execute(
                "SELECT COALESCE(max(nonce) + 1, 0) FROM tx WHERE sender = %s AND status = 'mined'",
                (address,),
            )
            return int(row_of(cursor)[0])

    def token_balance(self, token: str, address: str, height: int) -> int:
        """Payment tokens of `address` after block `height`, in units."""
        return self._balance("token_balance", (token_asset(token), address), height)

    def coin_balance(self, address: str, height: int) -> int:
        """The chain's own coin (pays fees) of `address` after block `height`, in units."""
        return self._balance("coin_balance", (COIN, address), height)

    def bond_balances(
        self, contract: str, positions: Sequence[tuple[str, int]], height: int
    ) -> dict[tuple[str, int], int]:
        """Bond tokens per (address, token_id) after block `height`; unknown positions are 0."""
        accounts = {p: (bond_asset(contract, p[1]), p[0]) for p in positions}
        with self._call("bond_balances") as (cursor, _):
            found = ledger.load_balances(cursor, accounts.values(), height)
        return {position: found.get(account, 0) for position, account in accounts.items()}

    def receipts(self, tx_hashes: Sequence[str]) -> dict[str, Receipt]:
        """Receipts of those hashes that are mined on today's best chain; the others are absent."""
        with self._call("receipts") as (cursor, _):
            return ledger.load_receipts(cursor, tx_hashes)

    def effects(self, refs: Sequence[str], kind: TxKind, height: int) -> dict[str, Effect]:
        """What the ledger says these refs did in blocks up to `height`; unused refs are absent."""
        with self._call("effects") as (cursor, _):
            return {e.ref: e for e in ledger.load_effects(cursor, kind, height, refs)}

    def transactions_of(self, address: str, from_nonce: int = 0) -> list[KnownTransaction]:
        """Mined and pending transactions of `address`, by nonce: what a wallet adopts."""
        with self._call("transactions_of") as (cursor, _):
            cursor.execute(
                "SELECT tx_hash, raw, height, block_hash, succeeded, revert_reason, failed_item"
                " FROM tx LEFT JOIN block ON block.id = block_id"
                " WHERE sender = %s AND nonce >= %s AND status IN ('mined', 'pending')"
                " ORDER BY nonce",
                (address, from_nonce),
            )
            return [
                KnownTransaction(
                    tx_hash,
                    body_of(bytes(raw)),
                    bytes(raw),
                    None if receipt[0] is None else Receipt(tx_hash, *receipt),
                )
                for tx_hash, raw, *receipt in cursor
            ]

    def broadcast(self, signed: SignedTransaction) -> None:
        """Hand the bytes to the network. Returning, refusing or timing out proves nothing."""
        try:
            body = decode(signed)
        except BroadcastRefused as refused:
            with self._call("broadcast"):
                raise refused from None
        with self._call("broadcast", body) as (cursor, struck):
            if FaultKind.REFUSED in struck:
                raise BroadcastRefused(struck[FaultKind.REFUSED].reason or "refused")
            mempool.check_items(body)
            with transaction(cursor):
                state = mining.mine_due(cursor, mining.lock_state(cursor))
                mempool.accept(cursor, state, signed, body)
                if FaultKind.DROPPED in struck:
                    mempool.drop(cursor, signed.tx_hash)
            if FaultKind.KNOWN in struck:
                raise BroadcastRefused(struck[FaultKind.KNOWN].reason or "already known")

    def _balance(self, op: str, account: Account, height: int) -> int:
        with self._call(op) as (cursor, _):
            return ledger.load_balances(cursor, [account], height).get(account, 0)

    @contextmanager
    def _call(
        self, op: str, body: UnsignedTransaction | None = None
    ) -> Iterator[tuple[Cursor, Struck]]:
        """One call of the protocol, with what may happen to it on the way there and back."""
        with self._database.session() as cursor:
            struck = meet(cursor, op, body) if mining.tick(cursor) else {}
            for kind in (FaultKind.DOWN, FaultKind.REQUEST_LOST):
                if kind in struck:
                    raise ChainUnavailable(f"{op}: no answer from the node")
            refused = None
            try:
                yield cursor, struck
            except BroadcastRefused as error:
                refused = error
            if FaultKind.ANSWER_LOST in struck:
                raise ChainUnavailable(f"{op}: the answer was lost")
            if refused is not None:
                raise refused
