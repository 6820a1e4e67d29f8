"""Take up again what a run left behind: failed legs, and held ones that are verified now.

    registry and balances (outside) → legs back in line → still enough money? → the sweep's pages

A burned leg goes on to its payment, another begins at its burn. A run that was finished reserves
anew; without the money nothing changes.
"""

import structlog

from domain.errors import Rejected
from domain.payouts import amount_text
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.ports import ports
from usecases.payouts.liquidity import available, read_balances
from usecases.payouts.pages import NOT_WHITELISTED
from usecases.payouts.wallets import look_to_sign

log = structlog.get_logger()

_LEFT = """
SELECT id::text, address FROM payout_leg
WHERE run_id = %(run)s AND (state = 'held' OR (state = 'failed' AND NOT %(only_held)s))
  AND (reason = %(reason)s OR NOT %(only_held)s)
"""

_TAKE_UP = """
UPDATE payout_leg SET state = CASE WHEN burn_height IS NULL THEN 'planned' ELSE 'burned' END,
    reason = NULL
WHERE id = ANY(%s::uuid[]) AND state IN ('held', 'failed')
"""


def retry_run(run_id: str, *, only_held: bool = False) -> int:
    """Put a run's failed and held legs back in line, if their holders are verified now.

    With `only_held`, only those that were held for not being whitelisted. Returns how many.

    Raises:
        NotFound: no such run.
        Rejected: the run failed as a whole (trigger it again), or the wallet lacks the money.
    """
    run = PayoutRun.load(run_id)
    if run.state not in ("paying", "finished"):
        raise Rejected(f"run {run_id} is {run.state}: a run that never paid is triggered again")
    left = fetch(_LEFT, {"run": run_id, "only_held": only_held, "reason": NOT_WHITELISTED})
    verified = ports().registry.verified([address for _, address in left]) if left else set()
    ready = [leg_id for leg_id, address in left if address in verified]
    if not ready:
        return 0
    wallet = Wallet.get_by_id(run.wallet_id)
    sight = look_to_sign(wallet)
    balances = read_balances(wallet.address, run.token, sight.head.final_height)
    with transaction():
        run = PayoutRun.lock(run_id)
        Wallet.lock(run.wallet_id)
        taken = execute(_TAKE_UP, (ready,))
        execute(
            "UPDATE payout_run SET state = 'paying', finished_at = NULL WHERE id = %s", (run_id,)
        )
        units, coin = available(run.wallet_id, run.token, balances)
        if units < 0 or coin < 0:
            raise Rejected(
                f"run {run_id}: top up the wallet first; it lacks "
                f"{amount_text(max(0, -units), run.token_decimals)} {run.token} and "
                f"{max(0, -coin)} units of coin for fees"
            )
    return taken


def recheck_held() -> int:
    """Take up every leg that was held for its whitelist and is verified now; debts included.

    For a slow loop or a schedule. A run that lacks the money stays as it is, and is asked again.
    """
    runs = fetch(
        "SELECT DISTINCT r.id::text FROM payout_run r JOIN payout_leg l ON l.run_id = r.id"
        " WHERE r.state IN ('paying', 'finished') AND l.state = 'held' AND l.reason = %s",
        (NOT_WHITELISTED,),
    )
    taken = 0
    for (run_id,) in runs:
        try:
            taken += retry_run(run_id, only_held=True)
        except Rejected as rejected:
            log.warning("held legs stay held", run=run_id, reason=str(rejected))
    return taken
