"""Blocks: made when they are due or when asked for, and undone by a reorg.

    lock the chain's row → choose transactions by nonce → execute → blocks, ledger, receipts

Every writer holds the one row of `chain`, so that many processes agree on one history.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named
from psycopg2.extras import execute_values

from mocks.chain.database import row_of, transaction
from mocks.chain.execution import (
    Account,
    Entry,
    Outcome,
    World,
    accounts_of,
    can_pay,
    execute,
    fee_of,
)
from mocks.chain.faults import MINE_OP, FaultKind, load_rules, strike
from mocks.chain.ledger import load_balances, load_refs, load_verified
from mocks.chain.options import ChainOptions
from mocks.chain.signing import body_of, hash_of
from providers.chain import SignedTransaction

# After a long idle time the chain makes up this many blocks at most, or what finality needs.
MAX_CATCH_UP_BLOCKS = 8


@dataclass(frozen=True)
class ChainState:
    """The chain's one row: what it is when unlocked, what it will be for the lock's holder."""

    options: ChainOptions
    branch: int
    height: int
    block_hash: str
    due_blocks: int


_DUE = """
CASE WHEN auto_mine THEN
    floor(extract(epoch FROM clock_timestamp() - last_block_at) * 1000 / block_interval_ms)::bigint
ELSE 0 END"""

_OPTIONS = tuple(field.name for field in fields(ChainOptions))
_STATE = f"SELECT {', '.join(_OPTIONS)}, branch, height, block_hash, {_DUE} FROM chain"  # noqa: S608

_NEXT_TRANSACTIONS = """
SELECT tx_hash, raw FROM (
    SELECT tx_hash, raw, arrived, nonce, COALESCE(
        (SELECT max(m.nonce) + 1 FROM tx m WHERE m.sender = p.sender AND m.status = 'mined'), 0
    ) + row_number() OVER (PARTITION BY sender ORDER BY nonce) - 1 AS expected_nonce
    FROM tx p WHERE status = 'pending'
) q WHERE nonce = expected_nonce ORDER BY nonce, arrived LIMIT %s"""


def read_state(cursor: Cursor) -> ChainState:
    """The state without a lock."""
    cursor.execute(_STATE)
    return _state(row_of(cursor))


def lock_state(cursor: Cursor) -> ChainState:
    """Wait for the lock that every writer holds, then read."""
    cursor.execute(_STATE + " FOR UPDATE")
    return _state(row_of(cursor))


def _state(row: tuple[Any, ...]) -> ChainState:
    size = len(_OPTIONS)
    return ChainState(ChainOptions(*row[:size]), *row[size:])


def tick(cursor: Cursor) -> bool:
    """Mine what is due, unless somebody else is at it. Whether any call can meet a fault."""
    cursor.execute(
        f"SELECT {_DUE}, EXISTS (SELECT FROM fault WHERE op <> 'mine') FROM chain"  # noqa: S608
    )
    due_blocks, has_faults = row_of(cursor)
    if due_blocks > 0:
        with transaction(cursor):
            cursor.execute(_STATE + " FOR UPDATE SKIP LOCKED")
            row = cursor.fetchone()
            if row is not None:
                mine_due(cursor, _state(row))
    return bool(has_faults)


def mine_due(cursor: Cursor, state: ChainState) -> ChainState:
    """The blocks that time asks for: all of them, or after a long pause enough for finality."""
    bound = max(MAX_CATCH_UP_BLOCKS, state.options.finality_depth + 1)
    if state.due_blocks < 1:
        return state
    on_time = state.due_blocks <= bound
    state = mine_blocks(cursor, state, min(state.due_blocks, bound), set_clock=not on_time)
    if on_time:
        cursor.execute(
            "UPDATE chain SET last_block_at ="
            " last_block_at + %s * block_interval_ms * interval '1 millisecond'",
            (state.due_blocks,),
        )
    return replace(state, due_blocks=0)


def mine_blocks(
    cursor: Cursor,
    state: ChainState,
    count: int,
    *,
    empty: bool = False,
    grants: Sequence[tuple[Account, int]] = (),
    set_clock: bool = True,
) -> ChainState:
    """Add `count` blocks; `grants` (from outside any transaction) go into the first, alone."""
    for number in range(count):
        if number == 0 and grants:
            state = _grant(cursor, state, grants)
            continue
        chosen: list[SignedTransaction] = []
        if not empty:
            cursor.execute(_NEXT_TRANSACTIONS, (state.options.max_block_transactions,))
            chosen = [SignedTransaction(tx_hash, bytes(raw)) for tx_hash, raw in cursor]
        state = _mine_one(cursor, state, chosen)
        empty = empty or not chosen  # nothing can arrive while we hold the lock
    cursor.execute(
        "UPDATE chain SET height = %s, block_hash = %s, branch = %s, last_block_at ="
        " CASE WHEN %s THEN clock_timestamp() ELSE last_block_at END",
        (state.height, state.block_hash, state.branch, set_clock),
    )
    return state


def _new_block(
    cursor: Cursor, state: ChainState, tx_hashes: Sequence[str]
) -> tuple[ChainState, int]:
    height = state.height + 1
    seal = (
        f"{state.options.chain_id}|{height}|{state.block_hash}|{state.branch}|{','.join(tx_hashes)}"
    )
    block_hash = hash_of(seal.encode())
    cursor.execute(
        "INSERT INTO block (height, block_hash, parent_hash) VALUES (%s, %s, %s) RETURNING id",
        (height, block_hash, state.block_hash),
    )
    return replace(state, height=height, block_hash=block_hash), int(row_of(cursor)[0])


def _mine_one(cursor: Cursor, state: ChainState, chosen: Sequence[SignedTransaction]) -> ChainState:
    pairs = [(signed.tx_hash, body_of(signed.raw)) for signed in chosen]
    world = World()
    if pairs:
        accounts = {account for _, body in pairs for account in accounts_of(body)}
        world.balances = load_balances(cursor, accounts)
        world.used_refs = load_refs(cursor, {(b.kind, i.ref) for _, b in pairs for i in b.items})
        if state.options.enforce_identity:
            world.verified = load_verified(cursor, {i.address for _, b in pairs for i in b.items})
    reverts = load_rules(cursor, MINE_OP) if pairs else []
    outcomes: dict[str, Outcome] = {}
    stuck: set[str] = set()  # senders whose lower nonce stays pending
    for tx_hash, body in pairs:
        if body.sender in stuck:
            continue
        fee_units = fee_of(body, state.options.fee_per_item_units)
        if not can_pay(world, body, fee_units):
            stuck.add(body.sender)
            continue
        hit = strike(cursor, reverts, body).get(FaultKind.REVERT)
        reason = None if hit is None else hit.reason
        outcomes[tx_hash] = execute(world, body, tx_hash, fee_units, reason)
    state, block_id = _new_block(cursor, state, list(outcomes))
    _write_ledger(cursor, block_id, state.height, world.entries)
    _write_receipts(cursor, block_id, outcomes)
    return state


def _grant(cursor: Cursor, state: ChainState, grants: Sequence[tuple[Account, int]]) -> ChainState:
    world = World(balances=load_balances(cursor, {account for account, _ in grants}))
    for account, delta_units in grants:
        world.add("grant", account, delta_units)
    state, block_id = _new_block(cursor, state, ["grant"])
    _write_ledger(cursor, block_id, state.height, world.entries)
    return state


def _write_ledger(cursor: Cursor, block_id: int, height: int, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    buffer = io.StringIO()
    csv.writer(buffer).writerows(
        (block_id, position, height, e.kind, e.asset, e.address, e.delta_units, e.balance_units,
         e.ref, e.tx_hash)
        for position, e in enumerate(entries)
    )  # fmt: skip
    buffer.seek(0)
    cursor.copy_expert(
        "COPY ledger (block_id, position, height, kind, asset, address, delta_units,"
        " balance_units, ref, tx_hash) FROM STDIN (FORMAT csv)",
        buffer,
    )


def _write_receipts(cursor: Cursor, block_id: int, outcomes: dict[str, Outcome]) -> None:
    if not outcomes:
        return
    execute_values(
        cursor,
        "UPDATE tx SET status = 'mined', block_id = v.block_id, succeeded = v.succeeded,"
        " revert_reason = v.reason, failed_item = v.item"
        " FROM (VALUES %s) AS v (tx_hash, block_id, succeeded, reason, item)"
        " WHERE tx.tx_hash = v.tx_hash",
        [
            (tx_hash, block_id, o.succeeded, o.revert_reason, o.failed_item)
            for tx_hash, o in outcomes.items()
        ],
        template="(%s, %s::bigint, %s::boolean, %s::text, %s::integer)",
        page_size=1_000,
    )


_ORPHAN = """
WITH gone AS (
    UPDATE block SET canonical = false WHERE canonical AND height > %(base)s RETURNING id
), forgotten AS (
    UPDATE ledger SET canonical = false WHERE block_id IN (SELECT id FROM gone)
)
UPDATE tx SET status = CASE WHEN tx_hash = ANY(%(drop)s) OR %(drop_all)s
                            THEN 'dropped' ELSE 'pending' END,
    block_id = NULL, succeeded = NULL, revert_reason = NULL, failed_item = NULL
WHERE block_id IN (SELECT id FROM gone)"""


def reorganise(
    cursor: Cursor, state: ChainState, depth: int, drop: Sequence[str] | None, reinclude: bool
) -> ChainState:
    """Replace the top `depth` blocks by `depth` + 1 others. `drop` None drops all of theirs.

    Their other transactions are pending again, and in the new branch if `reinclude`.
    Grants of the old branch move to the new one's first block.
    """
    if not 0 < depth <= state.height:
        raise ValueError(f"depth must be between 1 and {state.height}, not {depth}")
    base = state.height - depth
    cursor.execute(
        "SELECT asset, address, delta_units FROM ledger"
        " WHERE canonical AND kind = 'grant' AND height > %s ORDER BY height, position",
        (base,),
    )
    grants = [((asset, address), int(delta)) for asset, address, delta in cursor]
    cursor.execute(_ORPHAN, {"base": base, "drop": list(drop or []), "drop_all": drop is None})
    cursor.execute("SELECT block_hash FROM block WHERE canonical AND height = %s", (base,))
    state = replace(state, height=base, block_hash=row_of(cursor)[0], branch=state.branch + 1)
    return mine_blocks(cursor, state, depth + 1, empty=not reinclude, grants=grants)
