"""What people see of runs: the list, one run, and the statement of who got what."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from domain.errors import InvalidInput, NotFound
from domain.payouts import as_tokens
from models.database import fetch
from usecases.payouts.accounting import Accounting, accounting
from usecases.payouts.decisions import Decision, decisions_of


@dataclass(frozen=True)
class RunSummary:
    """A run at a glance; the sums are None until it is planned."""

    id: str
    sequence: int
    kind: str
    bond_id: str
    state: str
    note: str | None
    token: str
    token_decimals: int
    leg_count: int | None
    total_units: int | None
    triggered_by: str
    triggered_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class PageView:
    """A page and where its pipeline is: the type and status of its newest job."""

    id: str
    number: int
    phase: str
    legs: int
    job_type: str | None
    job_status: str | None
    parked: bool


@dataclass(frozen=True)
class RunView:
    """Everything that an operator sees of a run."""

    summary: RunSummary
    accounting: Accounting
    pages: list[PageView]
    decisions: list[Decision]
    record_date: date
    plan_hash: str | None
    approved_by: str | None
    approved_at: datetime | None
    reserved_at: datetime | None
    reconciled_at: datetime | None
    reconciled_height: int | None
    wallet_address: str
    chain_id: str
    wallet_halted: str | None
    open_operations: int


@dataclass(frozen=True)
class HeldLeg:
    """A holder who is not paid for a stated reason. `is_debt`: burned, so they are owed money."""

    run_id: str
    bond_id: str
    run_state: str
    address: str
    name: str
    amount: Decimal
    units: int
    token: str
    reason: str
    is_debt: bool


@dataclass(frozen=True)
class StatementRow:
    """One holder's line. `amount` is exact, in tokens."""

    address: str
    name: str
    amount: Decimal
    units: int
    state: str
    reason: str | None
    burn_hash: str | None
    burn_height: int | None
    paid_hash: str | None
    paid_height: int | None


_SUMMARIES = """
SELECT id::text, sequence, kind, bond_id, state, note, token, token_decimals, leg_count,
       total_units, triggered_by, triggered_at, finished_at
FROM payout_run
"""

_DETAILS = """
SELECT r.record_date, r.plan_hash, r.approved_by, r.approved_at, r.reserved_at, r.reconciled_at,
       r.reconciled_height, w.address, w.chain_id, w.halt_reason,
       (SELECT count(*) FROM chain_operation o WHERE o.wallet_id = w.id AND o.run_id = r.id
        AND o.state NOT IN ('settled', 'void'))
FROM payout_run r JOIN wallet w ON w.id = r.wallet_id WHERE r.id = %s
"""

_PAGES = """
SELECT p.id::text, p.number, p.phase,
       (SELECT count(*) FROM payout_leg l WHERE l.page_id = p.id),
       j.job_type, j.status, j.run_at IS NULL AND j.status = 'pending'
FROM payout_page p
LEFT JOIN LATERAL (
    SELECT job_type, status, run_at FROM job_queue
    WHERE correlation = 'run:' || p.run_id AND payload->>'page_id' = p.id::text
    ORDER BY finished_at DESC NULLS FIRST, created_at DESC LIMIT 1
) j ON true
WHERE p.run_id = %s AND p.opened_at IS NOT NULL ORDER BY p.number
"""

_STATEMENT = """
SELECT l.address, coalesce(i.name, ''), r.token_decimals, l.units, l.state, l.reason,
       l.burn_hash, l.burn_height, l.paid_hash, l.paid_height
FROM payout_leg l JOIN payout_run r ON r.id = l.run_id
LEFT JOIN bond_investor i ON i.bond_id = r.bond_id AND i.address = l.address
WHERE l.run_id = %s ORDER BY l.address
"""


_HELD = """
SELECT r.id::text, r.bond_id, r.state, l.address, coalesce(i.name, ''), r.token_decimals, l.units,
       r.token, l.reason, l.burn_height IS NOT NULL
FROM payout_leg l JOIN payout_run r ON r.id = l.run_id
LEFT JOIN bond_investor i ON i.bond_id = r.bond_id AND i.address = l.address
WHERE l.state = 'held' AND (%(run)s::uuid IS NULL OR r.id = %(run)s::uuid)
ORDER BY l.burn_height IS NULL, r.sequence, l.address
"""


def list_runs() -> list[RunSummary]:
    """All runs, the newest first."""
    return [_summary(row) for row in fetch(_SUMMARIES + "ORDER BY sequence DESC")]


def find_run(prefix: str) -> str:
    """The id of the one run whose id begins with `prefix`.

    Raises:
        NotFound: no such run.
        InvalidInput: several runs begin like this.
    """
    rows = fetch(
        "SELECT id::text FROM payout_run WHERE starts_with(id::text, %s) LIMIT 2",
        (_canonical(prefix),),
    )
    if not rows:
        raise NotFound(f"no payout run {prefix!r}: `overnight payouts list` shows them")
    if len(rows) > 1:
        raise InvalidInput(f"several runs begin with {prefix!r}: give more of the id")
    return str(rows[0][0])


def show_run(run: str) -> RunView:
    """One run by its id or a prefix of it. Raises as `find_run`."""
    run_id = find_run(run)
    [summary] = fetch(_SUMMARIES + "WHERE id = %s", (run_id,))
    [details] = fetch(_DETAILS, (run_id,))
    pages = [PageView(*row) for row in fetch(_PAGES, (run_id,))]
    decisions = decisions_of(run_id=run_id)
    return RunView(_summary(summary), accounting(run_id), pages, decisions, *details)


def list_held(run: str | None = None) -> list[HeldLeg]:
    """Everybody who is held, debts first; of one run, or of all. Raises as `find_run`."""
    rows = fetch(_HELD, {"run": None if run is None else find_run(run)})
    return [
        HeldLeg(
            run_id, bond, state, address, name, as_tokens(int(units), places), int(units), *rest
        )
        for run_id, bond, state, address, name, places, units, *rest in rows
    ]


def statement(run: str) -> list[StatementRow]:
    """One line per holder, by address. Raises as `find_run`, and as `accounting`."""
    run_id = find_run(run)
    accounting(run_id)
    return [
        StatementRow(address, name, as_tokens(int(units), decimals), int(units), *rest)
        for address, name, decimals, units, *rest in fetch(_STATEMENT, (run_id,))
    ]


def _summary(row: tuple[object, ...]) -> RunSummary:
    fields = dict(zip(RunSummary.__dataclass_fields__, row, strict=True))
    total = fields["total_units"]
    fields["total_units"] = None if total is None else int(str(total))
    return RunSummary(**fields)  # type: ignore[arg-type] # the columns are the fields


def _canonical(prefix: str) -> str:
    """Accept a whole id in any of its spellings."""
    try:
        return str(UUID(prefix))
    except ValueError:
        return prefix.strip().lower()
