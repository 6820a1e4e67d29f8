"""Funds: what a wallet holds, what of it is promised, and what a run still needs.

balance at a final block B - everything reserved that is not settled at a block <= B = available
"""

from collections.abc import Sized
from dataclasses import dataclass

from domain.payouts import amount_text
from models.database import fetch
from providers.ports import policy, ports

#: Legs whose money may still leave the wallet after block %(height)s: those of reserved runs, and
#: whatever was burned. Legs of %(asking)s are what that run needs, the others what is promised.
#: Each item of a transaction has its fee: one per token id in a burn that is not final, and the
#: transfer's.
_PROMISED_OF = """
SELECT coalesce(sum(l.units) FILTER (WHERE r.token = %(token)s AND NOT own), 0),
       coalesce(sum(i.items) FILTER (WHERE NOT own), 0),
       coalesce(sum(l.units) FILTER (WHERE own), 0), coalesce(sum(i.items) FILTER (WHERE own), 0)
FROM {runs} r JOIN payout_leg l ON l.run_id = r.id
CROSS JOIN LATERAL (SELECT r.id IS NOT DISTINCT FROM %(asking)s::uuid AS own) o
CROSS JOIN LATERAL (SELECT 1 + CASE WHEN l.burn_height <= %(height)s THEN 0
                                    ELSE jsonb_array_length(l.holdings) END AS items) i
WHERE r.wallet_id = %(wallet)s AND CASE l.state
    WHEN 'paid' THEN l.paid_height > %(height)s AND (own OR r.reserved_at IS NOT NULL)
    WHEN 'failed' THEN false
    WHEN 'held' THEN l.burn_height IS NOT NULL
        OR (r.state NOT IN ('finished', 'stopped', 'cancelled', 'failed')
            AND (own OR r.reserved_at IS NOT NULL))
    WHEN 'planned' THEN own
        OR (r.reserved_at IS NOT NULL AND r.state NOT IN ('stopped', 'cancelled', 'failed'))
    ELSE true END
"""
_PROMISED = _PROMISED_OF.format(runs="payout_run")

#: No less than what is promised, without a look at the legs of runs that are under way: as if
#: nothing of them were paid yet. The fees are NULL if a run does not know how many it may cost.
_AT_MOST = """
SELECT ended.units + going.units, ended.items + going.items
FROM ({ended}) ended (units, items, own_units, own_items)
CROSS JOIN (
    SELECT coalesce(sum(total_units) FILTER (WHERE token = %(token)s), 0) AS units,
           CASE WHEN count(fee_items) = count(*) THEN coalesce(sum(fee_items), 0) END AS items
    FROM payout_run
    WHERE wallet_id = %(wallet)s AND plan_hash IS NOT NULL AND state <> ALL(%(ended)s)) going
""".format(  # noqa: S608 - our own statements
    ended=_PROMISED_OF.format(runs="(SELECT * FROM payout_run WHERE state = ANY(%(ended)s))")
)

_ENDED = ["finished", "stopped", "cancelled", "failed"]


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


@dataclass(frozen=True)
class Promises:
    """What a wallet can promise, and what the run that asks still needs of it."""

    units: int
    coin_units: int
    needed_units: int
    needed_items: int


def promises(wallet_id: int, token: str, balances: Balances, asking: str | None = None) -> Promises:
    """Units that are promised to nobody else. Exact under the wallet's lock."""
    [(units, items, needed_units, needed_items)] = fetch(
        _PROMISED,
        {"wallet": wallet_id, "token": token, "height": balances.height, "asking": asking},
    )
    return Promises(
        balances.token_units - int(units),
        balances.coin_units - fee_needs(int(items)),
        int(needed_units),
        int(needed_items),
    )


def available(wallet_id: int, token: str, balances: Balances) -> tuple[int, int]:
    """Token and coin units that are promised to nobody. Exact under the wallet's lock."""
    found = promises(wallet_id, token, balances)
    return found.units, found.coin_units


def at_most(wallet_id: int, token: str, height: int) -> tuple[int, int | None]:
    """No less than the token units and the fees' items that are promised; None: not known.

    It costs no look at the legs of runs that are under way.
    """
    params = {"wallet": wallet_id, "token": token, "height": height, "asking": None}
    [(units, items)] = fetch(_AT_MOST, {**params, "ended": _ENDED})
    return int(units), None if items is None else int(items)


def lacking(wallet_id: int, token: str, decimals: int, balances: Balances) -> str | None:
    """What the wallet lacks for what it has promised at a final block; None if nothing.

    Needs no lock: whoever promises more meanwhile is checked under the wallet's lock himself.
    Every page of a burn asks, so the legs are added up only when the wallet holds less than all of
    its runs could ever cost.
    """
    most, items = at_most(wallet_id, token, balances.height)
    tokens_suffice = most <= balances.token_units
    if tokens_suffice and items is not None and fee_needs(items) <= balances.coin_units:
        return None
    units, coin = available(wallet_id, token, balances)
    if units >= 0 and coin >= 0:
        return None
    return (
        f"top up the wallet first; it lacks {amount_text(max(0, -units), decimals)} {token} and "
        f"{max(0, -coin)} units of coin for fees"
    )


def fee_needs(items: int) -> int:
    """What so many items of transactions may cost, replacements included."""
    return policy().fee_reserve_units * items


def fee_items(holdings: Sized) -> int:
    """How many items a leg has on chain: one per token id in its burn, and its transfer."""
    return len(holdings) + 1
