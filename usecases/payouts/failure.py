"""What becomes of a run when one of its jobs failed for good, in the transaction that records it.

Only legs that were never intended on chain fail, and free their money. Legs with an operation stay
with settlement; burned legs stay owned debts, and the sweep gives them a new page.
"""

from domain.job_types import Service
from jobs.failure import alert
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet

_FAIL_LEGS = """
UPDATE payout_leg l SET state = 'failed', reason = %(reason)s
WHERE l.{scope} = %(id)s AND l.state = 'planned' AND NOT EXISTS (
    SELECT FROM operation_leg ol WHERE ol.leg_id = l.id AND NOT ol.void)
"""


def planning_failed(payload: dict[str, str], error: str) -> None:
    """Planning or the liquidity check failed: nothing was reserved, so the run is over."""
    run = PayoutRun.lock(payload["run_id"])
    if run.state not in ("planning", "waiting") or _has_operations(run):
        return
    Wallet.lock(run.wallet_id)
    execute(_FAIL_LEGS.format(scope="run_id"), {"id": run.id, "reason": error})
    execute("UPDATE payout_run SET state = 'failed', note = %s WHERE id = %s", (error, run.id))
    alert(Service.MATURITY, f"run {run.id}", f"payout of bond {run.bond_id} failed: {error}")


def burn_failed(payload: dict[str, str], error: str) -> None:
    """A page could not be burned: its untouched legs fail, the run goes on with the others."""
    run = _lock_run_of(payload["page_id"])
    failed = execute(
        _FAIL_LEGS.format(scope="page_id"), {"id": payload["page_id"], "reason": error}
    )
    if failed:
        alert(Service.MATURITY, f"run {run.id}", f"{failed} legs failed before burning: {error}")


def transfer_failed(payload: dict[str, str], error: str) -> None:
    """A page could not be paid: its burned legs are debts, and somebody should know."""
    run = _lock_run_of(payload["page_id"])
    [(debts,)] = fetch(
        "SELECT count(*) FROM payout_leg WHERE page_id = %s AND state = 'burned'",
        (payload["page_id"],),
    )
    if debts:
        alert(Service.MATURITY, f"run {run.id}", f"{debts} legs are burned and unpaid: {error}")


def _has_operations(run: PayoutRun) -> bool:
    """A run that was stopped or adopted has been on chain: it waits on, and somebody must look."""
    rows = fetch("SELECT 1 FROM chain_operation WHERE run_id = %s LIMIT 1", (run.id,))
    if rows:
        alert(Service.MATURITY, f"run {run.id}", "its liquidity check failed: stop and resume it")
    return bool(rows)


def _lock_run_of(page_id: str) -> PayoutRun:
    [(run_id,)] = fetch("SELECT run_id::text FROM payout_page WHERE id = %s", (page_id,))
    run = PayoutRun.lock(run_id)
    Wallet.lock(run.wallet_id)
    return run
