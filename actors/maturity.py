"""Bond maturity: burn each holder's tokens, then pay them.

    payment → liquidity_check → per page: token_burn → plt_transfer → record

Every step may be delivered twice and takes effect once. The steps after a chain phase are parked,
and released when the phase is final (usecases/payouts/sweep.py).
"""

from domain.job_types import JobType
from jobs.actor import actor
from jobs.claim import current_claim
from providers.chain import TxKind
from usecases.payouts.failure import burn_failed, planning_failed, transfer_failed
from usecases.payouts.liquidity import check_liquidity
from usecases.payouts.pages import work_page
from usecases.payouts.planning import freeze, plan_run
from usecases.payouts.reconcile import reconcile_open_runs
from usecases.payouts.record import record_page


@actor(JobType.MATURITY_PAYMENT, on_failed=planning_failed)
def maturity_payment(run_id: str) -> None:
    """Freeze who is paid what, and ask for the money."""
    plan = plan_run(run_id)
    with current_claim().completion():
        freeze(run_id, plan)


@actor(JobType.MATURITY_LIQUIDITY_CHECK, on_failed=planning_failed)
def maturity_liquidity_check(run_id: str) -> None:
    """Reserve the money and open the pages, or wait for a top-up."""
    check_liquidity(run_id)


@actor(JobType.MATURITY_TOKEN_BURN, on_failed=burn_failed)
def maturity_token_burn(page_id: str) -> None:
    """Burn the bond tokens of a page's whitelisted holders."""
    work_page(page_id, TxKind.BURN)


@actor(JobType.MATURITY_PLT_TRANSFER, on_failed=transfer_failed)
def maturity_plt_transfer(page_id: str) -> None:
    """Pay the holders of a page whose burn is final."""
    work_page(page_id, TxKind.TRANSFER)


@actor(JobType.MATURITY_RECORD)
def maturity_record(page_id: str) -> None:
    """Tell the holders who were paid."""
    record_page(page_id)


@actor(JobType.PAYOUT_RECONCILE)
def payout_reconcile(slot_id: str) -> None:
    """Compare plan, database and chain for every run that is under way or newly finished."""
    reconcile_open_runs()
