"""Approval: a plan is paid only after it was approved by its hash, large ones by a second person.

planned → small: the trigger approves | large: state `approval` → approve(hash, another person)
        → waiting, with its liquidity check
"""

from domain.errors import Rejected
from domain.job_types import JobType
from domain.payouts import amount_text
from jobs.enqueue import enqueue
from models.database import execute, transaction
from models.payouts import PayoutRun
from providers.ports import policy
from usecases.payouts.decisions import decide, is_same_person, person_named

_APPROVE = """
UPDATE payout_run
SET state = 'waiting', note = 'waits for its liquidity check', approved_by = %(by)s,
    approved_hash = plan_hash, approved_at = overnight_now()
WHERE id = %(run)s
"""


def needs_second_person(total_units: int, decimals: int) -> bool:
    """Whether policy asks for four eyes: the run is larger than FOUR_EYES_ABOVE tokens."""
    limit = policy().four_eyes_above
    return limit is not None and total_units > limit * 10**decimals


def settle_approval(run_id: str) -> None:
    """Approve a freshly planned run by its trigger, or say that it waits, in the transaction."""
    run = PayoutRun.lock(run_id)
    assert run.total_units is not None
    if not needs_second_person(int(run.total_units), run.token_decimals):
        _approve(run, run.triggered_by)
        return
    total = amount_text(int(run.total_units), run.token_decimals)
    execute(
        "UPDATE payout_run SET note = %s WHERE id = %s",
        (
            f"{total} {run.token} need a second person: overnight payouts approve {run.id}"
            f" --hash {run.plan_hash}",
            run_id,
        ),
    )


def approve_run(run_id: str, plan_hash: str, by: str) -> bool:
    """Approve a run that waits for it; False when this very plan was approved before.

    Raises:
        Rejected: another hash than the plan's, the person who triggered it, or nothing to approve.
        InvalidInput: no name.
    """
    person, given = person_named(by), plan_hash.strip().lower()
    PayoutRun.load(run_id)
    with transaction():
        run = PayoutRun.lock(run_id)
        if run.plan_hash is None:
            raise Rejected(f"run {run_id} is {run.state}: it has no plan to approve")
        if given != run.plan_hash:
            raise Rejected(
                f"run {run_id}: its plan is {run.plan_hash}, not {given}: look at the plan again"
            )
        if run.approved_hash is not None:
            return False
        if run.state != "approval":
            raise Rejected(f"run {run_id} is {run.state}: nothing to approve")
        if is_same_person(person, run.triggered_by):
            raise Rejected(f"{person} triggered run {run_id}: a second person must approve it")
        decide("approve", person, run_id=run_id, note=given)
        _approve(run, person)
    return True


def ask_for_money(run: PayoutRun) -> None:
    """Enqueue the liquidity check of a run that waits, in the open transaction."""
    enqueue(
        JobType.MATURITY_LIQUIDITY_CHECK.message(str(run.id)),
        singleton_key=f"{run.id}:liquidity",
        correlation=run.correlation,
    )


def _approve(run: PayoutRun, by: str) -> None:
    execute(_APPROVE, {"run": str(run.id), "by": by})
    ask_for_money(run)
