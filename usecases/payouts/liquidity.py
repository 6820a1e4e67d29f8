"""Reserve a run's money before anything is burned, so that every burn can be paid for.

    balances at the final block (outside) → wallet lock → enough? → reserved, pages, pipelines
                                                        → not enough: waits, in trigger order

available = balance at final block B - everything reserved that is not settled at a block <= B.
"""

from collections.abc import Sequence
from datetime import timedelta

from domain.errors import InvariantBroken, Postponed
from domain.payouts import PlanTerms, stored_holdings_text, stored_plan_hash
from jobs.claim import current_claim
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet
from usecases.payouts.funds import (
    Balances,
    FeeNeeds,
    Funds,
    fee_needs,
    promises,
    read_balances,
)
from usecases.payouts.pages import open_pages, open_planned
from usecases.payouts.verdict import set_checkpoint
from usecases.payouts.wallets import Sight, lock_and_judge, look_to_sign

#: Who was triggered first is served first.
_EARLIER = """
SELECT id FROM payout_run
WHERE wallet_id = %s AND state IN ('planning', 'waiting') AND sequence < %s
ORDER BY sequence LIMIT 1
"""

_LEGS = """
SELECT id::text FROM payout_leg
WHERE run_id = %(run)s AND state = %(state)s
  AND (page_id IS NULL OR page_id <> ALL(%(covered)s::uuid[]))
ORDER BY address COLLATE "C"
"""


def check_liquidity(run_id: str) -> None:
    """Reserve the run's money and start its pages, or note what is missing and come back.

    Raises:
        Postponed: not enough, an earlier run waits, or the wallet is halted.
    """
    claim = current_claim()
    run = PayoutRun.load(run_id)
    if run.state != "waiting":
        return
    wallet = Wallet.get_by_id(run.wallet_id)
    sight = look_to_sign(wallet)
    balances = read_balances(wallet.address, run.token, sight.head.final_height)
    with claim.transaction():
        if PayoutRun.lock(run_id).state != "waiting":
            return  # stopped meanwhile
        obstacle = _obstacle(run_id, sight, balances)
        execute(
            "UPDATE payout_run SET note = %s WHERE id = %s AND note IS DISTINCT FROM %s",
            (obstacle, run_id, obstacle),
        )
    if obstacle is not None:
        raise Postponed(obstacle, _delay(run_id))
    with claim.completion():
        if PayoutRun.lock(run_id).state != "waiting":
            return
        obstacle = _obstacle(run_id, sight, balances)
        if obstacle is not None:  # another run reserved between the two transactions
            raise Postponed(obstacle, _delay(run_id))
        set_checkpoint(run.wallet_id, sight.head)  # a node that has not seen it is not believed
        _reserve(run_id)


def _obstacle(run_id: str, sight: Sight, balances: Balances) -> str | None:
    """Why the run cannot begin, for people; None when it can. Locks the run and the wallet."""
    run = PayoutRun.lock(run_id)
    wallet = lock_and_judge(run.wallet_id, sight)
    if wallet.halted_at is not None:
        return f"wallet {wallet.address} is halted: {wallet.halt_reason}"
    earlier = fetch(_EARLIER, (run.wallet_id, run.sequence))
    if earlier:
        return f"run {earlier[0][0]} was triggered earlier and waits for the same wallet"
    funds = _funds(run, balances)
    return None if funds.are_enough else str(funds)


def _funds(run: PayoutRun, balances: Balances) -> Funds:
    found = promises(run.wallet_id, run.token, balances, str(run.id))
    fees = FeeNeeds(fee_needs(found.needed_items), found.coin_units)
    return Funds(found.needed_units, found.units, fees, run.token_decimals, run.token)


def _reserve(run_id: str) -> None:
    """Promise the money and open the pages, in the open transaction.

    A run that was stopped or adopted has legs that are further on: debts come first.
    """
    run = PayoutRun.lock(run_id)
    _check_plan(run)
    execute(
        "UPDATE payout_run SET state = 'paying', reserved_at = overnight_now(), note = NULL"
        " WHERE id = %s",
        (run_id,),
    )
    open_pages(run, _legs(run_id, "burned"), "transfer")
    opened = open_planned(run)
    open_pages(run, _legs(run_id, "planned", opened), "burn")


def _legs(run_id: str, state: str, covered: Sequence[str] = ()) -> list[str]:
    """The ids of a run's legs in a state, as the plan has them; without those of some pages."""
    params = {"run": run_id, "state": state, "covered": list(covered)}
    return [str(leg_id) for (leg_id,) in fetch(_LEGS, params)]


def _check_plan(run: PayoutRun) -> None:
    """Raises InvariantBroken when the legs in the database are not the plan that was approved."""
    wallet = Wallet.get_by_id(run.wallet_id)
    rows = fetch(
        "SELECT address, units::text, holdings::text FROM payout_leg WHERE run_id = %s"
        ' ORDER BY address COLLATE "C"',
        (run.id,),
    )
    terms = PlanTerms(
        run.kind, run.subject, run.config_version, run.record_date, wallet.chain_id,
        wallet.address, run.token,
    )  # fmt: skip
    legs = ((address, int(units), stored_holdings_text(text)) for address, units, text in rows)
    if stored_plan_hash(terms, legs) != run.approved_hash:
        raise InvariantBroken(f"run {run.id}: its legs are not the plan that was approved")


def _delay(run_id: str) -> timedelta:
    """1 s at first, a quarter of the time it has waited, at most 15 s."""
    [(age_s,)] = fetch(
        "SELECT extract(epoch FROM overnight_now() - planned_at) FROM payout_run WHERE id = %s",
        (run_id,),
    )
    return timedelta(seconds=min(max(float(age_s) / 4, 1.0), 15.0))
