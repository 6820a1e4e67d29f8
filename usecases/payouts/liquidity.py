"""Reserve a run's money before anything is burned, so that every burn can be paid for.

    balances at the final block (outside) → wallet lock → enough? → reserved, pages, pipelines
                                                        → not enough: waits, in trigger order

available = balance at final block B - everything reserved that is not settled at a block <= B.
"""

from dataclasses import dataclass
from datetime import timedelta

from domain.errors import InvariantBroken, Postponed
from domain.payouts import PlannedLeg, PlanTerms, amount_text, holdings_from_json, plan_hash
from jobs.claim import current_claim
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet
from providers.ports import policy, ports
from usecases.payouts.pages import open_pages
from usecases.payouts.wallets import Sight, lock_and_judge, look_to_sign

#: A burn and a transfer.
FEES_PER_LEG = 2

#: Legs of reserved runs whose money may still leave the wallet after block %(height)s.
_RESERVED = """
SELECT coalesce(sum(l.units) FILTER (WHERE r.token = %(token)s), 0), count(*)
FROM payout_run r JOIN payout_leg l ON l.run_id = r.id
WHERE r.wallet_id = %(wallet)s AND r.reserved_at IS NOT NULL AND CASE l.state
    WHEN 'paid' THEN l.paid_height > %(height)s
    WHEN 'failed' THEN false
    WHEN 'held' THEN r.state <> 'finished' OR l.burn_height IS NOT NULL
    ELSE true END
"""

#: Who was triggered first is served first.
_EARLIER = """
SELECT id FROM payout_run
WHERE wallet_id = %s AND state = 'waiting' AND sequence < %s ORDER BY sequence LIMIT 1
"""


@dataclass(frozen=True)
class Balances:
    """What the wallet held at one final block."""

    height: int
    token_units: int
    coin_units: int


@dataclass(frozen=True)
class FeeNeeds:
    """Fees in units of the chain's own coin, at their cap."""

    required_units: int
    available_units: int

    @property
    def are_covered(self) -> bool:
        """Whether the wallet can promise them."""
        return self.available_units >= self.required_units


@dataclass(frozen=True)
class Funds:
    """What a run needs, and what its wallet can promise."""

    required_units: int
    available_units: int
    fees: FeeNeeds
    decimals: int
    token: str

    @property
    def are_enough(self) -> bool:
        """Both the payments and their fees at their cap are covered."""
        return self.available_units >= self.required_units and self.fees.are_covered

    def __str__(self) -> str:
        text = (
            f"Required: {amount_text(self.required_units, self.decimals)} {self.token}, "
            f"Available: {amount_text(self.available_units, self.decimals)} {self.token}"
        )
        if not self.fees.are_covered:
            text += (
                f"; fees Required: {self.fees.required_units} units of coin, "
                f"Available: {self.fees.available_units}"
            )
        return text


def read_balances(wallet_address: str, token: str, height: int) -> Balances:
    """The wallet at a final block. Must be called outside of a transaction."""
    chain = ports().chain
    return Balances(
        height,
        chain.token_balance(token, wallet_address, height),
        chain.coin_balance(wallet_address, height),
    )


def available(wallet_id: int, token: str, balances: Balances) -> tuple[int, int]:
    """Token and coin units that are promised to nobody. Exact under the wallet's lock."""
    [(units, legs)] = fetch(
        _RESERVED, {"wallet": wallet_id, "token": token, "height": balances.height}
    )
    return balances.token_units - int(units), balances.coin_units - fee_needs(int(legs))


def fee_needs(legs: int) -> int:
    """What a burn and a transfer of so many legs may cost."""
    return FEES_PER_LEG * policy().fee_cap_units * legs


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
        obstacle = _obstacle(run_id, sight, balances)
        execute(
            "UPDATE payout_run SET note = %s WHERE id = %s AND note IS DISTINCT FROM %s",
            (obstacle, run_id, obstacle),
        )
    if obstacle is not None:
        raise Postponed(obstacle, _delay(run_id))
    with claim.completion():
        obstacle = _obstacle(run_id, sight, balances)
        if obstacle is not None:  # another run reserved between the two transactions
            raise Postponed(obstacle, _delay(run_id))
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
    units, coin = available(run.wallet_id, run.token, balances)
    assert run.total_units is not None
    assert run.leg_count is not None
    fees = FeeNeeds(fee_needs(run.leg_count), coin)
    return Funds(int(run.total_units), units, fees, run.token_decimals, run.token)


def _reserve(run_id: str) -> None:
    """Promise the money and give every leg a page, in the open transaction."""
    run = PayoutRun.lock(run_id)
    legs = _frozen_plan(run)
    execute(
        "UPDATE payout_run SET state = 'paying', reserved_at = overnight_now(), note = NULL"
        " WHERE id = %s",
        (run_id,),
    )
    open_pages(run, legs, "burn")


def _frozen_plan(run: PayoutRun) -> list[str]:
    """The legs' ids by address, after checking that they are still what was approved.

    Raises:
        InvariantBroken: the legs in the database are not the plan that was approved.
    """
    wallet = Wallet.get_by_id(run.wallet_id)
    rows = fetch(
        "SELECT id::text, address, units, holdings FROM payout_leg WHERE run_id = %s", (run.id,)
    )
    rows.sort(key=lambda row: row[1])
    terms = PlanTerms(
        run.kind, run.subject, run.config_version, run.record_date, wallet.chain_id,
        wallet.address, run.token,
    )  # fmt: skip
    legs = [PlannedLeg(row[1], int(row[2]), holdings_from_json(row[3])) for row in rows]
    if plan_hash(terms, legs) != run.approved_hash:
        raise InvariantBroken(f"run {run.id}: its legs are not the plan that was approved")
    return [row[0] for row in rows]


def _delay(run_id: str) -> timedelta:
    """1 s at first, a quarter of the time it has waited, at most 15 s."""
    [(age_s,)] = fetch(
        "SELECT extract(epoch FROM overnight_now() - planned_at) FROM payout_run WHERE id = %s",
        (run_id,),
    )
    return timedelta(seconds=min(max(float(age_s) / 4, 1.0), 15.0))
