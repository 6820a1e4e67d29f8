"""Faults, scripted or seeded, kept in the database: every process meets the same ones.

    rule (kind, op, match, probability, times, until) → drawn once per matching call → hit

Draws come from the stored seed and a stored counter, so a replay meets the same faults.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from mocks.chain.database import row_of, transaction
from providers.chain import TxKind, UnsignedTransaction

ANY_OP = "*"
REGISTRY_OP = "verified"
MINE_OP = "mine"


class FaultKind(StrEnum):
    """What can go wrong. A hit is one call, except for revert: one mined transaction."""

    DOWN = "down"  # the node does not answer; nothing reached it
    REGISTRY_DOWN = "registry_down"  # the same for the identity registry
    REQUEST_LOST = "request_lost"  # ChainUnavailable, and nothing happened
    ANSWER_LOST = "answer_lost"  # ChainUnavailable, but it happened
    DROPPED = "dropped"  # accepted with a smile, then gone from the mempool
    REFUSED = "refused"  # BroadcastRefused(reason), and nothing happened
    KNOWN = "known"  # BroadcastRefused("already known"), but it was just accepted
    REVERT = "revert"  # it is mined, fails with `reason`, and costs its fee
    LATENCY = "latency"  # the answer takes `latency_ms` longer


# Where a kind strikes unless the rule says otherwise.
DEFAULT_OP = {
    FaultKind.DOWN: ANY_OP,
    FaultKind.LATENCY: ANY_OP,
    FaultKind.REGISTRY_DOWN: REGISTRY_OP,
    FaultKind.REVERT: MINE_OP,
}

DEFAULT_REASON = {
    FaultKind.REFUSED: "txpool is full",
    FaultKind.KNOWN: "already known",
    FaultKind.REVERT: "execution reverted",
}


@dataclass(frozen=True)
class FaultRule:
    """One row of `fault`. None means: any, or without bound."""

    id: int
    kind: FaultKind
    op: str
    probability: float
    times: int | None  # hits left
    nonce: int | None
    tx_kind: TxKind | None
    reason: str | None
    latency_ms: int
    until: datetime | None
    hits: int

    def matches(self, transaction: UnsignedTransaction | None) -> bool:
        """Whether the rule is about this call."""
        if self.nonce is None and self.tx_kind is None:
            return True
        if transaction is None:
            return False
        return self.nonce in (None, transaction.nonce) and self.tx_kind in (
            None,
            transaction.kind,
        )


_RULES = """
SELECT id, kind, op, probability, times, nonce, tx_kind, reason, latency_ms, until, hits
FROM fault WHERE (times IS NULL OR times > 0) AND (until IS NULL OR until > clock_timestamp())"""


def _rule(row: Sequence[object]) -> FaultRule:
    values = dict(zip(FaultRule.__dataclass_fields__, row, strict=True))
    values["kind"] = FaultKind(str(values["kind"]))
    values["tx_kind"] = TxKind(str(values["tx_kind"])) if values["tx_kind"] else None
    return FaultRule(**values)  # type: ignore[arg-type] # the columns are the fields


def load_rules(cursor: Cursor, op: str | None = None) -> list[FaultRule]:
    """The rules in force, oldest first: all of them, or those that can strike `op`."""
    if op is None:
        cursor.execute(_RULES + " ORDER BY id")
    else:
        anywhere = ANY_OP if op not in (REGISTRY_OP, MINE_OP) else op
        cursor.execute(_RULES + " AND op IN (%s, %s) ORDER BY id", (op, anywhere))
    return [_rule(row) for row in cursor]


def meet(
    cursor: Cursor, op: str, transaction_sent: UnsignedTransaction | None = None
) -> dict[FaultKind, FaultRule]:
    """What happens to this call of `op`; latency has already happened."""
    rules = load_rules(cursor, op)
    if not rules:
        return {}
    with transaction(cursor):
        struck = strike(cursor, rules, transaction_sent)
    if FaultKind.LATENCY in struck:
        time.sleep(struck[FaultKind.LATENCY].latency_ms / 1_000)
    return struck


def strike(
    cursor: Cursor, rules: Sequence[FaultRule], transaction_sent: UnsignedTransaction | None
) -> dict[FaultKind, FaultRule]:
    """Draw for each matching rule, at most one hit per kind, and count the hits."""
    struck: dict[FaultKind, FaultRule] = {}
    if rules:
        cursor.execute("SELECT FROM chain FOR UPDATE")  # first the chain, then rules: no deadlock
    for rule in rules:
        if rule.kind in struck or not rule.matches(transaction_sent):
            continue
        if rule.probability < 1 and _draw(cursor) >= rule.probability:
            continue
        cursor.execute(
            "UPDATE fault SET times = times - 1, hits = hits + 1"
            " WHERE id = %s AND times IS DISTINCT FROM 0",
            (rule.id,),
        )
        if cursor.rowcount == 1:
            struck[rule.kind] = rule
    return struck


def _draw(cursor: Cursor) -> float:
    """The next number of the stored sequence, in [0, 1)."""
    cursor.execute("UPDATE chain SET draws = draws + 1 RETURNING seed, draws")
    seed, draws = row_of(cursor)
    return random.Random(f"{seed}:{draws}").random()  # noqa: S311 - replayable on purpose


_INSERT = """
INSERT INTO fault (kind, op, probability, times, nonce, tx_kind, reason, latency_ms, until)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + %s * interval '1 second')
RETURNING id"""


def add_rule(
    cursor: Cursor,
    kind: FaultKind,
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
    """Store a rule; returns its id."""
    op = op or DEFAULT_OP.get(kind, "broadcast")
    reason = reason or DEFAULT_REASON.get(kind)
    cursor.execute(
        _INSERT,
        (kind, op, probability, times, nonce, tx_kind, reason, latency_ms, for_seconds),
    )
    return int(row_of(cursor)[0])


def add_seeded_rules(cursor: Cursor, seed: int, rate: float) -> None:
    """Transient faults at `rate` per call, for ever, from `seed`; money is never at stake."""
    cursor.execute("UPDATE chain SET seed = %s, draws = 0", (seed,))
    for kind in (FaultKind.ANSWER_LOST, FaultKind.REQUEST_LOST, FaultKind.DROPPED):
        add_rule(cursor, kind, probability=rate, times=None)
    add_rule(cursor, FaultKind.REQUEST_LOST, op="receipts", probability=rate / 2, times=None)
    add_rule(cursor, FaultKind.REGISTRY_DOWN, probability=rate / 2, times=None)
    add_rule(cursor, FaultKind.LATENCY, probability=rate, times=None, latency_ms=50)
