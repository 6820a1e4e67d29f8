"""The books: what the mock chain's own ledger says, against what the database believes.

ledger (SQL of our own) × legs, operations, runs → every rule that does not hold, in words
"""

from collections.abc import Callable
from typing import Any

Query = Callable[..., list[tuple[Any, ...]]]

#: Any row breaks the rule, at any moment between two points.
_ALWAYS = (
    (
        "a leg was paid or burned twice",
        "SELECT address, kind, ref FROM ledger WHERE canonical AND ref IS NOT NULL"
        " GROUP BY address, asset, kind, ref HAVING count(*) > 1",
    ),
    (
        "somebody tried to pay or burn a leg twice",
        "SELECT tx_hash, revert_reason FROM tx WHERE revert_reason = 'ref already used'",
    ),
    (
        "a transfer before its burn was final",
        "SELECT t.address, t.height, b.height FROM payout_leg l"
        " JOIN ledger t ON t.canonical AND t.kind = 'transfer' AND t.ref = l.transfer_ref"
        " LEFT JOIN ledger b ON b.canonical AND b.kind = 'burn' AND b.ref = l.burn_ref"
        # A reorg may mine it again in a lower block; verify.witness saw when it was signed.
        " WHERE b.height IS NULL OR t.height <= b.height",
    ),
    (
        "the chain did what no leg asked for",
        "SELECT e.kind, e.address, e.delta_units FROM ledger e"
        " LEFT JOIN payout_leg l ON e.ref = CASE e.kind WHEN 'burn' THEN l.burn_ref"
        " ELSE l.transfer_ref END AND e.address = l.address"
        " AND (e.kind = 'burn' OR e.delta_units = l.units)"
        " WHERE e.canonical AND e.kind IN ('burn', 'transfer') AND l.id IS NULL",
    ),
    (
        "a plan without approval was signed",
        "SELECT r.id, r.state FROM chain_operation o JOIN payout_run r ON r.id = o.run_id"
        " WHERE r.approved_hash IS DISTINCT FROM r.plan_hash OR r.approved_by IS NULL",
    ),
    (
        "the accounting line is false",
        "SELECT r.id, r.total_units, sum(l.units) FROM payout_run r"
        " JOIN payout_leg l ON l.run_id = r.id GROUP BY r.id"
        " HAVING r.total_units IS DISTINCT FROM sum(l.units) OR r.leg_count <> count(*)",
    ),
    (
        "a nonce is missing",
        "SELECT w.next_nonce, count(o.nonce) FROM wallet w LEFT JOIN chain_operation o"
        " ON o.wallet_id = w.id AND NOT o.displaced GROUP BY w.id"
        " HAVING count(o.nonce) <> w.next_nonce OR coalesce(max(o.nonce) + 1, 0) <> w.next_nonce",
    ),
    (
        "more is promised than the wallet has",
        "SELECT w.address, b.balance_units, s.units FROM wallet w CROSS JOIN LATERAL ("
        " SELECT coalesce(sum(l.units), 0) AS units FROM payout_leg l"
        " JOIN payout_run r ON r.id = l.run_id WHERE r.reserved_at IS NOT NULL"
        " AND r.state IN ('paying', 'stopping') AND l.state IN"
        " ('planned', 'burning', 'burned', 'paying') AND NOT EXISTS (SELECT FROM ledger t"
        " WHERE t.canonical AND t.kind = 'transfer' AND t.ref = l.transfer_ref)) s"
        " CROSS JOIN LATERAL (SELECT coalesce((SELECT balance_units FROM ledger"
        " WHERE canonical AND asset = 'token:PLT' AND address = w.address"
        " ORDER BY height DESC, position DESC LIMIT 1), 0) AS balance_units) b"
        " WHERE s.units > b.balance_units",
    ),
    (
        "an operation ended before its transaction was final",
        "SELECT o.nonce, o.kind, o.state, o.void_reason FROM chain_operation o"
        " WHERE o.state IN ('settled', 'void') AND NOT EXISTS (SELECT FROM tx t"
        " JOIN block b ON b.id = t.block_id WHERE t.tx_hash = o.mined_hash AND b.canonical"
        " AND t.succeeded = (o.state = 'settled') AND b.height <="
        " (SELECT max(height) FROM block) - (SELECT finality_depth FROM chain))",
    ),
    (
        "a burned leg has no owner",
        "SELECT l.address, l.state, r.state FROM payout_leg l JOIN payout_run r ON r.id = l.run_id"
        " WHERE l.burn_hash IS NOT NULL AND l.state <> 'paid'"
        " AND r.state IN ('finished', 'cancelled', 'failed') AND l.state <> 'held'",
    ),
    ("signing is halted by mistake", "SELECT halt_reason FROM wallet WHERE halted_at IS NOT NULL"),
)

