"""Preview a maturity payout: the plan of a trigger, without any effect."""

from dataclasses import dataclass

from domain.payouts import Holdings
from models.database import fetch
from providers.ports import ports
from usecases.payouts.funds import FeeNeeds, available, fee_items, fee_needs, read_balances
from usecases.payouts.holders import NOT_WHITELISTED
from usecases.payouts.planning import Plan, plan_maturity


@dataclass(frozen=True)
class PreviewLeg:
    """One holder's payment; `held` says why it would be held now, None if it would be paid."""

    address: str
    name: str
    units: int
    holdings: Holdings
    held: str | None


@dataclass(frozen=True)
class Preview:
    """What a trigger would plan and meet now. `plan_hash` is the hash that the run will have."""

    bond_id: str
    plan_hash: str
    token: str
    token_decimals: int
    legs: list[PreviewLeg]
    total_units: int
    held_units: int
    available_units: int
    fees: FeeNeeds

    @property
    def is_funded(self) -> bool:
        """Whether the wallet could promise all of it now."""
        return self.available_units >= self.total_units and self.fees.are_covered


def preview_maturity(bond_id: str) -> Preview:
    """Who would be paid what, who would be held, and whether the wallet has the money.

    Raises:
        NotFound, InvalidInput: as the plan of a run.
        ChainUnavailable, RegistryUnavailable: ask again later.
    """
    chain, address = ports().chain, ports().signer.address
    chain_id = chain.chain_id()
    plan = plan_maturity(bond_id, chain_id, address)
    verified = ports().registry.verified([leg.address for leg in plan.legs])
    balances = read_balances(address, plan.bond.token, chain.head().final_height)
    wallet = fetch(
        "SELECT id FROM wallet WHERE chain_id = %s AND address = %s", (chain_id, address)
    )
    units, coin = balances.token_units, balances.coin_units
    if wallet:
        units, coin = available(wallet[0][0], plan.bond.token, balances)
    legs = _legs(plan, verified)
    return Preview(
        bond_id=bond_id,
        plan_hash=plan.hash,
        token=plan.bond.token,
        token_decimals=plan.bond.token_decimals,
        legs=legs,
        total_units=plan.total_units,
        held_units=sum(leg.units for leg in legs if leg.held),
        available_units=units,
        fees=FeeNeeds(fee_needs(sum(fee_items(leg.holdings) for leg in legs)), coin),
    )


def _legs(plan: Plan, verified: set[str]) -> list[PreviewLeg]:
    rows = fetch("SELECT address, name FROM bond_investor WHERE bond_id = %s", (plan.bond.id,))
    names = {str(row[0]): str(row[1]) for row in rows}
    return [
        PreviewLeg(
            leg.address,
            names.get(leg.address, ""),
            leg.units,
            leg.holdings,
            None if leg.address in verified else NOT_WHITELISTED,
        )
        for leg in plan.legs
    ]
