"""What a person, a test or the demo does to the mock chain, and what it can see of it.

Nothing here meets a fault. Grants (fund, mint, move) get a block of their own, provisional like
any other: `finalize()` buries it. Amounts are integers of the smallest unit.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self, Unpack

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from domain.errors import Rejected
from mocks.chain import ledger, mempool, mining, schema
from mocks.chain.database import Database, row_of
from mocks.chain.execution import COIN, Account, bond_asset, token_asset
from mocks.chain.faults import (
    FaultKind,
    FaultRule,
    add_rule,
    add_seeded_rules,
    load_rules,
)
from mocks.chain.options import ChainOptions, OptionChanges
from mocks.chain.signing import hash_of
from providers.chain import ChainUnavailable, Effect, TxKind

PLT = "PLT"  # the payment token that settings.py names by default


@dataclass(frozen=True)
class ChainStatus:
    """The chain at a glance."""

    options: ChainOptions
    height: int
    block_hash: str
    final_height: int
    transactions: dict[str, int]  # by status
    verified: int
    totals: dict[str, int]  # units by asset


class Steering:
    """The half of MockChain that production code never sees."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, ChainUnavailable)

    @classmethod
    def create(cls, url: str, **options: Unpack[OptionChanges]) -> Self:
        """The chain at `url`: database, tables and genesis, unless they exist already.

        An existing chain keeps its options. Raises Rejected when it has another chain id.
        """
        schema.create_database(url)
        chain = cls(url)
        with chain._database.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (schema.SCHEMA_LOCK,))
            cursor.execute(schema.SCHEMA)
            cursor.execute("SELECT chain_id FROM chain")
            row = cursor.fetchone()
            if row is None:
                _genesis(cursor, ChainOptions(**options))
            elif options.get("chain_id", row[0]) != row[0]:
                raise Rejected(f"the mock chain there is {row[0]!r}, not {options['chain_id']!r}")
        return chain

    def close(self) -> None:
        """Close the connections. The object can be used again."""
        self._database.close()

    def destroy(self) -> None:
        """Drop the whole database, whoever uses it."""
        self.close()
        schema.drop_database(self._database.url)

    def reset(self, **changes: Unpack[OptionChanges]) -> None:
        """Back to genesis with the same options, but for `changes`; nobody stays verified."""
        with self._database.transaction() as cursor:
            cursor.execute("LOCK chain")  # ahead of those who wait for its row
            options = replace(mining.lock_state(cursor).options, **changes)
            cursor.execute(f"TRUNCATE {schema.TABLES} RESTART IDENTITY")
            _genesis(cursor, options)

    def configure(self, **changes: Unpack[OptionChanges]) -> None:
        """Change options of the running chain."""
        with self._database.transaction() as cursor:
            for name, value in changes.items():
                cursor.execute(
                    sql.SQL("UPDATE chain SET {} = %s").format(sql.Identifier(name)), (value,)
                )

    def mine(self, blocks: int = 1) -> int:
        """Make blocks now; returns the height."""
        with self._database.transaction() as cursor:
            state = mining.lock_state(cursor)
            return mining.mine_blocks(cursor, state, blocks).height

    def finalize(self) -> int:
        """Make as many blocks as bury today's head; returns the new height."""
        with self._database.transaction() as cursor:
            state = mining.lock_state(cursor)
            return mining.mine_blocks(cursor, state, state.options.finality_depth).height

    def reorg(self, depth: int, drop: Sequence[str] | None = (), *, reinclude: bool = False) -> int:
        """Replace the top `depth` blocks by `depth` + 1 others; returns the height.

        Their transactions are pending again, but those in `drop` (None: all) are gone. The new
        branch is empty unless `reinclude`; fund, mint and move survive. Deeper than finality is
        allowed: that is the point.
        """
        with self._database.transaction() as cursor:
            state = mining.lock_state(cursor)
            return mining.reorganise(cursor, state, depth, drop, reinclude).height

    def fund(
        self, address: str, *, token: str = PLT, token_units: int = 0, coin_units: int = 0
    ) -> None:
        """Give payment tokens and coin (for fees); negative units take them away."""
        wanted = [((token_asset(token), address), token_units), ((COIN, address), coin_units)]
        self._grant([(account, units) for account, units in wanted if units])

    def mint(self, contract: str, holdings: Iterable[tuple[str, int, int]]) -> None:
        """Issue bond tokens to (holder, token_id, units), any number of them in one block."""
        self._grant([((bond_asset(contract, i), holder), units) for holder, i, units in holdings])

    def move(self, contract: str, token_id: int, source: str, target: str, units: int) -> None:
        """A holder sells: bond tokens go from `source` to `target`."""
        asset = bond_asset(contract, token_id)
        self._grant([((asset, source), -units), ((asset, target), units)])

    def _grant(self, grants: Sequence[tuple[Account, int]]) -> None:
        with self._database.transaction() as cursor:
            state = mining.mine_due(cursor, mining.lock_state(cursor))
            mining.mine_blocks(cursor, state, 1, grants=grants)

    def verify(self, addresses: Collection[str]) -> None:
        """Put addresses on the whitelist."""
        with self._database.session() as cursor:
            cursor.execute(
                "INSERT INTO identity SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
                (list(addresses),),
            )

    def unverify(self, addresses: Collection[str]) -> None:
        """Take addresses off the whitelist."""
        with self._database.session() as cursor:
            cursor.execute("DELETE FROM identity WHERE address = ANY(%s)", (list(addresses),))

    def pending(self, sender: str | None = None) -> list[str]:
        """Hashes in the mempool, of one sender or all, in order of arrival."""
        with self._database.session() as cursor:
            cursor.execute(
                "SELECT tx_hash FROM tx WHERE status = 'pending' AND (%s OR sender = %s)"
                " ORDER BY arrived",
                (sender is None, sender),
            )
            return [tx_hash for (tx_hash,) in cursor]

    def drop(self, tx_hash: str) -> bool:
        """Forget a pending transaction, silently. Whether there was one."""
        with self._database.session() as cursor:
            return mempool.drop(cursor, tx_hash)

    def fault(
        self,
        kind: FaultKind | str,
        *,
        op: str | None = None,
        probability: float = 1.0,
        times: int | None = 1,
        nonce: int | None = None,
        tx_kind: TxKind | None = None,
        reason: str | None = None,
        latency_ms: int = 0,
        for_seconds: float | None = None,
    ) -> int:
        """Let calls of `op` (a method of Chain, "*" for all) fail; returns the rule's id.

        Strikes the next `times` matching calls (None: until cleared), each with `probability`.
        """
        with self._database.session() as cursor:
            return add_rule(
                cursor,
                FaultKind(kind),
                op=op,
                probability=probability,
                times=times,
                nonce=nonce,
                tx_kind=tx_kind,
                reason=reason,
                latency_ms=latency_ms,
                for_seconds=for_seconds,
            )

    def seed_faults(self, seed: int, rate: float) -> None:
        """Transient faults at `rate` per call until cleared: lost answers and requests, drops."""
        with self._database.transaction() as cursor:
            add_seeded_rules(cursor, seed, rate)

    def faults(self) -> list[FaultRule]:
        """The rules in force, oldest first."""
        with self._database.session() as cursor:
            return load_rules(cursor)

    def clear_faults(self, kind: FaultKind | str | None = None) -> int:
        """Forget the rules of `kind`, or all; returns how many."""
        with self._database.session() as cursor:
            cursor.execute("DELETE FROM fault WHERE kind = %s OR %s", (kind, kind is None))
            return cursor.rowcount

    def all_effects(self, kind: TxKind, height: int = ledger.ANY_HEIGHT) -> list[Effect]:
        """Everything of `kind` that the canonical ledger holds: what a proof compares with."""
        with self._database.session() as cursor:
            return ledger.load_effects(cursor, kind, height)

    def holdings(
        self, contract: str, height: int = ledger.ANY_HEIGHT
    ) -> dict[tuple[str, int], int]:
        """Bond tokens above zero per (holder, token_id) of one contract."""
        prefix = bond_asset(contract, 0)[:-1]
        with self._database.session() as cursor:
            found = ledger.load_holdings(cursor, prefix, height)
        return {
            (holder, int(asset.removeprefix(prefix))): units
            for (asset, holder), units in found.items()
        }

    def ledger_totals(self, height: int = ledger.ANY_HEIGHT) -> dict[str, int]:
        """The supply of every asset, in units: grants minus burns and fees."""
        with self._database.session() as cursor:
            return ledger.load_totals(cursor, height)

    def status(self) -> ChainStatus:
        """The chain at a glance."""
        with self._database.session() as cursor:
            state = mining.read_state(cursor)
            cursor.execute("SELECT status, count(*) FROM tx GROUP BY status ORDER BY status")
            transactions = dict(cursor.fetchall())
            cursor.execute("SELECT count(*) FROM identity")
            verified = int(row_of(cursor)[0])
            totals = ledger.load_totals(cursor)
        final_height = max(0, state.height - state.options.finality_depth)
        return ChainStatus(
            state.options, state.height, state.block_hash, final_height, transactions, verified,
            totals,
        )  # fmt: skip


def _genesis(cursor: Cursor, options: ChainOptions) -> None:
    block_hash = hash_of(f"genesis of {options.chain_id}".encode())
    cursor.execute("INSERT INTO block (height, block_hash) VALUES (0, %s)", (block_hash,))
    values = asdict(options) | {"block_hash": block_hash}
    cursor.execute(
        sql.SQL("INSERT INTO chain ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(map(sql.Placeholder, values)),
        ),
        values,
    )