#: Any row breaks the rule once everything has come to its end.
_AT_THE_END = (
    (
        "the ledger's balances are not its sums",
        "SELECT asset, address FROM ledger WHERE canonical GROUP BY asset, address"
        " HAVING sum(delta_units) <> (array_agg(balance_units ORDER BY height DESC,"
        " position DESC))[1] OR min(balance_units) < 0",
    ),
    (
        "payment tokens were made or lost",
        "SELECT tx_hash, sum(delta_units) FROM ledger WHERE canonical AND asset LIKE 'token:%'"
        " AND kind <> 'grant' GROUP BY tx_hash HAVING sum(delta_units) <> 0",
    ),
    (
        "an operation is open",
        "SELECT nonce, kind, state FROM chain_operation WHERE state NOT IN ('settled', 'void')",
    ),
    (
        "a paid leg's holder was not told exactly once",
        "SELECT l.address, count(n.id) FROM payout_leg l LEFT JOIN notification n"
        " ON n.user_id = l.address AND n.dedup_key = 'maturity_paid:' || l.id"
        " WHERE l.state = 'paid' GROUP BY l.id HAVING count(n.id) <> 1",
    ),
)


#: What a reorg deeper than finality breaks for good: a burn that was final is gone, or comes later.
_BROKEN_BY_DEPTH = (
    "a transfer before its burn was final",
    "an operation ended before its transaction was final",
    "signing is halted by mistake",
    "more is promised than the wallet has",
)


def _unbroken_by_depth(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(rule for rule in rules if rule[0] not in _BROKEN_BY_DEPTH)


class Books:
    """What must be true of the money."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def broken_midway(self, is_deep: bool = False) -> list[str]:
        """Rules that hold at any moment; after a reorg deeper than finality, those that can."""
        return self._broken(_unbroken_by_depth(_ALWAYS) if is_deep else _ALWAYS)

    def burned(self, address: str) -> int:
        """Bond tokens that the ledger took from a holder."""
        sql = (
            "SELECT coalesce(-sum(delta_units), 0) FROM ledger"
            " WHERE canonical AND kind = 'burn' AND address = %s"
        )
        return int(self._query(sql, (address,))[0][0])

    def broken_at_the_end(
        self, tokens: dict[str, int], units: dict[str, int], is_deep: bool = False
    ) -> list[str]:
        """All rules; `tokens` were held and must be burned, `units` are owed and must be paid."""
        found = self.broken_midway(is_deep) + self._broken(_AT_THE_END)
        sums = self._query(
            "SELECT kind, address, abs(sum(delta_units)) FROM ledger"
            " WHERE canonical AND kind IN ('burn', 'transfer') GROUP BY kind, address"
        )
        did = {(kind, address): int(total) for kind, address, total in sums}
        owed = {("burn", a): n for a, n in tokens.items()}
        owed |= {("transfer", a): n for a, n in units.items()}
        for key in sorted(did.keys() | owed.keys()):
            if did.get(key, 0) != owed.get(key, 0):
                found.append(f"{key[0]} of {key[1]}: {did.get(key, 0)}, owed {owed.get(key, 0)}")
        return found

    def _broken(self, rules: tuple[tuple[str, str], ...]) -> list[str]:
        """One round trip for all of them."""
        parts = " UNION ALL ".join(
            f"SELECT {number}, r::text FROM ({sql}) r" for number, (_, sql) in enumerate(rules)
        )
        return [f"{rules[number][0]}: {row}" for number, row in self._query(parts)]
