"""Stop a run midway, and let it go on.

    nothing on chain yet  → cancelled, for good: the bond can be triggered again
    else                  → stopping: nothing new is signed → (all that is open is final) → stopped
    stopping | stopped    → resume → paying | waiting for its money again

What has a nonce goes on to its end. Burned legs stay debts: their money stays reserved, and they
are paid first when the run goes on. Legs that were not begun free their money once it is stopped.
"""

from dataclasses import dataclass

from domain.errors import Rejected
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from usecases.payouts.approval import ask_for_money
from usecases.payouts.decisions import decide, person_named

_HAS_OPERATIONS = "SELECT 1 FROM chain_operation WHERE run_id = %s AND wallet_id = %s LIMIT 1"

#: Jobs of a run that will never do anything again: those in nobody's hands, at once.
_CANCEL_JOBS = """
WITH idle AS (
    SELECT id FROM job_queue
    WHERE correlation = %s AND status IN ('pending', 'retrying') AND service = 'maturity'
    FOR UPDATE SKIP LOCKED
), gone AS (
    UPDATE job_queue SET status = 'cancelled', finished_at = overnight_now(), singleton_key = NULL
    WHERE id IN (SELECT id FROM idle) RETURNING id
)
DELETE FROM job_outbox WHERE job_id IN (SELECT id FROM gone)
"""

#: Nothing of the run is open on chain any more.
_STOPPED = """
UPDATE payout_run r SET state = 'stopped'
WHERE r.id = %s AND r.state = 'stopping' AND NOT EXISTS (
    SELECT FROM chain_operation o WHERE o.wallet_id = r.wallet_id AND o.run_id = r.id
    AND o.state NOT IN ('settled', 'void'))
"""


@dataclass(frozen=True)
class Stopped:
    """How a run stands after a stop; `debts` are burned legs that are not paid."""

    run_id: str
    state: str
    debts: int


def stop_run(run_id: str, by: str, reason: str = "") -> Stopped:
    """Sign nothing more for a run. Stopping again changes nothing.

    Raises:
        Rejected: the run is over.
        InvalidInput: no name.
    """
    person = person_named(by)
    PayoutRun.load(run_id)
    with transaction():
        run = PayoutRun.lock(run_id)
        if run.state in ("finished", "failed", "cancelled"):
            raise Rejected(f"run {run_id} is {run.state}: there is nothing to stop")
        if run.state not in ("stopping", "stopped"):
            _stop(run, person, reason)
        [(state,)] = fetch("SELECT state FROM payout_run WHERE id = %s", (run_id,))
        [(debts,)] = fetch(
            "SELECT count(*) FROM payout_leg WHERE run_id = %s AND burn_height IS NOT NULL"
            " AND state <> 'paid'",
            (run_id,),
        )
    return Stopped(run_id, str(state), int(debts))


def _stop(run: PayoutRun, person: str, reason: str) -> None:
    run_id = str(run.id)
    Wallet.lock(run.wallet_id)
    note = f"stopped by {person}" + (f": {reason}" if reason else "")
    decide("stop", person, run_id=run_id, note=reason or None)
    begun = fetch(_HAS_OPERATIONS, (run_id, run.wallet_id))
    state = "stopping" if begun else "cancelled"
    execute("UPDATE payout_run SET state = %s, note = %s WHERE id = %s", (state, note, run_id))
    execute(_CANCEL_JOBS, (run.correlation,))
    if not begun:
        execute(
            "UPDATE payout_leg SET state = 'failed', reason = 'the run was cancelled'"
            " WHERE run_id = %s AND state IN ('planned', 'held')",
            (run_id,),
        )
    finish_stop(run_id)


def finish_stop(run_id: str) -> bool:
    """A stopping run whose operations are all final is stopped, in the open transaction."""
    return execute(_STOPPED, (run_id,)) > 0


def resume_run(run_id: str, by: str) -> str:
    """Let a stopped run go on; returns its state: paying at once, or waiting for its money.

    Raises:
        Rejected: the run is not stopped.
        InvalidInput: no name.
    """
    person = person_named(by)
    PayoutRun.load(run_id)
    with transaction():
        run = PayoutRun.lock(run_id)
        if run.state not in ("stopping", "stopped"):
            hint = ": trigger it again" if run.state in ("failed", "cancelled") else ""
            raise Rejected(f"run {run_id} is {run.state}, not stopped{hint}")
        decide("resume", person, run_id=run_id)
        if run.state == "stopping" and run.reserved_at is not None:
            state, note = "paying", None  # its money is still reserved; the sweep makes pages
        else:
            state, note = "waiting", "waits for its liquidity check"
            ask_for_money(run)
        execute(
            "UPDATE payout_run SET state = %s, note = %s, reserved_at ="
            " CASE WHEN %s = 'paying' THEN reserved_at END WHERE id = %s",
            (state, note, state, run_id),
        )
    return state
