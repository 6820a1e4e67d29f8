"""What must be true once everything has converged: read from the chain's own ledger, and from ours.

    chain database + bond files → lost, double | program's database → violations, one line each

The ledger is read with SQL of its own, and what each holder must have is computed from the bond
files: no code that pays takes part in the judgement.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2

from verify.real.bonds import Wave

#: How many offending rows a violation names.
SHOWN = 5

_MOVES = """
SELECT kind, address, count(DISTINCT (tx_hash, ref)), sum(abs(delta_units)) FROM ledger
WHERE canonical AND kind IN ('burn', 'transfer') GROUP BY kind, address
"""

#: (what is wrong, query of the rows that are) on the chain's database.
ON_CHAIN = (
    ("a balance on chain is below zero",
     "SELECT asset, address, balance_units FROM ledger WHERE canonical AND balance_units < 0"),
    ("payment tokens appeared or vanished",
     "SELECT asset, sum(delta_units) FROM ledger WHERE canonical AND kind IN ('debit', 'transfer')"
     " GROUP BY asset HAVING sum(delta_units) <> 0"),
    ("a nonce is missing, or was used twice",
     "SELECT sender, count(*), min(nonce), max(nonce) FROM tx WHERE status = 'mined'"
     " GROUP BY sender"
     " HAVING (count(*), min(nonce), count(DISTINCT nonce)) <> (max(nonce) + 1, 0, count(*))"),
    ("a transaction is still pending",
     "SELECT tx_hash, sender, nonce FROM tx WHERE status = 'pending'"),
)  # fmt: skip

#: The same on the program's database.
IN_DATABASE = (
    ("a job has not ended",
     "SELECT id, job_type, status, run_at, last_error FROM job_queue WHERE finished_at IS NULL"),
    ("a job failed",
     "SELECT id, job_type, last_error FROM job_queue WHERE status = 'failed'"),
    ("an outbox entry belongs to no open job",
     "SELECT job_id FROM job_outbox o WHERE NOT EXISTS"
     " (SELECT FROM job_queue j WHERE j.id = o.job_id AND j.finished_at IS NULL)"),
    ("a message was no job's", "SELECT queue, reason, body FROM stray_message"),
    ("an inbox message has no completed job",
     "SELECT i.message_id, j.status FROM inbox_message i LEFT JOIN job_queue j ON j.id = i.job_id"
     " WHERE j.status IS DISTINCT FROM 'completed'"),
    ("a run has not finished", "SELECT id, state, note FROM payout_run WHERE state <> 'finished'"),
    ("a run was never reconciled",
     "SELECT id FROM payout_run WHERE state = 'finished' AND reconciled_at IS NULL"),
    ("a leg is neither paid nor held",
     "SELECT id, address, state, reason FROM payout_leg WHERE state NOT IN ('paid', 'held')"),
    ("the accounting line does not add up",
     "SELECT r.id, r.leg_count, r.total_units, count(l.id), sum(l.units) FROM payout_run r"
     " LEFT JOIN payout_leg l ON l.run_id = r.id GROUP BY r.id"
     " HAVING (count(l.id), sum(l.units)) IS DISTINCT FROM (r.leg_count, r.total_units)"),
    ("somebody was not told exactly once",
     "SELECT l.address, l.state, count(n.id) FROM payout_leg l LEFT JOIN notification n"
     " ON n.user_id = l.address GROUP BY l.id"
     " HAVING count(n.id) <> CASE l.state WHEN 'paid' THEN 1 ELSE 0 END"),
    ("an operation has no end",
     "SELECT id, nonce, kind, state FROM chain_operation WHERE state NOT IN ('settled', 'void')"),
    ("the wallet's nonces have a gap",
     "SELECT w.id, w.next_nonce, count(o.nonce), max(o.nonce) FROM wallet w LEFT JOIN"
     " chain_operation o ON o.wallet_id = w.id AND NOT o.displaced GROUP BY w.id"
     " HAVING count(o.nonce) <> w.next_nonce OR max(o.nonce) <> w.next_nonce - 1"),
    ("a plan was signed that nobody approved in time",
     "SELECT o.id, r.id FROM chain_operation o JOIN payout_run r ON r.id = o.run_id"
     " WHERE r.approved_hash IS DISTINCT FROM r.plan_hash OR r.approved_at > o.created_at"),
    ("a large plan was approved by the person who triggered it",
     "SELECT id FROM payout_run WHERE total_units > %(four_eyes)s AND approved_by = triggered_by"),
    ("a payment was committed before its burn was final",
     "SELECT l.address FROM payout_leg l"
     " JOIN operation_leg tl ON tl.leg_id = l.id AND tl.phase = 'transfer'"
     " JOIN chain_operation t ON t.id = tl.operation_id"
     " LEFT JOIN operation_leg bl ON bl.leg_id = l.id AND bl.phase = 'burn' AND NOT bl.void"
     " LEFT JOIN chain_operation b ON b.id = bl.operation_id AND b.state = 'settled'"
     " WHERE b.settled_at IS NULL OR b.settled_at > t.created_at"),
    ("a wallet is halted", "SELECT id, halt_reason FROM wallet WHERE halted_at IS NOT NULL"),
    ("a service is paused", "SELECT scope, reason FROM pause"),
)  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """Counts of holders, and a line for everything that should not be."""

    holders: int
    lost: int
    double: int
    violations: tuple[str, ...]


def judge(
    database_url: str, chain_url: str, waves: Sequence[Wave], four_eyes_units: int
) -> Judgement:
    """Compare bond files, ledger and database. Nothing may be under way any more."""
    tokens = {address: count for wave in waves for address, count in wave.tokens.items()}
    units = {address: count for wave in waves for address, count in wave.units.items()}
    with (
        closing(psycopg2.connect(chain_url)) as chain,
        closing(psycopg2.connect(database_url)) as database,
    ):
        burns, transfers = _moves(chain)
        lost = {a for a in units if transfers.get(a, (0, 0))[1] < units[a]}
        double = {a for a, moved in transfers.items() if moved[0] > 1 or moved[1] > units.get(a, 0)}
        double |= {a for a, moved in burns.items() if moved[0] > 1 or moved[1] > tokens.get(a, 0)}
        unburned = {a for a in tokens if burns.get(a, (0, 0))[1] < tokens[a]} - lost
        violations = [
            *_named("a holder is not paid in full", sorted(lost)),
            *_named("a holder was paid or burned twice, or too much", sorted(double)),
            *_named("a holder was paid without a burn", sorted(unburned)),
            *_wrong(chain, ON_CHAIN, {}),
            *_wrong(database, IN_DATABASE, {"four_eyes": four_eyes_units}),
            *_unknown_transactions(chain, database),
        ]
    return Judgement(len(units), len(lost), len(double), tuple(violations))


def _moves(chain: Any) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """(times, units) by address: of burns, and of payments."""
    found: dict[str, dict[str, tuple[int, int]]] = {"burn": {}, "transfer": {}}
    with chain.cursor() as cursor:
        cursor.execute(_MOVES)
        for kind, address, times, units in cursor:
            found[kind][address] = (int(times), int(units))
    return found["burn"], found["transfer"]


def _unknown_transactions(chain: Any, database: Any) -> Iterator[str]:
    """What was mined and never signed here, and what settled here and is not on chain."""
    with chain.cursor() as cursor:
        cursor.execute("SELECT tx_hash FROM tx WHERE status = 'mined'")
        mined = {tx_hash for (tx_hash,) in cursor}
    with database.cursor() as cursor:
        cursor.execute("SELECT tx_hash, operation_id FROM chain_transaction")
        ours = dict(cursor.fetchall())
        cursor.execute("SELECT id FROM chain_operation WHERE state = 'settled'")
        settled = {operation for (operation,) in cursor}
    yield from _named("a transaction on chain was not signed here", sorted(mined - set(ours)))
    seen = {operation for tx_hash, operation in ours.items() if tx_hash in mined}
    missing = sorted(map(str, settled - seen))
    yield from _named("a settled operation is not on chain", missing)


def _wrong(
    connection: Any, checks: Sequence[tuple[str, str]], params: dict[str, Any]
) -> Iterator[str]:
    for what, sql in checks:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            yield from _named(what, [", ".join(map(str, row)) for row in cursor])


def _named(what: str, offenders: Collection[str]) -> Iterator[str]:
    if offenders:
        shown = "; ".join(list(offenders)[:SHOWN])
        yield f"{what} ({len(offenders)}): {shown}"
