"""Take up again what a run left behind: failed legs, and held ones that are verified now.

    registry and balances (outside) → legs back in line → still enough money? → the sweep's pages

A burned leg goes on to its payment, another begins at its burn. A run that was finished reserves
anew; without the money only its debts are taken up: theirs is still reserved.
"""

import structlog

from domain.errors import Postponed, Rejected
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.ports import ports
from usecases.payouts.decisions import decide
from usecases.payouts.funds import Balances, lacking, read_balances
from usecases.payouts.holders import NOT_WHITELISTED
from usecases.payouts.wallets import look_to_sign

log = structlog.get_logger()

_LEFT = """
SELECT id::text, address, burn_height IS NOT NULL FROM payout_leg
WHERE run_id = %(run)s AND (state = 'held' OR (state = 'failed' AND NOT %(only_held)s))
  AND (reason = %(reason)s OR NOT %(only_held)s)
"""

_TAKE_UP = """
UPDATE payout_leg SET state = CASE WHEN burn_height IS NULL THEN 'planned' ELSE 'burned' END,
    reason = NULL
WHERE id = ANY(%s::uuid[]) AND state IN ('held', 'failed')
"""


def retry_run(run_id: str, *, only_held: bool = False, by: str | None = None) -> int:
    """Put a run's failed and held legs back in line, if their holders are verified now.

    With `only_held`, only those that were held for not being whitelisted. `by` is the person who
    decides, None for the loop. Returns how many.

    Raises:
        NotFound: no such run.
        Rejected: the run failed as a whole (trigger it again), or the wallet lacks the money; the
            debts among the legs are taken up all the same.
        Postponed: this process has another key or chain, or its node is behind.
    """
    run = PayoutRun.load(run_id)
    _check_state(run)
    left = fetch(_LEFT, {"run": run_id, "only_held": only_held, "reason": NOT_WHITELISTED})
    verified = ports().registry.verified([address for _, address, _ in left]) if left else set()
    ready = [(leg_id, is_debt) for leg_id, address, is_debt in left if address in verified]
    if not ready:
        return 0
    wallet = Wallet.get_by_id(run.wallet_id)
    sight = look_to_sign(wallet)
    balances = read_balances(wallet.address, run.token, sight.head.final_height)
    # Debts first: their money never stopped being reserved, so nobody's shortage holds them up.
    taken = _take_up(run_id, [leg_id for leg_id, is_debt in ready if is_debt], None, by)
    others = [leg_id for leg_id, is_debt in ready if not is_debt]
    return taken + _take_up(run_id, others, balances, by)


def _take_up(run_id: str, leg_ids: list[str], balances: Balances | None, by: str | None) -> int:
    """Put legs back in line; with `balances`, only if the wallet can promise them, too."""
    if not leg_ids:
        return 0
    with transaction():
        run = PayoutRun.lock(run_id)
        _check_state(run)
        Wallet.lock(run.wallet_id)
        taken = execute(_TAKE_UP, (leg_ids,))
        if not taken:
            return 0  # somebody else took them up: what became of the run is theirs
        if by is not None:
            decide("retry", by, run_id=run_id, note=f"{taken} legs")
        execute(
            "UPDATE payout_run SET state = 'paying', finished_at = NULL WHERE id = %s", (run_id,)
        )
        if balances is not None:
            lack = lacking(run.wallet_id, run.token, run.token_decimals, balances)
            if lack is not None:
                raise Rejected(f"run {run_id}: {lack}")
    return taken


def _check_state(run: PayoutRun) -> None:
    if run.state in ("paying", "finished"):
        return
    hint = {
        "stopping": f"`overnight payouts resume {run.id}` first",
        "stopped": f"`overnight payouts resume {run.id}` first",
        "failed": "a run that never paid is triggered again",
        "cancelled": "a run that never paid is triggered again",
    }.get(run.state, "nothing was left behind yet")
    raise Rejected(f"run {run.id} is {run.state}: {hint}")


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
        except (Rejected, Postponed) as answer:
            log.warning("held legs stay held", run=run_id, reason=str(answer))
    return taken
